//! Counting: requests by the API server's own metrics, with how long it took for them. Owns what counts as a write and how writes
//! are grouped.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use kube::Client;

/// Requests that the API server has answered, by what they were.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// How many were stored.
    counts: BTreeMap<Line, f64>,
    /// How many were answered, in whatever way, and how long that took together, in seconds.
    times: BTreeMap<Line, (f64, f64)>,
    /// The processor time that the API server has used, in seconds.
    processor: f64,
}

/// One kind of request.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
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
        let mut ledger = Self::default();
        for line in text.lines().filter(|line| line.starts_with("apiserver_request_")) {
            let Some((metric, _)) = line.split_once('{') else { continue };
            let (labels, value) = line.rsplit_once("} ").context("a metric line ends with its value")?;
            let of = |name| label(labels, name).unwrap_or_default().to_owned();
            // A dry run stores nothing.
            if !of("dry_run").is_empty() {
                continue;
            }
            let line =
                Line { group: of("group"), resource: of("resource"), subresource: of("subresource"), verb: of("verb") };
            match metric {
                // What was refused neither.
                "apiserver_request_total" if of("code").starts_with('2') => {
                    *ledger.counts.entry(line).or_default() += value.parse::<f64>()?;
                }
                "apiserver_request_duration_seconds_count" => {
                    ledger.times.entry(line).or_default().0 += value.parse::<f64>()?;
                }
                "apiserver_request_duration_seconds_sum" => {
                    ledger.times.entry(line).or_default().1 += value.parse::<f64>()?;
                }
                _ => {}
            }
        }
        let processor = text.lines().find_map(|line| line.strip_prefix("process_cpu_seconds_total "));
        ledger.processor = processor.map_or(Ok(0.0), str::parse)?;
        Ok(ledger)
    }

    /// What was asked between `before` and now.
    pub fn since(&self, before: &Self) -> Self {
        let counted = |(line, count): (&Line, &f64)| {
            let spent = count - before.counts.get(line).copied().unwrap_or_default();
            (spent > 0.0).then(|| (line.clone(), spent))
        };
        let timed = |(line, (count, seconds)): (&Line, &(f64, f64))| {
            let (was, lasted) = before.times.get(line).copied().unwrap_or_default();
            (line.clone(), (count - was, seconds - lasted))
        };
        Self {
            counts: self.counts.iter().filter_map(counted).collect(),
            times: self.times.iter().map(timed).collect(),
            processor: self.processor - before.processor,
        }
    }

    /// How long one of these took the API server on average, in milliseconds; nothing where there was none.
    pub fn milliseconds(&self, line: &Line) -> Option<f64> {
        let (count, seconds) = self.times.get(line).filter(|(count, _)| *count > 0.0)?;
        Some(seconds / count * 1000.0)
    }

    /// The processor time that the API server has used, in seconds.
    pub fn processor(&self) -> f64 {
        self.processor
    }

    /// The writes, the most frequent first.
    pub fn writes(&self) -> Vec<(Line, f64)> {
        let mut writes: Vec<(Line, f64)> = self
            .counts
            .iter()
            .filter(|(line, _)| line.is_write())
            .map(|(line, count)| (line.clone(), *count))
            .collect();
        writes.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        writes
    }

    /// How many requests these are.
    pub fn sum(&self, is: impl Fn(&Line) -> bool) -> f64 {
        // Adding to nothing would make a zero with a sign.
        self.counts.iter().filter(|(line, _)| is(line)).fold(0.0, |sum, (_, count)| sum + count)
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
    fn how_long_a_request_took_is_of_those_between_two_readings() -> Result<()> {
        let metrics = |count: u32, sum: f64, processor: f64| {
            let labels = r#"{component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="",verb="POST"}"#;
            let name = "apiserver_request_duration_seconds";
            format!("{name}_count{labels} {count}\n{name}_sum{labels} {sum}\nprocess_cpu_seconds_total {processor}\n")
        };
        let spent = Ledger::parse(&metrics(14, 1.5, 9.25))?.since(&Ledger::parse(&metrics(10, 1.0, 9.0))?);
        let line = Line { resource: "pods".to_owned(), verb: "POST".to_owned(), ..Line::default() };
        assert_eq!((spent.milliseconds(&line), spent.processor()), (Some(125.0), 0.25));
        assert_eq!(spent.milliseconds(&Line::default()), None);
        Ok(())
    }

    #[test]
    fn a_label_is_not_taken_for_another_that_ends_as_it_does() {
        assert_eq!(label(r#"x{subresource="status",resource="pods""#, "resource"), Some("pods"));
        assert_eq!(label(r#"x{code="200""#, "resource"), None);
    }
}
