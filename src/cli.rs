//! `kubectl berth`, the plugin of kubectl: what a person or a script does with workspaces and sessions. It is a client
//! like kubectl, with the caller's own rights, and asks for Berth's resources; where a gateway is named, it asks that for what
//! resources do not tell: one's own sessions, the past, the audit. This file owns which
//! commands there are and how a command line reaches one; each command has a file of its own.
//!
//! What a script reads goes to standard output; all else, progress and questions too, to standard error.

mod audit;
mod complete;
mod completion;
mod doctor;
mod end;
mod end_all;
mod exit;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod gateway;
mod history;
mod keepalive;
mod launch;
mod list;
mod objects;
mod output;
mod remote;
mod target;
mod version;
mod view;
mod wait;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::exit::{EXIT_CODES, Exit, Failure};
use self::target::TargetFlags;

/// Launch workspaces and look after sessions.
#[derive(Parser)]
#[command(
    name = "kubectl berth",
    bin_name = "kubectl berth",
    no_binary_name = true,
    version,
    about,
    arg_required_else_help = true,
    after_help = EXIT_CODES
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    target: TargetFlags,
}

#[derive(Subcommand)]
enum Command {
    List(list::List),
    Launch(launch::Launch),
    End(end::End),
    EndAll(end_all::EndAll),
    Keepalive(keepalive::Keepalive),
    History(history::History),
    Audit(audit::Audit),
    Doctor(doctor::Doctor),
    Completion(completion::Completion),
    Version(version::Version),
}

/// What this program was started as.
#[derive(Debug, PartialEq, Eq)]
enum Role {
    /// `berth` itself.
    Berth,
    /// The plugin, by a link that kubectl finds.
    Plugin,
    /// What kubectl asks for the completions of the plugin.
    Completer,
}

impl Role {
    fn of(program: &OsStr) -> Self {
        let name = Path::new(program).file_name().unwrap_or(program).to_string_lossy();
        match name.strip_suffix(".exe").unwrap_or(&name) {
            "kubectl-berth" => Self::Plugin,
            "kubectl_complete-berth" => Self::Completer,
            _ => Self::Berth,
        }
    }
}

/// Answers a command line that is the plugin's: that of a program file called `kubectl-berth` or
/// `kubectl_complete-berth`, or one that begins with `berth kubectl`. Nothing where it is another's.
pub fn answer(mut words: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    match Role::of(&words.next()?) {
        Role::Plugin => Some(run(words)),
        Role::Completer => Some(complete::answer(words)),
        Role::Berth => (words.next()? == "kubectl").then(|| run(words)),
    }
}

fn run(words: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => {
            // It is help or a mistake, and knows where each goes; a reader that has gone is no error.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(command(cli)));
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.tell();
            failure.exit.into()
        }
    }
}

async fn command(cli: Cli) -> Result<Exit, Failure> {
    let target = &cli.target;
    match cli.command {
        Command::List(list) => list.run(target).await,
        Command::Launch(launch) => launch.run(target).await,
        Command::End(end) => end.run(target).await,
        Command::EndAll(end_all) => end_all.run(target).await,
        Command::Keepalive(keepalive) => keepalive.run(target).await,
        Command::History(history) => history.run(target).await,
        Command::Audit(audit) => audit.run(target).await,
        Command::Doctor(doctor) => doctor.run(target).await,
        Command::Completion(completion) => completion.run(),
        Command::Version(version) => version.run(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_made() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_name_of_the_program_says_what_it_is() {
        for (program, role) in [
            ("/usr/local/bin/kubectl-berth", Role::Plugin),
            ("kubectl-berth.exe", Role::Plugin),
            ("kubectl_complete-berth", Role::Completer),
            ("/berth", Role::Berth),
            ("kubectl-berth-old", Role::Berth),
        ] {
            assert_eq!(Role::of(OsStr::new(program)), role, "{program}");
        }
    }

    #[test]
    fn every_command_has_an_example_and_the_exit_codes_are_told() {
        for command in Cli::command().get_subcommands() {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example = format!("kubectl berth {}", command.get_name());
            assert!(after.contains(&example), "{example}");
            assert!(command.get_about().is_some(), "{example}");
        }
        let after = Cli::command().get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(Exit::ALL.iter().all(|exit| after.contains(&format!("\n  {:<4} ", exit.code()))), "{after}");
    }
}
