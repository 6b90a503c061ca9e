//! What kubectl asks `kubectl_complete-berth` for: candidates for the last word of a command line, one a line, and a
//! last line that tells the shell what else it may offer. It is quiet and quick: who presses a key waits for nothing
//! and reads no error. The grammar is that of the command line itself; only names in the cluster are asked for.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, Command, CommandFactory};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DynamicObject, ListParams, PartialObjectMeta};
use kube::{Api, Resource, ResourceExt};

use super::Cli;
use super::exit::Exit;
use super::objects::{ENDED, LIVE};
use super::output::print;
use super::target::{Target, TargetFlags};
use crate::api::{Session, Workspace};

/// How long a key press may wait for the cluster.
const PATIENCE: Duration = Duration::from_secs(2);
/// As many as a person looks through.
const MOST: u32 = 250;

/// The shell offers nothing else; cobra's ShellCompDirectiveNoFileComp.
const NOTHING_ELSE: &str = ":4";
/// The shell offers files; cobra's ShellCompDirectiveDefault.
const FILES: &str = ":0";

/// Answers kubectl; `words` are those after `kubectl berth`, the last one as far as it is typed.
pub fn answer(words: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    let asking = Asking::of(&words);
    let last = if asking.wanted == Wanted::File { FILES } else { NOTHING_ELSE };
    let mut lines = candidates(&asking);
    lines.push(last.to_owned());
    // Nobody reads an error here.
    let _ = print(&lines.join("\n"));
    Exit::Done.into()
}

/// What may stand at the place of the last word.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// One of these, each with what it is for.
    OneOf(Vec<(String, String)>),
    /// The name of something.
    Name(Named),
    /// A file.
    File,
    /// What nobody can guess.
    Anything,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Namespace,
    Context,
    Workspace,
    LiveSession,
    EndedSession,
}

/// A command line that is being typed.
#[derive(Debug)]
pub(super) struct Asking {
    wanted: Wanted,
    /// What stands before the candidate in the same word, such as `--output=`.
    pub(super) before: String,
    /// The last word, as far as it is typed, without that.
    pub(super) begun: String,
    /// The names that stand there already.
    typed: Vec<String>,
    target: TargetFlags,
}

impl Asking {
    pub(super) fn of(words: &[String]) -> Self {
        // Built, the grammar knows what each argument takes.
        let mut root = Cli::command();
        root.build();
        let (current, earlier) = words.split_last().map_or((String::new(), words), |(last, rest)| (last.clone(), rest));
        let mut command = &root;
        let (mut typed, mut target, mut open): (Vec<String>, _, Option<&Arg>) =
            (Vec::new(), TargetFlags::default(), None);
        let mut only_names = false;
        for word in earlier {
            if let Some(flag) = open.take() {
                keep(&mut target, flag, word);
            } else if word == "--" {
                only_names = true;
            } else if word.starts_with('-') && word.len() > 1 && !only_names {
                let (flag, value) = flag_of(&root, command, word);
                match (flag, value) {
                    (Some(flag), Some(value)) => keep(&mut target, flag, value),
                    (Some(flag), None) if takes_word(flag) => open = Some(flag),
                    _ => {}
                }
            } else if let Some(sub) = command.find_subcommand(word).filter(|_| typed.is_empty()) {
                command = sub;
            } else {
                typed.push(word.clone());
            }
        }
        let asked = |wanted, before: &str, begun: &str| Self {
            wanted,
            before: before.to_owned(),
            begun: begun.to_owned(),
            typed: typed.clone(),
            target: target.clone(),
        };
        if let Some(flag) = open {
            return asked(value_of(flag), "", &current);
        }
        if current.starts_with('-') && !only_names {
            if let Some((name, begun)) = current.split_once('=') {
                let wanted = flag_of(&root, command, name).0.map_or(Wanted::Anything, value_of);
                return asked(wanted, &format!("{name}="), begun);
            }
            return asked(Wanted::OneOf(flags(&root, command)), "", &current);
        }
        if command.has_subcommands() {
            return asked(Wanted::OneOf(subcommands(command)), "", &current);
        }
        let takes_more = |arg: &&Arg| arg.get_action().takes_values() && (typed.is_empty() || takes_several(arg));
        let wanted = command.get_positionals().find(takes_more).map_or(Wanted::Anything, value_of);
        asked(wanted, "", &current)
    }
}

