//! The chart: what in it is made from elsewhere, and the checks that need no cluster. Owns which files those are and
//! with which tools they are made; the chart itself lies in `charts/berth`. What kinds of objects take is `schemas`'.

mod schemas;

use crate::cache::Cache;
use crate::cluster::tools::{HELM, HELM_DOCS, HELM_UNITTEST, PROMTOOL};
use crate::compile;
use crate::release::Source;
use crate::run::{Run, step};
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

/// What the release is called, and where it goes, in the golden renders as on a cluster.
const RELEASE: [&str; 4] = ["berth", ".", "--namespace", "berth-system"];

/// Our kinds, by the names of their files.
const KINDS: [&str; 3] = ["sessionpolicies", "sessions", "workspaces"];

/// A file that is made, with what it is to hold.
struct Made {
    path: PathBuf,
    text: String,
}

/// Writes anew what is made.
pub fn generate(cache: &Cache) -> Result<()> {
    step("generating what the chart is made of", || {
        for made in crds()?.into_iter().chain([admission()?]) {
            fs::write(&made.path, &made.text).with_context(|| format!("cannot write {}", made.path.display()))?;
        }
        for made in rendered(cache)? {
            fs::write(&made.path, &made.text).with_context(|| format!("cannot write {}", made.path.display()))?;
        }
        Ok(())
    })
}

/// Checks the chart, its alerts, and the health checks for Argo CD.
pub fn check(cache: &Cache) -> Result<()> {
    let chart = folder();
    step("chart: what is made is as it would be made", || {
        let drifted: Vec<String> = crds()?
            .into_iter()
            .chain([admission()?])
            .chain(rendered(cache)?)
            .filter(|made| fs::read_to_string(&made.path).ok().as_ref() != Some(&made.text))
            .map(|made| made.path.strip_prefix(compile::root()).unwrap_or(&made.path).display().to_string())
            .collect();
        if !drifted.is_empty() {
            bail!("{} drifted: run `cargo xtask generate`", drifted.join(", "));
        }
        versions_agree()
    })?;
    step("chart: lint", || {
        let helm = HELM.ensure(cache)?;
        for values in values()? {
            Run::new(&helm).dir(&chart).args(["lint", "--strict", ".", "--values"]).arg(&values).quiet()?;
        }
        Ok(())
    })?;
    let examples = compile::root().join("examples");
    let golden = folder().join("golden");
    step("chart and examples: every object by the schema of its kind", || {
        // The folder gitops has other projects' kinds too.
        let named = fs::read_dir(&examples)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        let files = named.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        let paths: Vec<PathBuf> = files.chain([examples.join("sessions"), golden]).collect();
        schemas::check(cache, &paths)
    })?;
    let unit = HELM_UNITTEST.ensure(cache)?;
    step("chart: unit tests", || Run::new(&unit).dir(&chart).args(["--color=false", "."]).quiet())?;
    let promtool = PROMTOOL.ensure(cache)?;
    step("alerts: rules and their tests", || {
        let rules = chart.join("files/alerts.yaml");
        Run::new(&promtool).args(["check", "rules", "--lint=all", "--lint-fatal"]).arg(rules).quiet()?;
        Run::new(&promtool)
            .args(["test", "rules"])
            .arg(compile::root().join("testbed/monitoring/alerts_test.yaml"))
            .quiet()
    })?;
    step("Argo CD: health checks over all fixtures", || {
        Run::new("go")
            .dir(compile::root().join("testbed/argo-health"))
            .env("GOTOOLCHAIN", "local")
            .env("GOFLAGS", "-buildvcs=false")
            .env("GOWORK", "off")
            .args(["test", "./..."])
            .quiet()
    })
}

fn folder() -> PathBuf {
    compile::root().join("charts").join("berth")
}

/// The files of values that stand for the ways in which the chart is used.
fn values() -> Result<Vec<PathBuf>> {
    let folder = folder().join("ci");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut values = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    values.sort();
    Ok(values)
}

