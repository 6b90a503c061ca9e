//! The monitoring, tried on the real thing: a Prometheus scrapes the installed operator, every query of the dashboard is
//! put to it, and so are the recording rules. Owns that Prometheus, its settings and its end; the rules and the dashboard are the
//! chart's.

use crate::cache::Cache;
use crate::cluster::Layout;
use crate::cluster::tools::{PROMETHEUS, PROMTOOL};
use crate::compile;
use crate::demo::reach::Forward;
use crate::install::{self, NAMESPACE};
use crate::run::{Run, step, wait_until};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The port on which the operator serves its metrics.
const METRICS: u16 = 8080;
/// How long Prometheus may take until it has scraped often enough for a rate.
const PATIENCE: Duration = Duration::from_secs(60);

/// Scrapes the leader and asks the dashboard's queries.
pub fn check(cache: &Cache) -> Result<()> {
    let layout = Layout::new(cache)?;
    let (prometheus, promtool) = (PROMETHEUS.ensure(cache)?, PROMTOOL.ensure(cache)?);
    let leader = install::leader(&layout)?;
    let forward = Forward::to(&layout, NAMESPACE, &leader, METRICS)?;
    let folder = cache.logs().join("prometheus");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let settings = folder.join("prometheus.json");
    fs::write(&settings, settings_for(forward.port()).to_string())?;
    // Free a moment ago: nobody else here asks for one.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let _running = Run::new(&prometheus)
        .arg(format!("--config.file={}", settings.display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--log.level=error")
        .spawn()?;
    let server = Server { promtool: &promtool, url: format!("http://{address}") };
    step("monitoring: a real Prometheus scrapes the real operator", || {
        wait_until("Prometheus has scraped the operator", PATIENCE, || {
            Ok(server.ask("count_over_time(up[1m]) >= 5 and up == 1").is_ok_and(|found| !found.is_empty()))
        })
    })?;
    step("monitoring: a session comes and goes", || traffic(&layout))?;
    step("monitoring: every query of the dashboard", || {
        let queries = queries()?;
        ensure!(queries.len() > 20, "the dashboard has {} queries", queries.len());
        let mut wrong = Vec::new();
        for query in &queries {
            if let Err(error) = server.ask(query) {
                wrong.push(format!("{query}: {error:#}"));
            }
        }
        for name in queries.iter().flat_map(|query| names(query)).collect::<BTreeSet<_>>() {
            if server.ask(&format!("count({{__name__=\"{name}\"}})"))?.is_empty() {
                wrong.push(format!("the operator has no metric {name}"));
            }
        }
        if !wrong.is_empty() {
            bail!("{}", wrong.join("\n"));
        }
        Ok(())
    })?;
    step("monitoring: the rules are loaded and find what they record", || {
        let rules = fs::read_to_string(rules())?;
        let recorded: Vec<&str> = rules.lines().filter_map(|line| line.split_once("record: ")).map(|it| it.1).collect();
        ensure!(!recorded.is_empty(), "the rules record nothing");
        for name in recorded {
            wait_until(&format!("something is recorded as {name}"), PATIENCE, || Ok(!server.ask(name)?.is_empty()))?;
        }
        Ok(())
    })
}

/// A session that comes and goes, in a namespace of its own: rates of what never happens say nothing.
fn traffic(layout: &Layout) -> Result<()> {
    const NAME: &str = "berth-monitoring-check";
    let kubectl = |words: &[&str]| layout.kubectl().args(["--namespace", NAME]).args(words);
    let container = json!({ "name": "main", "image": "localhost/berth-busybox:1", "command": ["sleep", "600"] });
    let objects = json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAME } },
        { "apiVersion": "berth.dev/v1alpha1", "kind": "Workspace", "metadata": { "name": "box", "namespace": NAME },
          "spec": { "type": "web", "access": { "protocol": "HTTP", "port": 8080 },
                    "template": { "spec": {
                        "terminationGracePeriodSeconds": 1, "securityContext": { "runAsUser": 1000 },
                        "containers": [container] } } } },
        { "apiVersion": "berth.dev/v1alpha1", "kind": "Session", "metadata": { "name": "mine", "namespace": NAME },
          "spec": { "workspaceRef": { "name": "box" }, "user": { "id": "ana" } } },
    ]});
    kubectl(&["apply", "--server-side", "-f", "-"]).input(objects.to_string()).quiet()?;
    kubectl(&["wait", "session/mine", "--for=condition=Ready", "--timeout=60s"]).quiet()?;
    kubectl(&["patch", "session", "mine", "--type=merge", "-p", r#"{"spec":{"desiredState":"Disconnected"}}"#])
        .quiet()?;
    kubectl(&["wait", "session/mine", "--for=condition=Ended", "--timeout=60s"]).quiet()?;
    kubectl(&["delete", "namespace", NAME, "--wait=false"]).quiet()
}

fn rules() -> PathBuf {
    compile::root().join("charts/berth/files/alerts.yaml")
}

/// Prometheus' settings. They are YAML, of which JSON is a part.
fn settings_for(port: u16) -> Value {
    json!({
        "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
        "rule_files": [rules()],
        "scrape_configs": [{
            "job_name": "berth-operator",
            "static_configs": [{ "targets": [format!("127.0.0.1:{port}")] }],
        }],
    })
}

/// A Prometheus that answers.
struct Server<'a> {
    promtool: &'a Path,
    url: String,
}

impl Server<'_> {
    /// What is found, a line each.
    fn ask(&self, query: &str) -> Result<Vec<String>> {
        let found = Run::new(self.promtool).args(["query", "instant", &self.url, query]).output()?;
        Ok(found.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect())
    }
}

/// The dashboard's queries, with its variables filled in as Grafana does.
fn queries() -> Result<BTreeSet<String>> {
    let path = compile::root().join("charts/berth/files/dashboard.json");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut found = BTreeSet::new();
    collect(&serde_json::from_str(&text)?, &mut found);
    let filled = |query: String| {
        [("$__rate_interval", "1m"), ("$__range", "1h"), ("$job", ".*"), ("$namespace", ".*")]
            .iter()
            .fold(query, |query, (variable, value)| query.replace(variable, value))
    };
    Ok(found.into_iter().map(filled).collect())
}

fn collect(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|field| collect(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}

/// The operator's metrics that a query names.
fn names(query: &str) -> Vec<String> {
    let words = query.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    words.filter(|word| word.starts_with("berth_") || word.starts_with("process_")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_a_query() {
        let query = "sum by (le) (rate(berth_a_bucket{job=~\"x\"}[1m])) / on (job) process_b";
        assert_eq!(names(query), ["berth_a_bucket", "process_b"]);
    }

    #[test]
    fn the_dashboard_has_queries_without_variables() -> Result<()> {
        let queries = queries()?;
        assert!(queries.len() > 20 && queries.iter().all(|query| !query.contains('$')), "{queries:?}");
        Ok(())
    }
}
