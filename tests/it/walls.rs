//! The walls between modules: who may name whom. Each rule is an invariant of docs/architecture.md.

use std::fs;
use std::path::{Path, PathBuf};

/// All lines of code that bring a name into scope or spell a path, by file, without tests and comments.
fn lines_of(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new("src");
    let mut files = vec![root.join(format!("{folder}.rs"))];
    collect(&root.join(folder), &mut files);
    let mut lines = Vec::new();
    let is_test = |file: &Path| file.ends_with("tests.rs") || file.iter().any(|part| part == "tests");
    for file in files.iter().filter(|file| !is_test(file.strip_prefix(root).unwrap())) {
        let text = fs::read_to_string(file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let named = code.lines().map(str::trim).filter(|line| !line.starts_with("//"));
        lines.extend(named.map(|line| (file.clone(), line.to_owned())));
    }
    assert!(lines.len() > 20, "no code was read in {folder}");
    lines
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The lines of `folder` that hold one of `words`.
fn offences(folder: &str, words: &[&str]) -> Vec<String> {
    let offends = |line: &str| words.iter().any(|word| line.contains(word));
    let show = |(file, line): (PathBuf, String)| format!("{}: {line}", file.display());
    lines_of(folder).into_iter().filter(|(_, line)| offends(line)).map(show).collect()
}

#[test]
fn planners_perform_nothing() {
    let words = [
        "tokio",
        "tracing",
        "kube::Client",
        "kube::Api",
        "kube::api",
        "kube::runtime",
        "std::env",
        "std::fs",
        "std::net",
        "std::time",
        "std::thread",
        "std::process",
        "Utc::now",
        "Instant::now",
        "crate::cluster",
        "crate::controller",
        "crate::clock",
        "crate::settings",
        "crate::app",
        "crate::cli",
        "rand",
    ];
    let found: Vec<String> = offences("plan", &words).into_iter().filter(|line| !line.contains("operand")).collect();
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn resources_know_nobody() {
    let words = [
        "crate::plan",
        "crate::cluster",
        "crate::controller",
        "crate::operator",
        "crate::app",
        "crate::cli",
        "tokio",
        "tracing",
    ];
    assert_eq!(offences("api", &words), Vec::<String>::new());
}

#[test]
fn the_cluster_does_not_know_its_loop() {
    assert_eq!(
        offences("cluster", &["crate::controller", "crate::operator", "crate::app", "crate::cli", "crate::settings"]),
        Vec::<String>::new()
    );
}

#[test]
fn the_plugin_is_a_client_like_any_other() {
    let words = ["crate::cluster", "crate::controller", "crate::app", "crate::settings", "crate::let_go", "jiff"];
    assert_eq!(offences("cli", &words), Vec::<String>::new());
    assert_eq!(offences("controller", &["crate::cli"]), Vec::<String>::new());
}

#[test]
fn the_store_and_the_gateway_know_nothing_of_the_loop() {
    let cluster = ["kube", "k8s_openapi", "crate::plan", "crate::cluster", "crate::api", "crate::gateway", "axum"];
    assert_eq!(offences("store", &cluster), Vec::<String>::new());
    assert_eq!(
        offences("gateway", &["crate::controller", "crate::operator", "crate::app", "crate::cli"]),
        Vec::<String>::new()
    );
    for folder in ["plan", "cluster", "controller"] {
        assert_eq!(offences(folder, &["crate::gateway", "crate::store"]), Vec::<String>::new());
    }
}

#[test]
fn the_gateway_writes_in_few_places() {
    let writes = ["api.create(", "api.patch(", "api.patch_status(", "api.delete(", "reviews.create(", "Patch::"];
    // Launches and ends; reviews, which change nothing; the head of the audit; the gateway's own Lease; what is pruned.
    let writers =
        ["act.rs", "caller.rs", "rights.rs", "head.rs", "lease.rs", "prune.rs"].map(|file| format!("gateway/{file}"));
    let found: Vec<String> = offences("gateway", &writes)
        .into_iter()
        .filter(|line| !writers.iter().any(|writer| line.contains(writer.as_str())))
        .collect();
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn only_the_writers_write() {
    let writes = [".create(", ".patch(", ".patch_status(", ".delete(", ".replace(", "Request::post", "Patch::"];
    // The last asks by a dry run.
    let writers = ["cluster/apply.rs", "cluster/apply/", "cluster/lease.rs", "cluster/dial/credentials.rs"];
    let found: Vec<String> = offences("cluster", &writes)
        .into_iter()
        .chain(offences("controller", &writes))
        .filter(|line| !writers.iter().any(|writer| line.contains(writer)))
        .collect();
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn no_code_deletes_a_claim() {
    let claims = offences("cluster", &["PersistentVolumeClaim"]);
    assert!(claims.iter().all(|line| line.contains("cluster/apply.rs")), "{claims:?}");
    // Nor may its role allow it, in whatever way the chart is used.
    let golden = Path::new("charts/berth/golden");
    let mut rules = 0;
    for file in fs::read_dir(golden).unwrap() {
        let render = fs::read_to_string(file.unwrap().path()).unwrap();
        for (rule, verbs) in render.lines().zip(render.lines().skip(1)) {
            // An administrator's role lists many resources in a line; the operator's has this one alone.
            if rule.trim() == "resources: [persistentvolumeclaims]" {
                assert_eq!(verbs.trim(), "verbs: [get, create]");
                rules += 1;
            }
        }
    }
    assert!(rules > 4, "the renders have {rules} such rules");
}

#[test]
fn jiff_is_named_in_one_file() {
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in ["api", "plan", "cluster", "controller"] {
        files.extend(lines_of(folder).into_iter().filter(|(_, line)| line.contains("jiff")).map(|(file, _)| file));
    }
    files.dedup();
    assert!(files.iter().all(|file| file.ends_with("api/time.rs")), "{files:?}");
}
