//! What is printed: tables, JSON, YAML and names on standard output, notes on standard error, and colours where a
//! person looks. Owns the form; not what is told.

use std::io::{IsTerminal, Write};

use serde_json::{Value, json};

use super::exit::{Exit, Failure};

/// The form of what is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// The whole objects.
    Json,
    /// The whole objects.
    Yaml,
    /// Names alone, as kubectl takes them.
    Name,
}

/// The flags of commands that print objects.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct FormatFlags {
    /// How to print.
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "table")]
    pub format: Format,
    /// Tables without their first line.
    #[arg(long)]
    pub no_headers: bool,
}

/// Prints `text` on standard output, as it is and with a line's end.
///
/// # Errors
/// When it cannot be written; [`Failure::reader_gone`] where nobody reads any more.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::reader_gone()),
        written => Ok(written?),
    }
}

/// A note for the person at the terminal, on standard error.
pub fn note(text: &str) {
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{}", clean_lines(text));
}

/// `value` as JSON or YAML; nothing for the other forms.
///
/// # Errors
/// When the value has no such form.
pub fn document(value: &Value, format: Format) -> Result<Option<String>, Failure> {
    let unwritable = |error: String| Failure::new(Exit::Failed, format!("cannot print this: {error}"));
    match format {
        Format::Json => serde_json::to_string_pretty(value).map(Some).map_err(|error| unwritable(error.to_string())),
        Format::Yaml => serde_saphyr::to_string(value).map(Some).map_err(|error| unwritable(error.to_string())),
        Format::Table | Format::Wide | Format::Name => Ok(None),
    }
}

/// Objects as one, as kubectl prints several.
pub fn list_of(items: Vec<Value>) -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "" }, "items": items })
}

/// Columns that keep their width over what is printed later.
#[derive(Debug)]
pub struct Columns {
    headers: Vec<&'static str>,
    widths: Vec<usize>,
}

impl Columns {
    /// Columns under these headers.
    pub fn new(headers: Vec<&'static str>) -> Self {
        let widths = headers.iter().map(|header| header.chars().count()).collect();
        Self { headers, widths }
    }

    /// The line of headers, or none, and one for each row. The columns grow to hold them, and stay so.
    pub fn lines(&mut self, rows: &[Vec<String>], with_headers: bool) -> Vec<String> {
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect()).collect();
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let headers = with_headers.then(|| self.headers.iter().map(|&header| header.to_owned()).collect());
        headers.iter().chain(&rows).map(|row: &Vec<String>| self.line(row)).collect()
    }

    fn line(&self, row: &[String]) -> String {
        let padded = row.iter().zip(&self.widths).map(|(cell, &width)| format!("{cell:<width$}"));
        padded.collect::<Vec<String>>().join("   ").trim_end().to_owned()
    }
}

/// `text` on one line, for a terminal: what could move its cursor or reverse its order is gone.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .filter(|c| !reverses(*c))
        .collect()
}

/// As [`clean`], with the line ends kept.
pub fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<String>>().join("\n")
}

fn reverses(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    is_on: bool,
}

impl Paint {
    /// `text` for what is well.
    pub fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    /// `text` for what deserves a look.
    pub fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    /// `text` for what is wrong.
    pub fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.is_on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The colours of standard output.
pub fn on_stdout() -> Paint {
    Paint { is_on: wanted(std::io::stdout().is_terminal(), |name| std::env::var(name).ok()) }
}

/// The colours of standard error.
pub fn on_stderr() -> Paint {
    Paint { is_on: wanted(std::io::stderr().is_terminal(), |name| std::env::var(name).ok()) }
}

/// Whether colours are wanted; no-color.org has the rule.
fn wanted(is_terminal: bool, variable: impl Fn(&str) -> Option<String>) -> bool {
    let declined = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    is_terminal && !declined && variable("TERM").as_deref() != Some("dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn columns_are_as_wide_as_what_they_hold_and_stay_so() {
        let mut columns = Columns::new(vec!["NAME", "PHASE"]);
        let first = columns.lines(&[row(&["a-long-name", "Active"])], true);
        assert_eq!(first, ["NAME          PHASE", "a-long-name   Active"]);
        assert_eq!(columns.lines(&[row(&["b", "Idle"])], false), ["b             Idle"]);
    }

    #[test]
    fn what_others_wrote_moves_no_cursor_and_makes_no_line() {
        assert_eq!(clean("a\x1b[2Jb\nc\u{202e}d"), "a [2Jb cd");
        assert_eq!(clean_lines("a\nb\tc"), "a\nb c");
    }

    #[test]
    fn colours_are_for_terminals_whose_owner_did_not_decline() {
        let none = |_: &str| None;
        assert!(wanted(true, none));
        assert!(!wanted(false, none));
        assert!(!wanted(true, |name| (name == "NO_COLOR").then(|| "1".to_owned())));
        assert!(wanted(true, |name| (name == "NO_COLOR").then(String::new)));
        assert!(!wanted(true, |name| (name == "TERM").then(|| "dumb".to_owned())));
        assert_eq!(Paint { is_on: false }.red("x"), "x");
    }

    #[test]
    fn objects_are_printed_whole() {
        let value = json!({ "a": [1] });
        assert_eq!(document(&value, Format::Json).unwrap().unwrap(), "{\n  \"a\": [\n    1\n  ]\n}");
        assert!(document(&value, Format::Yaml).unwrap().unwrap().starts_with("a:"));
        assert!(document(&value, Format::Name).unwrap().is_none());
    }
}
