//! How a command ends: its exit code, and for one that failed the words that say what to do next. Owns how an answer
//! of the API server becomes either; not when a command gives up.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use kube::core::Status;

use super::output;

/// How a command ended. Scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked.
    Done,
    /// It failed, for a reason without a number of its own.
    Failed,
    /// The command line is wrong.
    Usage,
    /// What was named is not there.
    NotFound,
    /// The API server refused it, as forbidden or invalid.
    Refused,
    /// What was waited for did not happen in time.
    TimedOut,
    /// The session ended instead of becoming usable.
    Ended,
    /// Ctrl-C.
    Interrupted,
}

/// What `--help` says of exit codes.
pub const EXIT_CODES: &str = "Exit codes:
  0    done
  1    failed
  2    wrong usage
  3    not found
  4    refused: forbidden or invalid
  5    timed out
  6    the session ended instead of becoming usable
  130  interrupted

Examples:
  kubectl berth list
  kubectl berth launch terminal
  kubectl berth doctor";

impl Exit {
    /// Every way to end.
    #[cfg(test)]
    pub const ALL: [Self; 8] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::NotFound,
        Self::Refused,
        Self::TimedOut,
        Self::Ended,
        Self::Interrupted,
    ];

    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Refused => 4,
            Self::TimedOut => 5,
            Self::Ended => 6,
            Self::Interrupted => 130,
        }
    }

    /// How a command on several objects ended: as all that did not succeed did, or as failed where they differ.
    /// An interruption is the person's own, and goes before all.
    pub fn of_several(exits: impl IntoIterator<Item = Self>) -> Self {
        exits.into_iter().fold(Self::Done, |all, one| match (all, one) {
            (all, Self::Done) => all,
            (Self::Done, one) => one,
            (Self::Interrupted, _) | (_, Self::Interrupted) => Self::Interrupted,
            (all, one) if all == one => all,
            _ => Self::Failed,
        })
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command did not do what was asked, and what to do next.
#[derive(Debug)]
pub struct Failure {
    /// The exit code that says it to scripts.
    pub exit: Exit,
    /// What went wrong. Nothing where there is nobody left to tell.
    message: String,
    /// What to do next.
    next: Option<String>,
}

impl Failure {
    /// A failure in these words.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), next: None }
    }

    /// With what to do next.
    pub fn next(self, next: impl Into<String>) -> Self {
        Self { next: Some(next.into()), ..self }
    }

    /// The reader of standard output has gone, such as `head`: the rest is of no use, and that is no error.
    pub fn reader_gone() -> Self {
        Self::new(Exit::Done, "")
    }

    /// Says it on standard error.
    pub fn tell(&self) {
        if !self.message.is_empty() {
            let label = output::on_stderr().red("error:");
            // Where standard error is closed there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{label} {self}");
        }
    }
}

impl Failure {
    /// What went wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do next.
    pub fn what_next(&self) -> Option<&str> {
        self.next.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&output::clean_lines(&self.message))?;
        self.next.as_ref().map_or(Ok(()), |next| write!(formatter, "\n  {}", output::clean_lines(next)))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Failed, error.to_string())
    }
}

/// A request in the words of RBAC: what a refusal names.
#[derive(Clone, Debug)]
pub struct Asked {
    verb: &'static str,
    resource: String,
    name: Option<String>,
    place: String,
}

impl Asked {
    /// `verb` on `resource` in `place`, such as "namespace demo".
    pub fn new(verb: &'static str, resource: impl Into<String>, place: impl Into<String>) -> Self {
        Self { verb, resource: resource.into(), name: None, place: place.into() }
    }

