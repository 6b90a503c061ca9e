//! `kubectl berth end-all`: many sessions at once, chosen by what they are. Owns the choice and the question before;
//! `end` does the ending.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use chrono::TimeDelta;
use kube::ResourceExt;

use super::end::{EndFlags, end};
use super::exit::{Exit, Failure};
use super::objects::{self, Found, LIVE, Wanted, full_name};
use super::output::{self, Columns, Format, note, print};
use super::target::{Scope, TargetFlags};
use super::view;
use super::wait::patience;
use crate::api::Session;
use crate::api::duration;
use crate::api::time::Instant;
use crate::clock::Clock;

/// End all live sessions, or those that are chosen
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  kubectl berth end-all --dry-run                      which would be ended in this namespace?
  kubectl berth end-all --older-than 12h --terminate
  kubectl berth end-all --workspace terminal --yes     for scripts: without a question
  kubectl berth end-all -A --user ana --yes

It says how many sessions it will end, and where, and asks. Without a terminal to ask on it refuses (exit code 2),
unless --yes answers. A session that cannot be ended does not stop the others.")]
pub struct EndAll {
    /// In all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    choice: Choice,
    /// Show which sessions would be ended, and end none.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    ending: EndFlags,
}

/// Which live sessions are meant: those that all of this is true of.
#[derive(clap::Args, Clone, Debug, Default)]
struct Choice {
    /// Those on this Workspace.
    #[arg(long, value_name = "WORKSPACE")]
    workspace: Option<String>,
    /// Those of this user.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Those that began longer ago than this, such as 2h.
    #[arg(long, value_name = "DURATION", value_parser = patience)]
    older_than: Option<Duration>,
    /// Those with these labels, such as team=blue.
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
}

impl Choice {
    /// Whether the session is meant. The API server has looked at the labels.
    fn takes(&self, session: &Session, now: Instant) -> bool {
        let same = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        let is_old = self.older_than.is_none_or(|least| {
            let least = TimeDelta::from_std(least).unwrap_or(TimeDelta::MAX);
            view::started(session).is_some_and(|began| now - began > least)
        });
        view::is_live(session)
            && same(&self.workspace, session.spec.workspace_ref.name.as_str())
            && same(&self.user, session.spec.user.id.as_str())
            && is_old
    }

    /// `count` sessions of this choice, in words that leave no doubt.
    fn words(&self, count: usize, scope: &Scope) -> String {
        let mut words = format!("{count} live session{} in {scope}", if count == 1 { "" } else { "s" });
        if let Some(workspace) = &self.workspace {
            words.push_str(&format!(" on workspace {workspace}"));
        }
        if let Some(user) = &self.user {
            words.push_str(&format!(" of user {user}"));
        }
        if let Some(least) = self.older_than {
            words.push_str(&format!(" older than {}", duration::write(TimeDelta::from_std(least).unwrap_or_default())));
        }
        if let Some(labels) = &self.selector {
            words.push_str(&format!(" with labels {labels}"));
        }
        words
    }
}

impl EndAll {
    /// Ends them.
    ///
    /// # Errors
    /// When there is nobody to ask, the answer is no, or the sessions cannot be listed.
    pub async fn run(self, flags: &TargetFlags) -> Result<Exit, Failure> {
        // Before any request: a script must not find out by chance.
        let can_ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        if !(self.dry_run || self.yes || can_ask) {
            return Err(Failure::new(Exit::Usage, "there is no terminal to ask on, and no session was ended")
                .next("--yes ends them without a question; --dry-run shows which they are"));
        }
        let target = flags.connect().await?;
        let scope = target.scope(self.all_namespaces);
        let wanted = Wanted { fields: Some(LIVE), labels: self.choice.selector.as_deref() };
        let mut chosen: Vec<Found<Session>> = objects::list(&target, &scope, &wanted).await?;
        let now = Clock::system().now();
        chosen.retain(|found| self.choice.takes(&found.object, now));
        chosen.sort_by_key(|found| (found.object.namespace(), view::started(&found.object)));
        let words = self.choice.words(chosen.len(), &scope);
        if self.dry_run {
            return self.show(&chosen, &words, now);
        }
        if chosen.is_empty() {
            note(&format!("{words}: nothing to end"));
            return Ok(Exit::Done);
        }
        if self.yes {
            note(&format!("ending {words}"));
        } else if !self.is_confirmed(&chosen, &words, now)? {
            return Err(Failure::new(Exit::Failed, "no session was ended"));
        }
        let place = |found: &Found<Session>| (found.object.namespace().unwrap_or_default(), found.object.name_any());
        end(&target, chosen.iter().map(place).collect(), &self.ending, self.all_namespaces).await
    }

