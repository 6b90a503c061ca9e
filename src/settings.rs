//! The operator's settings: command-line flags, each with an environment variable.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};

/// Settings of `berth operator`.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// The namespace that holds the leader lease; in a pod, its own.
    #[arg(long, env = "BERTH_NAMESPACE", default_value = "berth-system")]
    pub namespace: String,

    /// What this process is called in the lease and in events; in a pod, the pod's name.
    #[arg(long, env = "BERTH_IDENTITY")]
    pub identity: Option<String>,

    /// Where /livez and /readyz are served.
    #[arg(long, env = "BERTH_HEALTH_ADDRESS", default_value = "0.0.0.0:8081")]
    pub health_address: SocketAddr,

    /// Where the activity of sessions is read from.
    #[arg(long, env = "BERTH_ACTIVITY_SOURCE", value_enum, default_value_t = ActivitySource::Status)]
    pub activity_source: ActivitySource,

    /// How log lines are written.
    #[arg(long, env = "BERTH_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,

    /// What is logged, as `level` or `target=level,…`.
    #[arg(long, env = "BERTH_LOG", default_value = "info")]
    pub log: String,
}

/// Where the activity of sessions is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ActivitySource {
    /// From `status.activity.lastAt` and `spec.keepAliveAt`: whoever writes them is trusted.
    Status,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Settings {
    /// What this process is called: unique among all that ever contend for the lease at the same time.
    pub fn identity(&self) -> String {
        self.identity.clone().unwrap_or_else(|| {
            let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "berth-operator".to_owned());
            format!("{host}-{}", std::process::id())
        })
    }
}