fn takes_several(arg: &Arg) -> bool {
    matches!(arg.get_action(), clap::ArgAction::Append)
        || arg.get_num_args().is_some_and(|range| range.max_values() > 1)
}

/// Whether the word after the flag is its value.
fn takes_word(flag: &Arg) -> bool {
    flag.get_action().takes_values() && !flag.is_require_equals_set()
}

/// The flag that `word` spells, and the value that stands in the same word.
fn flag_of<'a, 'w>(root: &'a Command, command: &'a Command, word: &'w str) -> (Option<&'a Arg>, Option<&'w str>) {
    let mut all = command.get_arguments().chain(root.get_arguments());
    match word.strip_prefix("--") {
        Some(long) => {
            let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            (all.find(|arg| arg.get_long() == Some(name)), value)
        }
        None => {
            let letter = word.chars().nth(1);
            let rest = word.get(2..).filter(|rest| !rest.is_empty());
            let value = rest.map(|rest| rest.strip_prefix('=').unwrap_or(rest));
            (all.find(|arg| letter.is_some() && arg.get_short() == letter), value)
        }
    }
}

fn keep(target: &mut TargetFlags, flag: &Arg, value: &str) {
    match flag.get_id().as_str() {
        "namespace" => target.namespace = Some(value.to_owned()),
        "context" => target.context = Some(value.to_owned()),
        "kubeconfig" => target.kubeconfig = Some(PathBuf::from(value)),
        _ => {}
    }
}

/// What an argument takes. The names of arguments in the grammar say which of them are names in the cluster.
fn value_of(arg: &Arg) -> Wanted {
    match arg.get_id().as_str() {
        "namespace" => Wanted::Name(Named::Namespace),
        "context" => Wanted::Name(Named::Context),
        "kubeconfig" => Wanted::File,
        "workspace" | "launched_workspace" => Wanted::Name(Named::Workspace),
        "live_sessions" => Wanted::Name(Named::LiveSession),
        "ended_session" => Wanted::Name(Named::EndedSession),
        _ => {
            let values = arg.get_possible_values();
            let help =
                |value: &clap::builder::PossibleValue| value.get_help().map(ToString::to_string).unwrap_or_default();
            let offered: Vec<_> = values.iter().map(|value| (value.get_name().to_owned(), help(value))).collect();
            if offered.is_empty() { Wanted::Anything } else { Wanted::OneOf(offered) }
        }
    }
}

fn flags(root: &Command, command: &Command) -> Vec<(String, String)> {
    let own = command.get_arguments();
    let global = root.get_arguments().filter(|arg| arg.is_global_set());
    let shown = own.chain(global).filter(|arg| !arg.is_hide_set());
    let named = shown.filter_map(|arg| Some((format!("--{}", arg.get_long()?), help(arg.get_help()))));
    let mut named: Vec<(String, String)> = named.chain([("--help".to_owned(), "Print help".to_owned())]).collect();
    named.sort();
    named.dedup_by(|one, other| one.0 == other.0);
    named
}

fn subcommands(command: &Command) -> Vec<(String, String)> {
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    shown.map(|command| (command.get_name().to_owned(), help(command.get_about()))).collect()
}

fn help(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(|text| text.to_string().lines().next().unwrap_or_default().to_owned()).unwrap_or_default()
}

