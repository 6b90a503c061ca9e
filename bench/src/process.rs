//! The operator's process, as the kernel of this machine tells it: memory, processor time, age. It must run here.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};

/// Where Berth is installed.
pub const NAMESPACE: &str = "berth-system";

/// The process of the operator that leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pid: u32,
}

/// Who holds the operators' lease.
///
/// # Errors
/// When nobody does, or the API server does not say.
pub async fn holder(client: &Client) -> Result<String> {
    let lease = Api::<Lease>::namespaced(client.clone(), NAMESPACE).get_opt("berth-operator").await?;
    let holder = lease.and_then(|lease| lease.spec?.holder_identity).filter(|holder| !holder.is_empty());
    holder.context("no operator leads: is Berth installed? `cargo xtask install`")
}

impl Process {
    /// The process of this id.
    pub fn by_id(pid: u32) -> Self {
        Self { pid }
    }

    /// The process of the operator of this identity.
    ///
    /// # Errors
    /// When no process of this machine is it.
    pub fn of(holder: &str) -> Result<Self> {
        let wanted = format!("BERTH_IDENTITY={holder}");
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            if environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes()) {
                return Ok(Self { pid });
            }
        }
        bail!("no process of this machine is the leader {holder:?}")
    }

    /// Its resident memory, in MiB.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resident(self) -> Result<f64> {
        self.memory("VmRSS:")
    }

    /// The most that its resident memory ever was, in MiB.
    ///
    /// # Errors
    /// When it has ended.
    pub fn peak(self) -> Result<f64> {
        self.memory("VmHWM:")
    }

    fn memory(self, name: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("the kernel tells no memory")?;
        let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes / 1024.0)
    }

    /// The processor time that it has used, in seconds.
    ///
    /// # Errors
    /// When it has ended.
    pub fn processor(self) -> Result<f64> {
        let ticks = self.stat(11)? + self.stat(12)?;
        Ok(ticks / per_second()?)
    }

    /// How long it has been running.
    ///
    /// # Errors
    /// When it has ended.
    pub fn age(self) -> Result<Duration> {
        let up = fs::read_to_string("/proc/uptime")?;
        let up: f64 = up.split(' ').next().context("the kernel tells no uptime")?.parse()?;
        Ok(Duration::from_secs_f64((up - self.stat(19)? / per_second()?).max(0.0)))
    }

    /// A field of its line of figures, counted after its name, which may hold spaces.
    fn stat(self, index: usize) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let (_, fields) = stat.rsplit_once(") ").context("the kernel tells no figures")?;
        fields.split(' ').nth(index).context("the kernel tells too little")?.parse().context("no figure")
    }
}

fn per_second() -> Result<f64> {
    Ok(f64::from(u32::try_from(rustix::param::clock_ticks_per_second())?))
}
