//! `kubectl berth audit`: who did what in this namespace, as the gateway has recorded it.

use serde_json::Value;

use super::exit::{Exit, Failure};
use super::gateway::escaped;
use super::output::{self, Columns, Format, FormatFlags, note, print};
use super::target::TargetFlags;

/// How many records one page has.
const PAGE: usize = 500;

/// Show who did what: launches, ends, and each step of a session's life
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  kubectl berth audit --gateway https://berth.example.org   the latest records of this namespace
  kubectl berth audit --actor ana --since 2026-11-01T00:00:00Z
  kubectl berth audit --action stop_workspace -o json | jq -r '.items[].actor' | sort | uniq -c

The gateway keeps the audit, so one must be named, by --gateway or BERTH_GATEWAY. It is for those who may list the sessions
of the namespace. `berth audit verify` checks the chain of records where the store is.")]
pub struct Audit {
    /// By this actor.
    #[arg(long, value_name = "ID")]
    actor: Option<String>,
    /// Of this action, such as `launch_workspace` or `session_ended`.
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// At this time or later, such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// At most so many, the latest first.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    output: FormatFlags,
}

impl Audit {
    /// Shows them.
    ///
    /// # Errors
    /// When there is no gateway, or it does not give them.
    pub async fn run(self, flags: &TargetFlags) -> Result<Exit, Failure> {
        let Some((gateway, namespace)) = flags.gateway().await? else {
            return Err(Failure::new(Exit::Usage, "the audit is the gateway's, and none is named")
                .next("add --gateway https://berth.example.org, or set BERTH_GATEWAY"));
        };
        let mut records: Vec<Value> = Vec::new();
        while records.len() < self.limit {
            let before = records.last().and_then(|record| record["seq"].as_u64());
            let wanted = PAGE.min(self.limit - records.len());
            let page = gateway.all(&self.path(&namespace, before, wanted), wanted).await?;
            let is_last = page.len() < wanted;
            records.extend(page);
            if is_last {
                break;
            }
        }
        let whole = output::list_of(records.clone());
        if let Some(document) = output::document(&whole, self.output.format)? {
            print(&document)?;
        } else if records.is_empty() {
            note(&format!("no records in namespace {namespace}"));
        } else if self.output.format == Format::Name {
            let numbers: Vec<String> = records.iter().map(|record| record["seq"].to_string()).collect();
            print(&numbers.join("\n"))?;
        } else {
            let is_wide = self.output.format == Format::Wide;
            let mut headers = vec!["TIME", "ACTOR", "ACTION", "TARGET", "OUTCOME", "REASON"];
            if is_wide {
                headers.extend(["ADDRESS", "SEQ", "HASH"]);
            }
            let rows: Vec<Vec<String>> = records.iter().map(|record| row(record, is_wide)).collect();
            print(&Columns::new(headers).lines(&rows, !self.output.no_headers).join("\n"))?;
        }
        Ok(Exit::Done)
    }

    fn path(&self, namespace: &str, before: Option<u64>, limit: usize) -> String {
        let before = before.map(|before| before.to_string());
        let asked = [
            ("actor", &self.actor),
            ("action", &self.action),
            ("since", &self.since),
            ("until", &self.until),
            ("before", &before),
        ];
        let asked =
            asked.into_iter().filter_map(|(field, value)| Some(format!("&{field}={}", escaped(value.as_ref()?))));
        format!("/api/organizations/{}/audit?limit={limit}{}", escaped(namespace), asked.collect::<String>())
    }
}

fn row(record: &Value, is_wide: bool) -> Vec<String> {
    let text = |field: &str| match &record[field] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let kind = text("target_kind").to_lowercase();
    let mut row = vec![
        text("at"),
        text("actor"),
        text("action"),
        format!("{kind}/{}", text("target_name")),
        text("outcome"),
        text("reason"),
    ];
    if is_wide {
        row.extend([text("address"), text("seq"), text("hash").chars().take(12).collect()]);
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_is_a_row_and_what_is_unknown_is_not_made_up() {
        let record = json!({ "seq": 7, "at": "2026-01-31T12:00:00Z", "actor": "ana", "action": "session_ended",
            "target_kind": "Session", "target_name": "mine", "outcome": "Success", "reason": null, "hash": "abcdef0123456789" });
        assert_eq!(
            row(&record, false),
            ["2026-01-31T12:00:00Z", "ana", "session_ended", "session/mine", "Success", "-"]
        );
        assert_eq!(row(&record, true)[6..], ["-", "7", "abcdef012345"]);
    }
}