/// The CRDs as templates: each is its file in `crds/`, with the annotations and labels of the release.
fn crds() -> Result<Vec<Made>> {
    let mut made = Vec::new();
    for (kind, path) in KINDS.into_iter().zip(crd_files()) {
        let crd = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let text = as_template(&crd).with_context(|| format!("{} has no metadata", path.display()))?;
        made.push(Made { path: folder().join("templates").join(format!("crd-{kind}.yaml")), text });
    }
    Ok(made)
}

/// The files of our CRDs, in the order of [`KINDS`].
fn crd_files() -> Vec<PathBuf> {
    KINDS.map(|kind| compile::root().join("crds").join(format!("{kind}.yaml"))).to_vec()
}

fn as_template(crd: &str) -> Option<String> {
    // A description may hold what Helm would take for its own.
    let text = crd.trim_start_matches("---\n").trim_end().replace("{{", "{{ \"{{\" }}");
    let (head, rest) = text.split_once("\nmetadata:\n")?;
    let (name, rest) = rest.split_once('\n')?;
    Some(format!(
        "{{{{- if .Values.crds.enabled }}}}\n{head}\nmetadata:\n{name}\n  annotations:\n    \
         {{{{- include \"berth.crdAnnotations\" . | nindent 4 }}}}\n  labels:\n    \
         {{{{- include \"berth.crdLabels\" . | nindent 4 }}}}\n{rest}\n{{{{- end }}}}\n"
    ))
}

/// The admission policies as a template: `manifests/admission.yaml`, named and labelled by the release.
fn admission() -> Result<Made> {
    let path = compile::root().join("manifests").join("admission.yaml");
    let policies = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let documents: String = policies.split("---\n").filter(|document| !document.is_empty()).map(released).collect();
    let text = format!("{{{{- if include \"berth.guarded\" . }}}}\n{documents}{{{{- end }}}}\n");
    Ok(Made { path: folder().join("templates").join("admission.yaml"), text })
}

/// A document whose object's name begins with `berth-`, as the release has it.
fn released(document: &str) -> String {
    let lines = document.trim_end().lines().map(|line| match line.split_once(": berth-") {
        Some(("  name", name)) => format!(
            "  name: {{{{ .Release.Name }}}}-{name}\n  labels:\n    {{{{- include \"berth.labels\" (dict \"root\" . \"component\" \
             \"admission\") | nindent 4 }}}}\n"
        ),
        Some(("  policyName", name)) => format!("  policyName: {{{{ .Release.Name }}}}-{name}\n"),
        _ => format!("{}\n", line.replace("{{", "{{ \"{{\" }}")),
    });
    format!("---\n{}", lines.collect::<String>())
}

/// What tools make of the chart: its page, and a golden render for each file of values.
fn rendered(cache: &Cache) -> Result<Vec<Made>> {
    let (chart, helm) = (folder(), HELM.ensure(cache)?);
    let docs = HELM_DOCS.ensure(cache)?;
    let page = Run::new(docs)
        .dir(&chart)
        .args(["--chart-search-root=.", "--skip-version-footer", "--dry-run", "--log-level=error"])
        .output()?;
    // What is printed has a line more than what is written.
    let mut made = vec![Made { path: chart.join("README.md"), text: format!("{}\n", page.trim_end()) }];
    for values in values()? {
        let name = values.file_name().unwrap_or_default().to_string_lossy().replace("-values.yaml", ".yaml");
        let text = Run::new(&helm).dir(&chart).arg("template").args(RELEASE).arg("--values").arg(&values).output()?;
        made.push(Made { path: chart.join("golden").join(name), text });
    }
    Ok(made)
}

/// The chart, the application that it installs, and the crate are of one version.
fn versions_agree() -> Result<()> {
    let chart = fs::read_to_string(folder().join("Chart.yaml"))?;
    let ours = env!("CARGO_PKG_VERSION");
    for key in ["version", "appVersion"] {
        let line = chart.lines().find_map(|line| line.strip_prefix(&format!("{key}:")));
        let written = line.map(|value| value.trim().trim_matches('"'));
        if written != Some(ours) {
            bail!("Chart.yaml has {key} {}, the crate has {ours}", written.unwrap_or("missing"));
        }
    }
    Ok(())
}

