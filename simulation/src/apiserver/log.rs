//! What was asked and what became of it. Owns the record and its digest, by which two runs are compared.

use std::fmt;

use sha2::{Digest, Sha256};

use super::call::Call;
use super::fate::Outcome;

/// What was asked and answered, in its order.
#[derive(Clone, Debug, Default)]
pub struct Log(Vec<Entry>);

/// One request and what became of it at the store.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The request.
    pub call: Call,
    /// The HTTP status; 0 where a fate kept it from the store without one.
    pub code: u16,
    /// The reason of a refusal, or what befell it.
    pub reason: String,
    /// The revision of the store afterwards; 0 where it was not touched.
    pub revision: u64,
    /// Whether this request has changed the store.
    pub changed: bool,
}

impl FromIterator<Entry> for Log {
    fn from_iter<T: IntoIterator<Item = Entry>>(entries: T) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl Log {
    pub(super) fn answered(&mut self, call: &Call, outcome: &Outcome) {
        self.0.push(Entry {
            call: call.clone(),
            code: outcome.code,
            reason: outcome.reason.clone().unwrap_or_default(),
            revision: outcome.revision,
            changed: outcome.changed,
        });
    }

    pub(super) fn befell(&mut self, call: &Call, code: u16, what: &str) {
        let call = call.clone();
        self.0.push(Entry { call, code, reason: what.to_owned(), revision: 0, changed: false });
    }

    /// All entries.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// A digest of all entries, with what was sent: the same for two runs that asked and got the same at the same times.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for entry in &self.0 {
            hash.update(entry.to_string());
            hash.update(entry.call.body.to_string());
            hash.update("\n");
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Call { number, who, at, verb, kind, namespace, name, subresource, query, .. } = &self.call;
        let (at, verb) = (at.as_micros(), verb.as_str());
        write!(formatter, "{number:>5} {at:>12}us {who} {verb} {} {namespace}/{name}", kind.resource())?;
        if !subresource.is_empty() {
            write!(formatter, "/{subresource}")?;
        }
        for (key, value) in query {
            write!(formatter, " {key}={value}")?;
        }
        write!(formatter, " -> {} {} @{}", self.code, self.reason, self.revision)
    }
}

impl fmt::Display for Log {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|entry| writeln!(formatter, "{entry}"))
    }
}
