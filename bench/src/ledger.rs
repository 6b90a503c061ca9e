//! Counting: requests by the API server's own metrics. Owns what counts as a write and how writes are grouped.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use kube::Client;

/// Requests that the API server has answered, by what they were.
#[derive(Clone, Debug, Default)]
pub struct Ledger(BTreeMap<Line, f64>);

/// One kind of request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// The group; empty is the core one.
    pub group: String,
    /// The resource, such as `pods`.
    pub resource: String,
    /// The subresource, such as `status`.
    pub subresource: String,
    /// The verb, as the metrics have it: `POST`, `PATCH`, `WATCH`.
    pub verb: String,
}

const WRITES: [&str; 6] = ["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"];
/// What is written whether there are sessions or not.
const ELSEWHERE: [&str; 3] = ["leases", "tokenreviews", "subjectaccessreviews"];

impl std::fmt::Display for Line {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { group, resource, subresource, verb } = self;
        write!(formatter, "{verb} {resource}")?;
        if !group.is_empty() {
            write!(formatter, ".{group}")?;
        }
        if subresource.is_empty() { Ok(()) } else { write!(formatter, "/{subresource}") }
    }
}

impl Line {
    /// Whether it changes what is stored about sessions: no lease, no dry run, no question.
    pub fn is_write(&self) -> bool {
        WRITES.contains(&self.verb.as_str()) && !ELSEWHERE.contains(&self.resource.as_str())
    }
}

impl Ledger {
    /// Reads the counters as they stand.
    ///
    /// # Errors
    /// When the API server does not tell its metrics.
    pub async fn read(client: &Client) -> Result<Self> {
        let request = http::Request::get("/metrics").body(Vec::new())?;
        let text = client.request_text(request).await.context("the API server tells no metrics")?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut counts = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
            let (labels, value) = line.rsplit_once("} ").context("a metric line ends with its value")?;
            let of = |name| label(labels, name).unwrap_or_default().to_owned();
            // A dry run stores nothing, and what was refused neither.
            if !of("dry_run").is_empty() || !of("code").starts_with('2') {
                continue;
            }
            let line =
                Line { group: of("group"), resource: of("resource"), subresource: of("subresource"), verb: of("verb") };
            *counts.entry(line).or_default() += value.parse::<f64>()?;
        }
        Ok(Self(counts))
    }

    /// What was asked between `before` and now.
    pub fn since(&self, before: &Self) -> Self {
        let difference = |(line, count): (&Line, &f64)| {
            let spent = count - before.0.get(line).copied().unwrap_or_default();
            (spent > 0.0).then(|| (line.clone(), spent))
        };
        Self(self.0.iter().filter_map(difference).collect())
    }

    /// The writes, the most frequent first.
    pub fn writes(&self) -> Vec<(Line, f64)> {
        let mut writes: Vec<(Line, f64)> =
            self.0.iter().filter(|(line, _)| line.is_write()).map(|(line, count)| (line.clone(), *count)).collect();
        writes.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        writes
    }

    /// How many requests these are.
    pub fn sum(&self, is: impl Fn(&Line) -> bool) -> f64 {
        // Adding to nothing would make a zero with a sign.
        self.0.iter().filter(|(line, _)| is(line)).fold(0.0, |sum, (_, count)| sum + count)
    }
}

fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = labels;
    loop {
        let (before, after) = rest.split_once(&format!("{name}=\""))?;
        // `resource` is also the end of `subresource`.
        if before.ends_with([',', '{']) {
            return after.split_once('"').map(|(value, _)| value);
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = r#"# TYPE apiserver_request_total counter
apiserver_request_total{code="200",dry_run="",group="berth.dev",resource="sessions",scope="resource",subresource="status",verb="PATCH",version="v1alpha1"} 7
apiserver_request_total{code="409",dry_run="",group="berth.dev",resource="sessions",scope="resource",subresource="status",verb="PATCH",version="v1alpha1"} 5
"#;
    const AFTER: &str = r#"apiserver_request_total{code="200",dry_run="",group="berth.dev",resource="sessions",scope="resource",subresource="status",verb="PATCH",version="v1alpha1"} 9
apiserver_request_total{code="201",dry_run="",group="",resource="pods",scope="resource",subresource="",verb="POST",version="v1"} 3
apiserver_request_total{code="201",dry_run="All",group="",resource="pods",scope="resource",subresource="",verb="POST",version="v1"} 8
apiserver_request_total{code="200",dry_run="",group="coordination.k8s.io",resource="leases",scope="resource",subresource="",verb="PUT",version="v1"} 4
apiserver_request_total{code="200",dry_run="",group="",resource="pods",scope="cluster",subresource="",verb="WATCH",version="v1"} 2
"#;

    #[test]
    fn writes_are_what_was_stored_about_sessions() -> Result<()> {
        let spent = Ledger::parse(AFTER)?.since(&Ledger::parse(BEFORE)?);
        let lines: Vec<(String, f64)> =
            spent.writes().into_iter().map(|(line, count)| (line.to_string(), count)).collect();
        assert_eq!(lines, [("POST pods".to_owned(), 3.0), ("PATCH sessions.berth.dev/status".to_owned(), 2.0)]);
        assert!((spent.sum(|line| line.verb == "WATCH") - 2.0).abs() < f64::EPSILON);
        Ok(())
    }

    #[test]
    fn a_label_is_not_taken_for_another_that_ends_as_it_does() {
        assert_eq!(label(r#"x{subresource="status",resource="pods""#, "resource"), Some("pods"));
        assert_eq!(label(r#"x{code="200""#, "resource"), None);
    }
}