/// Packs the chart for a release. What it is made of and when stands in its annotations, which a registry takes over.
pub fn package(cache: &Cache, source: &Source, out: &Path) -> Result<PathBuf> {
    versions_agree()?;
    let scratch = out.join(".chart");
    Run::new("cp").args(["-r", "--no-target-directory"]).arg(folder()).arg(&scratch).quiet()?;
    let file = scratch.join("Chart.yaml");
    let text = annotated(&fs::read_to_string(&file)?, &source.origin()).context("Chart.yaml has no annotations")?;
    fs::write(&file, text)?;
    // Helm gives every file this time.
    let helm = Run::new(HELM.ensure(cache)?).env("SOURCE_DATE_EPOCH", source.epoch.to_string());
    helm.arg("package").arg(&scratch).arg("--destination").arg(out).quiet()?;
    fs::remove_dir_all(&scratch)?;
    Ok(out.join(format!("berth-{}.tgz", source.version)))
}

/// A chart's file with more annotations.
fn annotated(text: &str, annotations: &[(String, String)]) -> Option<String> {
    let (head, rest) = text.split_once("\nannotations:\n")?;
    let lines: String = annotations.iter().map(|(key, value)| format!("  {key}: {}\n", json!(value))).collect();
    Some(format!("{head}\nannotations:\n{lines}{rest}"))
}

/// Writes the CRDs as one file, for those who apply them by hand.
pub fn one_file_of_crds(source: &Source, out: &Path) -> Result<PathBuf> {
    let mut all = String::new();
    for crd in crd_files() {
        all.push_str(&fs::read_to_string(&crd).with_context(|| format!("cannot read {}", crd.display()))?);
    }
    let path = out.join(format!("berth-crds-{}.yaml", source.version));
    fs::write(&path, all).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Installs the chart, or brings an older release to it; returns when what it installs is ready.
pub fn install(cache: &Cache, kubeconfig: &str, namespace: &str, image: &str, values: &[String]) -> Result<()> {
    let (repository, tag) = image.rsplit_once(':').context("an image is a name and a tag")?;
    Run::new(HELM.ensure(cache)?)
        .dir(folder())
        .env("KUBECONFIG", kubeconfig)
        .args(["upgrade", "--install", "berth", ".", "--namespace", namespace, "--wait", "--timeout=180s"])
        // Over what an installation by hand, or by an older xtask, has left.
        .args(["--take-ownership", "--force-conflicts"])
        .args(["--set", &format!("image.repository={repository}"), "--set", &format!("image.tag={tag}")])
        .args(values.iter().flat_map(|value| ["--set", value.as_str()]))
        .quiet()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_added_to_those_that_the_chart_has() {
        let added = [("org.opencontainers.image.revision".to_owned(), "0123".to_owned())];
        let made = annotated("name: berth\nannotations:\n  a/b: c\n", &added);
        let expected = "name: berth\nannotations:\n  org.opencontainers.image.revision: \"0123\"\n  a/b: c\n";
        assert_eq!(made.as_deref(), Some(expected));
        assert_eq!(annotated("name: berth\n", &added), None);
    }

    #[test]
    fn a_crd_becomes_a_template_that_renders_to_itself() {
        let crd = "---\napiVersion: v1\nkind: X\nmetadata:\n  name: a.b\nspec:\n  text: \"{{ x }}\"\n";
        let template = as_template(crd).unwrap();
        assert!(
            template.starts_with("{{- if .Values.crds.enabled }}\napiVersion: v1\nkind: X\nmetadata:\n  name: a.b\n")
        );
        assert!(template.contains("  annotations:\n    {{- include \"berth.crdAnnotations\" . | nindent 4 }}\n"));
        assert!(template.contains("text: \"{{ \"{{\" }} x }}\""));
        assert!(template.ends_with("\n{{- end }}\n"));
    }
}
