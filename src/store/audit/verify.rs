//! Whether a chain is whole: the one in the database, or one that was exported. Both are walked from their first
//! record to their last, in memory that does not grow with them.

use std::fmt;
use std::io::{BufRead, Read};

use serde::Deserialize;

use super::chain::{self, LONGEST_BODY, Row};
use super::{Head, export};
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::sql::{Cells, Sql};

/// How long a line of an export can be: a body and its hash.
const LONGEST_LINE: usize = LONGEST_BODY + 128;

/// What a chain turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every record is there as it was written.
    Sound {
        /// How many were looked at.
        records: u64,
        /// Where the chain ends; `None` where it has no record.
        head: Option<Head>,
    },
    /// It is not what was written.
    Broken {
        /// The first place that is not as it should be.
        at: u64,
        /// What is wrong there.
        what: Fault,
    },
}

/// What is wrong at a place of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What the record says is not what its hash is over.
    Edited,
    /// There is none, and there are later ones.
    Missing,
    /// It comes after one that it should come before.
    OutOfOrder,
    /// It was written after another record than the one that stands before it.
    Unlinked,
    /// There is none, and there were later ones: the chain was longer, by as many as its head tells of.
    Cut(Head),
    /// It stands beyond the end of the chain, and was not added by the store.
    Beyond(Head),
    /// The head of the chain speaks of another record of this number.
    HeadDiffers(Head),
    /// The head of the chain is gone, or cannot be read.
    HeadGone,
    /// The record is not the one that was published.
    NotAsPublished(Head),
    /// It cannot be read as a record.
    Unreadable(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edited => write!(to, "the record was edited"),
            Self::Missing => write!(to, "the record is missing"),
            Self::OutOfOrder => write!(to, "the record is not in its place"),
            Self::Unlinked => write!(to, "the record does not follow the one before it"),
            Self::Cut(head) => write!(to, "the record and what followed is missing, up to {}", head.seq),
            Self::Beyond(head) => write!(to, "the record is beyond the chain's end, which is {}", head.seq),
            Self::HeadDiffers(_) => write!(to, "the chain's head was written for another record"),
            Self::HeadGone => write!(to, "the chain's head is gone"),
            Self::NotAsPublished(_) => write!(to, "the record is not the one whose hash was published"),
            Self::Unreadable(why) => write!(to, "the record cannot be read: {why}"),
        }
    }
}

impl Store {
    /// Walks the whole chain. `expected` is a head that was published: without one, a chain that was cut or made anew
    /// together with its head looks whole.
    ///
    /// # Errors
    /// When the chain cannot be read as far as to tell.
    pub async fn verify(&self, expected: Option<Head>) -> Result<Verdict, StoreError> {
        let mut walk = Walk::new(Head::genesis(), expected)?;
        let mut after = i64::MIN;
        loop {
            for cells in export::batch(&self.readers, after).await? {
                let row = match Row::of(cells) {
                    Ok(row) => row,
                    Err(error) => return Ok(walk.unreadable(&error.to_string())),
                };
                let hash = chain::hash(row.body().as_bytes());
                if let Err(broken) = walk.step(row.head(), &row.record.previous, &hash) {
                    return Ok(broken);
                }
                after = super::place(row.record.seq);
            }
            // In one statement, which sees one state: records that were added meanwhile are walked next.
            let ends = "SELECT seq, hash, (SELECT max(seq) FROM audit_record) FROM audit_head WHERE id = 1";
            let mut rows = self.readers.rows(Sql::new(ends)).await?;
            let Ok((head, last)) = head_and_last(rows.first_mut()) else {
                return Ok(walk.broken(Fault::HeadGone));
            };
            if last > super::place(walk.last.seq) {
                continue;
            }
            return Ok(match walk.compare(&head) {
                Err(broken) => broken,
                Ok(()) => walk.finish(),
            });
        }
    }
}

/// The head of the chain, and the number of its last record.
fn head_and_last(mut cells: Option<&mut Cells>) -> Result<(Head, i64), StoreError> {
    let head = chain::head_of(cells.as_deref_mut())?;
    Ok((head, cells.map_or(Ok(None), Cells::maybe_int)?.unwrap_or_default()))
}