    /// Says which would be ended.
    fn show(&self, chosen: &[Found<Session>], words: &str, now: Instant) -> Result<Exit, Failure> {
        let format = self.ending.format;
        note(&format!("would end {words}"));
        let whole = output::list_of(chosen.iter().map(|found| found.whole.clone()).collect());
        if let Some(document) = output::document(&whole, format)? {
            print(&document)?;
        } else if format == Format::Name {
            for found in chosen {
                print(&full_name::<Session>(&found.object.name_any()))?;
            }
        } else if !chosen.is_empty() {
            print(&self.table(chosen, now))?;
        }
        Ok(Exit::Done)
    }

    fn table(&self, chosen: &[Found<Session>], now: Instant) -> String {
        let is_wide = self.ending.format == Format::Wide;
        let row = |found: &Found<Session>| view::session_row(&found.object, self.all_namespaces, is_wide, now);
        let rows: Vec<Vec<String>> = chosen.iter().map(row).collect();
        Columns::new(view::session_headers(self.all_namespaces, is_wide)).lines(&rows, true).join("\n")
    }

    fn is_confirmed(&self, chosen: &[Found<Session>], words: &str, now: Instant) -> Result<bool, Failure> {
        note(&self.table(chosen, now));
        write!(std::io::stderr(), "End {}? It cannot be taken back. [y/N] ", output::clean(words))?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        Ok(is_yes(&answer))
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::tests::{second, session};
    use serde_json::json;

    #[test]
    fn a_session_is_chosen_when_all_that_was_asked_is_true_of_it() {
        let now = second(1000 + 7200);
        let live = session("a", json!({ "phase": "Active" }));
        let choice = |workspace: &str, user: &str, seconds: u64| Choice {
            workspace: Some(workspace.to_owned()),
            user: Some(user.to_owned()),
            older_than: Some(Duration::from_secs(seconds)),
            selector: None,
        };
        assert!(Choice::default().takes(&live, now));
        assert!(choice("box", "ana", 7199).takes(&live, now));
        assert!(!choice("box", "ana", 7200).takes(&live, now), "as old is not older");
        assert!(!choice("other", "ana", 1).takes(&live, now));
        assert!(!choice("box", "bob", 1).takes(&live, now));
        let ended = session("a", json!({ "phase": "Failed", "endedAt": second(2000).to_rfc3339() }));
        assert!(!Choice::default().takes(&ended, now));
    }

    #[test]
    fn the_question_says_how_many_and_which() {
        let choice = Choice {
            workspace: Some("box".to_owned()),
            older_than: Some(Duration::from_secs(7200)),
            ..Choice::default()
        };
        let words = choice.words(3, &Scope::Namespace("demo".to_owned()));
        assert_eq!(words, "3 live sessions in namespace demo on workspace box older than 2h");
        assert_eq!(Choice::default().words(1, &Scope::All), "1 live session in all namespaces");
    }

    #[test]
    fn only_a_yes_is_a_yes() {
        assert!(is_yes("y\n") && is_yes(" YES \n"));
        assert!(!is_yes("") && !is_yes("\n") && !is_yes("yep\n"));
    }
}
