//! The settings of both roles: flags and environment variables over the configuration file, which is one for both, over
//! defaults. Owns which there are, and what is wrong with them; not what they do.

mod endpoints;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod gateway;
mod instances;
mod network;
pub mod traces;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use ipnet::IpNet;
use serde::Deserialize;

use crate::cluster::dial::Destinations;
use crate::plan::hardening::Hardening;
use crate::plan::network::Neighbourhood;
use crate::plan::session::Pruner;
use traces::TraceSettings;

/// What every role is told on the command line and by the environment. What it is not told is in the file.
#[derive(Args, Clone, Debug, Default)]
pub struct Common {
    /// A YAML file with settings; what is given here or in the environment goes over it.
    #[arg(long, env = "BERTH_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The namespace that Berth is installed in, which holds its leases; in a pod, its own.
    #[arg(long, env = "BERTH_NAMESPACE", default_value = "berth-system")]
    pub namespace: String,

    /// What this process is called in leases and in events; in a pod, the pod's name.
    #[arg(long, env = "BERTH_IDENTITY")]
    pub identity: Option<String>,

    /// A namespace to work in, once for each; without any, the whole cluster.
    #[arg(long = "watch-namespace", env = "BERTH_WATCH_NAMESPACES", value_name = "NAMESPACE", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,

    /// Where /livez and /readyz are served [default: [::]:8081, every address of IPv4 and IPv6].
    #[arg(long, env = "BERTH_HEALTH_ADDRESS", value_name = "ADDRESS")]
    pub health_address: Option<SocketAddr>,

    /// Where /metrics is served [default: [::]:8080, every address of IPv4 and IPv6].
    #[arg(long, env = "BERTH_METRICS_ADDRESS", value_name = "ADDRESS")]
    pub metrics_address: Option<SocketAddr>,

    /// How log lines are written [default: json].
    #[arg(long, env = "BERTH_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,

    /// What is logged, as `level` or `target=level,…` [default: info].
    #[arg(long, env = "BERTH_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

/// What `berth operator` is told on the command line and by the environment, beside what both roles are told.
#[derive(Args, Clone, Debug, Default)]
pub struct Flags {
    /// What every role is told.
    #[command(flatten)]
    pub common: Common,

