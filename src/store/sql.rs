//! Statements and rows that are the same for both databases: text with numbered parameters, which both read as `$1`,
//! and two types, text and 64-bit integers. Not the connections that they go through: those are in `database`.

use std::borrow::Cow;
use std::fmt::Write;

use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ColumnIndex, Database, Decode, Encode, Row, Type, TypeInfo, ValueRef};

use super::error::StoreError;

/// A value that is bound to a statement.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Text.
    Text(Option<String>),
    /// An integer, which is also what times are.
    Int(Option<i64>),
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(Some(number))
    }
}

/// A statement with what is bound to it. Its text is made of this module's own words alone: what others wrote is bound.
#[derive(Clone, Debug)]
pub(super) struct Sql {
    text: Cow<'static, str>,
    values: Vec<Value>,
}

impl Sql {
    /// A statement that begins like this.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self { text: text.into(), values: Vec::new() }
    }

    /// With more text.
    pub fn push(&mut self, text: &str) -> &mut Self {
        self.text.to_mut().push_str(text);
        self
    }

    /// With the placeholder of a value.
    pub fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        // Writing to a String cannot fail.
        let _ = write!(self.text.to_mut(), "${}", self.values.len());
        self
    }

    /// With the placeholders of several values, separated by commas.
    pub fn bind_all(&mut self, values: impl IntoIterator<Item = Value>) -> &mut Self {
        for (index, value) in values.into_iter().enumerate() {
            self.push(if index == 0 { "" } else { ", " }).bind(value);
        }
        self
    }

    /// The statement for one of the databases.
    pub fn into_query<DB>(self) -> Query<'static, DB, DB::Arguments>
    where
        DB: Database,
        Option<String>: for<'t> Encode<'t, DB> + Type<DB>,
        Option<i64>: for<'t> Encode<'t, DB> + Type<DB>,
    {
        let query = sqlx::query(AssertSqlSafe(self.text));
        self.values.into_iter().fold(query, |query, value| match value {
            Value::Text(text) => query.bind(text),
            Value::Int(number) => query.bind(number),
        })
    }
}

/// One column of a row.
#[derive(Clone, Debug)]
enum Cell {
    Null,
    Text(String),
    Int(i64),
    /// Neither, or text that is not UTF-8: nothing that this module wrote.
    Unreadable(String),
}

/// The columns of a row, which are taken from left to right.
#[derive(Clone, Debug)]
pub(super) struct Cells(std::vec::IntoIter<Cell>);

impl Cells {
    /// What a row of one of the databases holds. One that cannot be read is a row nevertheless: whoever looks for
    /// damage must be able to say where it is.
    pub fn of<R>(row: &R) -> Self
    where
        R: Row,
        usize: ColumnIndex<R>,
        String: for<'r> Decode<'r, R::Database> + Type<R::Database>,
        i64: for<'r> Decode<'r, R::Database> + Type<R::Database>,
    {
        let cell = |column: usize| {
            let raw = row.try_get_raw(column)?;
            if raw.is_null() {
                return Ok(Cell::Null);
            }
            let is_number = matches!(raw.type_info().name(), "INTEGER" | "INT8");
            if is_number { row.try_get(column).map(Cell::Int) } else { row.try_get(column).map(Cell::Text) }
        };
        let read = |column| cell(column).unwrap_or_else(|error: sqlx::Error| Cell::Unreadable(error.to_string()));
        Self((0..row.len()).map(read).collect::<Vec<_>>().into_iter())
    }

    /// The next column, which is text or nothing.
    pub fn maybe_text(&mut self) -> Result<Option<String>, StoreError> {
        match self.0.next() {
            Some(Cell::Text(text)) => Ok(Some(text)),
            Some(Cell::Null) => Ok(None),
            other => Err(unexpected(other, "text")),
        }
    }

    /// The next column, which is text.
    pub fn text(&mut self) -> Result<String, StoreError> {
        self.maybe_text()?.ok_or_else(|| unexpected(Some(Cell::Null), "text"))
    }

    /// The next column, which is a number or nothing.
    pub fn maybe_int(&mut self) -> Result<Option<i64>, StoreError> {
        match self.0.next() {
            Some(Cell::Int(number)) => Ok(Some(number)),
            Some(Cell::Null) => Ok(None),
            other => Err(unexpected(other, "a number")),
        }
    }

    /// The next column, which is a number.
    pub fn int(&mut self) -> Result<i64, StoreError> {
        self.maybe_int()?.ok_or_else(|| unexpected(Some(Cell::Null), "a number"))
    }
}

/// What stands in a column is not what is written there.
fn unexpected(cell: Option<Cell>, wanted: &str) -> StoreError {
    let found = match cell {
        None => "no column".to_owned(),
        Some(Cell::Null) => "nothing".to_owned(),
        Some(Cell::Text(_)) => "text".to_owned(),
        Some(Cell::Int(_)) => "a number".to_owned(),
        Some(Cell::Unreadable(error)) => error,
    };
    StoreError::Corrupt(format!("{wanted} was expected in a column, and it holds {found}"))
}
