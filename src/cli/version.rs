//! `kubectl berth version`: what this program is.

use serde_json::json;

use super::exit::{Exit, Failure};
use super::output::{Format, document, print};
use crate::api::{GROUP, VERSION};

/// Print the version of this program
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  kubectl berth version
  kubectl berth version -o json

`kubectl berth doctor` compares it with what the cluster runs.")]
pub struct Version {
    /// How to print.
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "table")]
    format: Format,
}

impl Version {
    /// Prints it.
    ///
    /// # Errors
    /// When it cannot be printed.
    pub fn run(self) -> Result<Exit, Failure> {
        let (version, resources) = (env!("CARGO_PKG_VERSION"), format!("{GROUP}/{VERSION}"));
        let whole = json!({ "version": version, "resources": resources });
        let words = format!("kubectl berth {version}, for {resources}");
        print(&document(&whole, self.format)?.unwrap_or(words))?;
        Ok(Exit::Done)
    }
}
