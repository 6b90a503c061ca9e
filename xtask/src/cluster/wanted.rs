//! What the cluster should consist of: said by `cluster up`, kept for the commands after it.

use super::layout::Layout;
use super::pki::write_if_changed;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;

/// The parts that the last `cluster up` asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Whether there is a real node.
    pub node: bool,
    /// How many simulated nodes there are.
    pub simulated: u32,
    /// Whether requests to the API server are logged.
    pub audit: bool,
    /// The kubeconfig of a cluster that was there before; then there is nothing else.
    pub kubeconfig: Option<String>,
}

impl Wanted {
    /// What was asked for; nothing when there is no cluster.
    pub fn read(layout: &Layout) -> Result<Option<Self>> {
        let path = layout.at("wanted.json");
        let Ok(text) = fs::read_to_string(&path) else {
            return Ok(None);
        };
        let value: Value = serde_json::from_str(&text).with_context(|| format!("{path} is damaged"))?;
        Ok(Some(Self {
            node: value["node"].as_bool().unwrap_or(false),
            simulated: value["simulated"].as_u64().unwrap_or(0) as u32,
            audit: value["audit"].as_bool().unwrap_or(false),
            kubeconfig: value["kubeconfig"].as_str().map(str::to_owned),
        }))
    }

    /// Keeps it.
    pub fn write(&self, layout: &Layout) -> Result<()> {
        let value = json!({"node": self.node, "simulated": self.simulated, "kubeconfig": self.kubeconfig});
        write_if_changed(&layout.at("wanted.json"), &value.to_string())
    }
}