    /// Send traces of launches to the collector at this URL, by OTLP over HTTP, as in http://collector:4318 [default: none
    /// are sent].
    #[arg(long, env = "BERTH_TRACES_ENDPOINT", value_name = "URL")]
    pub traces_endpoint: Option<String>,
}

/// The configuration file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct File {
    watch_namespaces: Vec<String>,
    log: Log,
    health: Listen,
    metrics: Listen,
    traces: traces::File,
    instances: instances::File,
    endpoints: endpoints::File,
    network: network::File,
    gateway: gateway::File,
    store: Store,
    history: History,
    admission: Admission,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct History {
    pruned_by: PrunedBy,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PrunedBy {
    #[default]
    Operator,
    Gateway,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Store {
    url: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Admission {
    policies: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Log {
    format: Option<LogFormat>,
    filter: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Listen {
    address: Option<SocketAddr>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// What every role is told, settled.
#[derive(Clone, Debug, PartialEq)]
pub struct Role {
    /// The namespace that Berth is installed in.
    pub namespace: String,
    /// What this process is called: unique among all that ever contend for a lease at the same time.
    pub identity: String,
    /// The namespaces to work in, each once; none stands for the whole cluster.
    pub watch_namespaces: Vec<String>,
    /// Where the health endpoints are served.
    pub health_address: SocketAddr,
    /// Where the metrics are served.
    pub metrics_address: SocketAddr,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// What is logged.
    pub log: String,
}

/// The operator's settings in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What every role is told.
    pub role: Role,
    /// Where traces are sent, if anywhere.
    pub traces: Option<TraceSettings>,
    /// Where endpoints may be.
    pub destinations: Destinations,
    /// What the names of the admission policies begin with that must stand before anybody is launched; none where nobody
    /// installed any.
    pub admission_policies: Option<String>,
    /// Who prunes ended sessions.
    pub pruner: Pruner,
    /// What every instance has, whatever its template says.
    pub hardening: Hardening,
    /// The public keys of the authorities whose certificates instances trust over SSH.
    pub ssh_user_ca: Vec<String>,
    /// Who is around every instance.
    pub neighbourhood: Neighbourhood,
}

impl Common {
    fn file(&self) -> anyhow::Result<File> {
        Ok(self.config.as_deref().map(read).transpose()?.unwrap_or_default())
    }

    /// These flags over `file` over the defaults.
    fn settle(self, file: &File) -> anyhow::Result<Role> {
        // A variable that is set to nothing says nothing.
        let mut watch_namespaces = self.watch_namespaces.clone();
        watch_namespaces.retain(|name| !name.is_empty());
        if watch_namespaces.is_empty() {
            watch_namespaces.clone_from(&file.watch_namespaces);
        }
        watch_namespaces.sort_unstable();
        watch_namespaces.dedup();
        for name in watch_namespaces.iter().chain([&self.namespace]) {
            anyhow::ensure!(
                is_dns_label(name),
                "`{name}` is no namespace's name: write lower-case letters, digits and dashes, at most 63"
            );
        }
        let any = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        Ok(Role {
            identity: self.identity.unwrap_or_else(own_name),
            namespace: self.namespace,
            watch_namespaces,
            health_address: self.health_address.or(file.health.address).unwrap_or_else(|| any(8081)),
            metrics_address: self.metrics_address.or(file.metrics.address).unwrap_or_else(|| any(8080)),
            log_format: self.log_format.or(file.log.format).unwrap_or_default(),
            log: self.log.or_else(|| file.log.filter.clone()).unwrap_or_else(|| "info".to_owned()),
        })
    }
}

impl Flags {
    /// The settings in force: these flags over their file over the defaults.
    ///
    /// # Errors
    /// When the file cannot be read, has an unknown key or a wrong value, or a namespace's name or a collector's URL is none.
    pub fn settle(self) -> anyhow::Result<Settings> {
        let file = self.common.file()?;
        self.over(file)
    }

    /// These flags over `file` over the defaults.
    fn over(self, file: File) -> anyhow::Result<Settings> {
        file.gateway.check()?;
        let role = self.common.settle(&file)?;
        Ok(Settings {
            ssh_user_ca: file.gateway.ssh_user_ca()?,
            neighbourhood: network::settle(file.network, &role.namespace)?,
            traces: traces::settle(self.traces_endpoint, file.traces, |name| std::env::var(name).ok())?,
            destinations: endpoints::settle(file.endpoints)?,
            admission_policies: file.admission.policies.filter(|prefix| !prefix.is_empty()),
            pruner: match file.history.pruned_by {
                PrunedBy::Operator => Pruner::Operator,
                PrunedBy::Gateway => Pruner::Gateway,
            },
            hardening: instances::settle(file.instances)?,
            role,
        })
    }
}

fn read(path: &Path) -> anyhow::Result<File> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
    parse(&text).with_context(|| format!("the configuration file {} is wrong", path.display()))
}

/// A file with nothing in it, or with comments alone, sets nothing.
fn parse(text: &str) -> Result<File, serde_saphyr::Error> {
    Ok(serde_saphyr::from_str::<Option<File>>(text)?.unwrap_or_default())
}

/// The networks that are written under `key`; an address stands for itself.
fn networks(key: &str, texts: Vec<String>) -> anyhow::Result<Vec<IpNet>> {
    let network = |text: String| {
        let one = || Some(IpNet::from(text.parse::<IpAddr>().ok()?));
        text.parse()
            .ok()
            .or_else(one)
            .with_context(|| format!("`{text}` in {key} is no network: write one such as 10.1.0.0/16, or an address"))
    };
    texts.into_iter().map(network).collect()
}

/// Whether this is a label as RFC 1123 has it, which the names of namespaces are.
fn is_dns_label(name: &str) -> bool {
    let allowed = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    (1..=63).contains(&name.len()) && name.chars().all(allowed) && !name.starts_with('-') && !name.ends_with('-')
}

/// The pod's name, which is the host's, and the process among those on it.
pub fn own_name() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "berth-operator".to_owned());
    format!("{host}-{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> Flags {
        told(Common::default())
    }

    fn told(common: Common) -> Flags {
        let namespace = "berth-system".to_owned();
        Flags { common: Common { namespace, identity: Some("me".to_owned()), ..common }, ..Flags::default() }
    }

    fn with_file(name: &str, text: &str, flags: Flags) -> Result<Settings, String> {
        let path = std::env::temp_dir().join(format!("berth-settings-{}-{name}.yaml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let common = Common { config: Some(path.clone()), ..flags.common };
        let settled = Flags { common, ..flags }.settle();
        std::fs::remove_file(&path).unwrap();
        settled.map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn without_a_word_all_is_as_the_documentation_says() {
        let settings = flags().settle().unwrap();
        let role = &settings.role;
        assert_eq!(role.health_address.to_string(), "[::]:8081");
        assert_eq!(role.metrics_address.to_string(), "[::]:8080");
        assert_eq!((role.log_format, role.log.as_str()), (LogFormat::Json, "info"));
        assert!(role.watch_namespaces.is_empty());
        assert_eq!(with_file("empty", "# nothing\n", flags()), Ok(settings.clone()));
        assert_eq!(with_file("braces", "{}\n", flags()), Ok(settings));
    }

    #[test]
    fn a_flag_goes_over_the_file() {
        let text = "log: {format: text, filter: debug}\nwatchNamespaces: [b, a, b]\nmetrics: {address: 127.0.0.1:1}\n";
        let warn = told(Common { log: Some("warn".to_owned()), ..Common::default() });
        let role = with_file("over", text, warn).unwrap().role;
        assert_eq!((role.log_format, role.log.as_str()), (LogFormat::Text, "warn"));
        assert_eq!(role.watch_namespaces, ["a", "b"]);
        let unset = told(Common { watch_namespaces: vec![String::new()], ..Common::default() });
        assert_eq!(with_file("unset", text, unset).unwrap().role.watch_namespaces, ["a", "b"]);
        assert_eq!(role.metrics_address.to_string(), "127.0.0.1:1");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("logg: {}", "logg"),
            ("log: {format: xml}", "xml"),
            ("health: {address: nowhere}", "address"),
            ("instances: {runtimeClass: gvisor}", "runtimeClass"),
            ("instances: {limits: {memory: lots}}", "instances.limits.memory is `lots`"),
            ("instances: {requests: {memory: 8Gi}}", "instances.requests.memory"),
            ("instances: {priorityClassName: system-node-critical}", "system-node-critical"),
            ("admission: {policy: berth}", "policy"),
            ("endpoints: {allow: [10.0.0.0/33]}", "`10.0.0.0/33` in endpoints.allow"),
            ("endpoints: {deny: [build-7]}", "`build-7` in endpoints.deny"),
            ("gateway: {sshUserCa: [key]}", "gateway.sshUserCa is no public key"),
            ("gateway: {trustedHops: [edge]}", "`edge` in gateway.trustedHops"),
            ("gateway: {origins: [portal.example.org]}", "gateway.origins is no origin"),
            ("gateway: {limits: {burst: 0}}", "gateway.limits.burst is 0"),
            ("network: {internal: [campus]}", "`campus` in network.internal"),
            ("network: {dns: [{}]}", "network.dns[0] is wrong: write exactly one of cidr"),
            ("network: {gateways: [{cidr: 10.0.0.1}]}", "`10.0.0.1` is no network"),
            ("network: {gateways: [{pods: {namespace: edge, labels: {}}}]}", "pods without labels are all pods"),
            ("watchNamespaces: [Upper]", "`Upper` is no namespace's name"),
            ("log: [", "is wrong"),
        ] {
            let error = with_file("wrong", text, flags()).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
        let nowhere = Common { config: Some("/nowhere/berth.yaml".into()), ..Common::default() };
        let missing = told(nowhere).settle().unwrap_err();
        assert!(format!("{missing:#}").contains("/nowhere/berth.yaml"));
    }
}