    /// Of one object.
    pub fn of(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    /// What it means that this request failed so.
    pub fn failed(&self, error: &kube::Error) -> Failure {
        match error {
            kube::Error::Api(status) => self.answered(status),
            kube::Error::Auth(error) => Failure::new(Exit::Refused, format!("no credentials for the cluster: {error}"))
                .next("log in again as this context of your kubeconfig wants it"),
            error => Failure::new(Exit::Failed, format!("cannot reach the API server: {}", chain(error)))
                .next("is this the right context? `kubectl config current-context` names it; --context takes another"),
        }
    }

    /// It took too long.
    pub fn unanswered(&self) -> Failure {
        Failure::new(Exit::Failed, format!("the API server did not answer in time: {self}"))
            .next("try again; `kubectl berth doctor` looks for the cause")
    }

    fn answered(&self, status: &Status) -> Failure {
        let words = status.message.as_str();
        let named = status.details.as_ref().is_some_and(|details| !details.name.is_empty());
        if status.code == 401 {
            Failure::new(Exit::Refused, "the API server does not know you: the credentials are missing or have expired")
                .next("log in again as this context of your kubeconfig wants it")
        } else if status.is_forbidden() && words.contains("cannot ") {
            Failure::new(Exit::Refused, format!("forbidden: you may not {self}"))
                .next(format!("ask an administrator for the verb {} on {}", self.verb, self.resource))
        } else if status.is_forbidden() {
            Failure::new(Exit::Refused, format!("forbidden: {words}"))
        } else if status.is_not_found() && !named {
            Failure::new(Exit::NotFound, format!("this cluster does not have {}", self.resource))
                .next("is Berth installed there? `kubectl berth doctor` says what is missing")
        } else if status.is_not_found() {
            Failure::new(Exit::NotFound, words)
        } else if status.is_invalid() || status.code == 400 || status.code == 409 {
            Failure::new(Exit::Refused, format!("refused: {words}"))
        } else {
            Failure::new(Exit::Failed, format!("the API server could not {self}: {words}"))
                .next("try again; `kubectl berth doctor` looks for the cause")
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        write!(formatter, "{} {}{name} in {}", self.verb, self.resource, self.place)
    }
}

/// An error and its causes, each once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::response::StatusDetails;

    fn refusal(code: u16, reason: &str, message: &str, name: &str) -> kube::Error {
        let details: StatusDetails = serde_json::from_value(serde_json::json!({ "name": name })).unwrap();
        kube::Error::Api(Status::failure(message, reason).with_code(code).with_details(details).boxed())
    }

    #[test]
    fn an_answer_of_the_api_server_has_its_exit_code_and_says_what_to_do() {
        let asked = Asked::new("create", "sessions.berth.dev", "namespace demo");
        let rbac = r#"sessions.berth.dev is forbidden: User "ana" cannot create resource "sessions""#;
        for (code, reason, message, name, exit, said) in [
            (403, "Forbidden", rbac, "", Exit::Refused, "you may not create sessions.berth.dev in namespace demo"),
            (403, "Forbidden", "policy x denied request: not yours", "x", Exit::Refused, "not yours"),
            (422, "Invalid", "spec.idle: too long", "x", Exit::Refused, "too long"),
            (404, "NotFound", r#"sessions.berth.dev "x" not found"#, "x", Exit::NotFound, "not found"),
            (
                404,
                "NotFound",
                "the server could not find the requested resource",
                "",
                Exit::NotFound,
                "Berth installed",
            ),
            (401, "Unauthorized", "Unauthorized", "", Exit::Refused, "log in"),
            (503, "ServiceUnavailable", "busy", "", Exit::Failed, "try again"),
        ] {
            let failure = asked.failed(&refusal(code, reason, message, name));
            assert_eq!(failure.exit, exit, "{message}");
            assert!(failure.to_string().contains(said), "{failure}");
        }
    }

    #[test]
    fn several_objects_end_as_those_that_failed_did() {
        use Exit::{Done, Failed, Interrupted, NotFound, Refused};
        assert_eq!(Exit::of_several([]), Done);
        assert_eq!(Exit::of_several([Done, NotFound, Done, NotFound]), NotFound);
        assert_eq!(Exit::of_several([NotFound, Refused]), Failed);
        assert_eq!(Exit::of_several([NotFound, Interrupted, Refused]), Interrupted);
    }
}