/// The candidates that begin as the last word does.
fn candidates(asking: &Asking) -> Vec<String> {
    let offered = match &asking.wanted {
        Wanted::OneOf(offered) => offered.clone(),
        Wanted::Name(named) => {
            let names = names(*named, &asking.target).unwrap_or_default();
            let free = names.into_iter().filter(|name| !asking.typed.contains(name));
            free.map(|name| (name, String::new())).collect()
        }
        Wanted::File | Wanted::Anything => Vec::new(),
    };
    let fits = offered.into_iter().filter(|(name, _)| name.to_lowercase().starts_with(&asking.begun.to_lowercase()));
    let line = |(name, help): (String, String)| match help.is_empty() {
        true => format!("{}{name}", asking.before),
        false => format!("{}{name}\t{help}", asking.before),
    };
    fits.map(line).collect()
}

/// The names that there are; nothing where the cluster does not answer at once.
fn names(named: Named, flags: &TargetFlags) -> Option<Vec<String>> {
    if named == Named::Context {
        return Some(flags.kubeconfig().ok()?.contexts.into_iter().map(|context| context.name).collect());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let found = runtime.block_on(async { tokio::time::timeout(PATIENCE, ask(named, flags)).await.ok().flatten() });
    // A lookup of the API server's name may still run, and nobody waits for it.
    runtime.shutdown_background();
    found
}

async fn ask(named: Named, flags: &TargetFlags) -> Option<Vec<String>> {
    let target = flags.connect().await.ok()?;
    let params = ListParams::default().limit(MOST);
    match named {
        Named::Namespace => {
            let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(target.client);
            let all = namespaces.list(&params).await.ok()?;
            Some(all.items.iter().map(ResourceExt::name_any).collect())
        }
        Named::Workspace => ours::<Workspace>(&target, &params).await,
        Named::LiveSession => ours::<Session>(&target, &params.fields(LIVE)).await,
        Named::EndedSession => ours::<Session>(&target, &params.fields(ENDED)).await,
        Named::Context => None,
    }
}

async fn ours<K: Resource<DynamicType = ()>>(target: &Target, params: &ListParams) -> Option<Vec<String>> {
    let kind = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(target.client.clone(), &target.namespace, &kind);
    Some(api.list(params).await.ok()?.items.iter().map(ResourceExt::name_any).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(line: &str) -> Asking {
        Asking::of(&line.split(' ').map(ToOwned::to_owned).collect::<Vec<String>>())
    }

    fn offered(line: &str) -> Vec<String> {
        candidates(&asking(line))
            .into_iter()
            .map(|line| line.split('\t').next().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn commands_flags_and_values_are_offered() {
        assert_eq!(offered("en"), ["end", "end-all"]);
        assert_eq!(offered("list --no-h"), ["--no-headers"]);
        assert_eq!(offered("list -o j"), ["json"]);
        assert_eq!(offered("list --output=n"), ["--output=name"]);
        assert_eq!(offered("launch --when-full f"), ["Fail"]);
        assert_eq!(offered("completion "), ["bash", "zsh", "fish"]);
        assert!(offered("list --con").contains(&"--context".to_owned()), "global flags too");
    }

    #[test]
    fn names_in_the_cluster_are_asked_for_where_they_stand() {
        for (line, named) in [
            ("launch ", Named::Workspace),
            ("end ", Named::LiveSession),
            ("end a b", Named::LiveSession),
            ("keepalive -n demo ", Named::LiveSession),
            ("history ", Named::EndedSession),
            ("end-all --workspace ", Named::Workspace),
            ("list -n ", Named::Namespace),
            ("list --context=", Named::Context),
        ] {
            assert_eq!(asking(line).wanted, Wanted::Name(named), "{line}");
        }
        assert_eq!(asking("list --kubeconfig ").wanted, Wanted::File);
        assert_eq!(asking("launch terminal ").wanted, Wanted::Anything, "one workspace is launched");
    }

    #[test]
    fn the_flags_before_say_where_to_ask() {
        let asking = asking("-n demo --context=far end a --kubeconfig /k ");
        let target = asking.target;
        assert_eq!((target.namespace.as_deref(), target.context.as_deref()), (Some("demo"), Some("far")));
        assert_eq!(target.kubeconfig, Some(PathBuf::from("/k")));
        assert_eq!(asking.typed, ["a"]);
    }
}