/// Walks the lines of an export, which begins after `from`: after [`Head::genesis`] for a whole one. `expected` is a
/// head that was published, or that the export said it ended at: without one, lines that are missing at the end
/// are not missed.
///
/// # Errors
/// When the lines cannot be read, and when `expected` lies before them.
pub fn verify_lines(mut lines: impl BufRead, from: Head, expected: Option<Head>) -> Result<Verdict, StoreError> {
    let mut walk = Walk::new(from, expected)?;
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = u64::try_from(LONGEST_LINE).unwrap_or(u64::MAX);
        let read = lines.by_ref().take(limit).read_until(b'\n', &mut line);
        match read {
            Err(error) => return Err(StoreError::Unavailable(format!("the lines cannot be read: {error}"))),
            Ok(0) => return Ok(walk.finish()),
            Ok(_) => {}
        }
        let link = match Link::of(line.strip_suffix(b"\n").unwrap_or(&line)) {
            Ok(link) => link,
            Err(why) => return Ok(walk.unreadable(&why)),
        };
        if let Err(broken) = walk.step(link.head, &link.previous, &link.computed) {
            return Ok(broken);
        }
    }
}

/// What of a line holds it to the lines around it.
struct Link {
    head: Head,
    previous: String,
    computed: String,
}

impl Link {
    /// What a line says. Its hash is over the bytes that stand there, and not over what they mean.
    fn of(line: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Body {
            seq: u64,
            previous: String,
        }
        let parts = line.strip_prefix(b"{\"hash\":\"").and_then(|rest| rest.split_at_checked(64));
        let (hash, rest) = parts.ok_or("it does not begin with its hash")?;
        let rest = rest.strip_prefix(b"\",").ok_or("it does not begin with its hash")?;
        let body = [b"{", rest].concat();
        let Body { seq, previous } = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        let hash = String::from_utf8_lossy(hash).into_owned();
        Ok(Self { head: Head { seq, hash }, previous, computed: chain::hash(&body) })
    }
}

/// A walk along a chain: where it is, and what it has to come by.
struct Walk {
    last: Head,
    records: u64,
    expected: Option<Head>,
}

impl Walk {
    fn new(from: Head, expected: Option<Head>) -> Result<Self, StoreError> {
        if let Some(expected) = &expected
            && expected.seq < from.seq
        {
            let words = format!("what is expected at {} lies before the first record", expected.seq);
            return Err(StoreError::Invalid(words));
        }
        Ok(Self { last: from, records: 0, expected })
    }

    /// Takes the next record, of which `computed` is the hash of what it says.
    fn step(&mut self, record: Head, previous: &str, computed: &str) -> Result<(), Verdict> {
        let wanted = self.last.seq.saturating_add(1);
        if record.seq > wanted {
            return Err(self.broken(Fault::Missing));
        }
        let broken = |what| Err(Verdict::Broken { at: record.seq, what });
        if record.seq < wanted {
            return broken(Fault::OutOfOrder);
        }
        if record.hash != computed {
            return broken(Fault::Edited);
        }
        if previous != self.last.hash {
            return broken(Fault::Unlinked);
        }
        self.last = record;
        self.records += 1;
        self.as_published()
    }

    /// Compares where it is with what was published, where that is of the same place.
    fn as_published(&self) -> Result<(), Verdict> {
        match &self.expected {
            Some(expected) if expected.seq == self.last.seq && expected.hash != self.last.hash => {
                Err(Verdict::Broken { at: self.last.seq, what: Fault::NotAsPublished(expected.clone()) })
            }
            _ => Ok(()),
        }
    }

    /// Compares where it ended with the head that the database holds.
    fn compare(&self, head: &Head) -> Result<(), Verdict> {
        if head.seq > self.last.seq {
            return Err(self.broken(Fault::Cut(head.clone())));
        }
        if head.seq < self.last.seq {
            return Err(Verdict::Broken { at: head.seq.saturating_add(1), what: Fault::Beyond(head.clone()) });
        }
        if head.hash != self.last.hash {
            return Err(Verdict::Broken { at: head.seq, what: Fault::HeadDiffers(head.clone()) });
        }
        Ok(())
    }

    /// What it comes to where no record follows.
    fn finish(&self) -> Verdict {
        match &self.expected {
            Some(expected) if expected.seq > self.last.seq => self.broken(Fault::Cut(expected.clone())),
            _ => match self.as_published() {
                Err(broken) => broken,
                Ok(()) => {
                    Verdict::Sound { records: self.records, head: Some(self.last.clone()).filter(|head| head.seq > 0) }
                }
            },
        }
    }

    fn unreadable(&self, why: &str) -> Verdict {
        self.broken(Fault::Unreadable(why.to_owned()))
    }

    /// Something wrong at the place after the last that was right.
    fn broken(&self, what: Fault) -> Verdict {
        Verdict::Broken { at: self.last.seq.saturating_add(1), what }
    }
}
