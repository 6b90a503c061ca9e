//! Which cluster and which namespace: the kubeconfig, the context, and what the flags say over them. Owns the
//! connection; not what is asked of it.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use super::exit::{Asked, Exit, Failure, chain};
use super::gateway::Gateway;

/// How long one request may take.
const CALL: Duration = Duration::from_secs(30);

/// The flags that every command takes.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Cluster")]
pub struct TargetFlags {
    /// The namespace; without it that of the context.
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The context of the kubeconfig; without it the current one.
    #[arg(long, global = true, value_name = "CONTEXT")]
    pub context: Option<String>,
    /// The kubeconfig file; without it as kubectl finds it.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Berth's gateway: `list --mine`, `history` and `audit` ask it, with the token of BERTH_TOKEN.
    #[arg(long, global = true, value_name = "URL", env = "BERTH_GATEWAY")]
    pub gateway: Option<String>,
}

impl TargetFlags {
    /// The connection, and the namespace that is meant. No request is made yet.
    ///
    /// # Errors
    /// When there is no kubeconfig, no such context, or it cannot be used.
    pub async fn connect(&self) -> Result<Target, Failure> {
        let config = self.config().await?;
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config)
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot set up the connection: {}", chain(&error))))?;
        Ok(Target { client, namespace, flags: self.clone() })
    }

    /// The gateway that is named, and the namespace that is meant; nothing where none is named.
    ///
    /// # Errors
    /// When it is no gateway's address, or there is nothing to ask it with.
    pub async fn gateway(&self) -> Result<Option<(Gateway, String)>, Failure> {
        let Some(url) = self.gateway.as_deref().filter(|url| !url.is_empty()) else { return Ok(None) };
        let config = self.config().await?;
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        Ok(Some((Gateway::new(url)?, namespace)))
    }

    async fn config(&self) -> Result<Config, Failure> {
        let kubeconfig = match self.kubeconfig() {
            Ok(kubeconfig) => kubeconfig,
            // In a pod there is none, and the service account stands in.
            Err(failure) if self.kubeconfig.is_none() && self.context.is_none() => {
                return Config::incluster().map_err(|_| failure);
            }
            Err(failure) => return Err(failure),
        };
        let contexts: Vec<String> = kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| {
            let exit = match error {
                KubeconfigError::LoadContext(_) => Exit::NotFound,
                _ => Exit::Failed,
            };
            let there = if contexts.is_empty() { "none".to_owned() } else { contexts.join(", ") };
            Failure::new(exit, format!("the kubeconfig names no usable cluster: {}", chain(&error)))
                .next(format!("contexts there are: {there}"))
        })
    }

    /// The kubeconfig, as it stands in its files.
    ///
    /// # Errors
    /// When there is none or it cannot be read.
    pub fn kubeconfig(&self) -> Result<Kubeconfig, Failure> {
        let read = self.kubeconfig.as_ref().map_or_else(Kubeconfig::read, Kubeconfig::read_from);
        read.map_err(|error| {
            Failure::new(Exit::Failed, format!("no kubeconfig: {}", chain(&error)))
                .next("set KUBECONFIG, or name the file with --kubeconfig")
        })
    }
}

/// A cluster, and a namespace in it.
pub struct Target {
    /// The connection.
    pub client: Client,
    /// The namespace that is meant where none is named.
    pub namespace: String,
    flags: TargetFlags,
}

impl Target {
    /// This namespace, or all.
    pub fn scope(&self, all: bool) -> Scope {
        if all { Scope::All } else { Scope::Namespace(self.namespace.clone()) }
    }

    /// The same cluster, with `namespace` as the one that is meant.
    pub fn within(&self, namespace: &str) -> Self {
        Self { client: self.client.clone(), namespace: namespace.to_owned(), flags: self.flags.clone() }
    }

    /// The flags with which a pasted command reaches the same cluster and `namespace`.
    pub fn pasted(&self, namespace: &str) -> String {
        pasted(&self.flags, namespace)
    }
}

pub(super) fn pasted(flags: &TargetFlags, namespace: &str) -> String {
    let mut words = vec!["--namespace".to_owned(), quoted(namespace)];
    if let Some(context) = &flags.context {
        words.extend(["--context".to_owned(), quoted(context)]);
    }
    if let Some(file) = &flags.kubeconfig {
        words.extend(["--kubeconfig".to_owned(), quoted(&file.to_string_lossy())]);
    }
    words.join(" ")
}

/// `word` as a shell takes it back.
pub fn quoted(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_./:@+,".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Where a command looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One namespace.
    Namespace(String),
    /// Every namespace.
    All,
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(namespace) => write!(formatter, "namespace {namespace}"),
            Self::All => formatter.write_str("all namespaces"),
        }
    }
}

/// Makes a request, for as long as one may take.
///
/// # Errors
/// In the words of [`Asked::failed`], or when there was no answer in time.
pub async fn call<T>(asked: &Asked, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failure> {
    match tokio::time::timeout(CALL, request).await {
        Ok(answer) => answer.map_err(|error| asked.failed(&error)),
        Err(_) => Err(asked.unanswered()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pasted_command_reaches_the_same_cluster() {
        let flags = TargetFlags { context: Some("my cluster".to_owned()), ..TargetFlags::default() };
        assert_eq!(pasted(&flags, "demo"), "--namespace demo --context 'my cluster'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
