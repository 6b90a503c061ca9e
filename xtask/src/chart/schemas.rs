//! Every object that the chart renders, and every example, held to its kind's own schema: an unknown field is an error.
//!
//! Owns where the schemas come from and how they are made strict. They are made on first use, into the cache, from what
//! the kinds' own projects publish as Go modules, and from our CRDs; kubeconform compares. What it cannot find a schema for
//! fails.

use crate::cache::Cache;
use crate::cluster::KUBERNETES;
use crate::cluster::tools::KUBECONFORM;
use crate::compile;
use crate::images::short_digest;
use crate::run::{Run, step};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// The Prometheus operator's module, its version and its checksum. It is only read: nothing of it is built.
const PROMETHEUS_OPERATOR: (&str, &str, &str) = (
    "github.com/prometheus-operator/prometheus-operator",
    "v0.92.0",
    "h1:tAbsod3+9sQsxDeAvLP27dAe9terToht5M+YdDwLGP0=",
);
/// Where that module has the definition of a kind, by its plural name.
const MONITORING: [&str; 2] = ["servicemonitors", "prometheusrules"];
/// The Gateway API's module, read as the other is.
const GATEWAY_API: (&str, &str, &str) =
    ("sigs.k8s.io/gateway-api", "v1.4.0", "h1:ZwlNM6zOHq0h3WUX2gfByPs2yAEsy/EenYJB78jpQfQ=");
/// The file that Kubernetes' own kinds and the metadata of all others are defined in.
const DEFINITIONS: &str = "definitions.json";
/// How kubeconform finds a kind's file.
const LOCATION: &str = "{{ .ResourceKind }}_{{ .Group }}_{{ .ResourceAPIVersion }}.json";

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const CRD_PACKAGE: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

/// Holds these files, and those in these folders, to the schemas.
pub fn check(cache: &Cache, paths: &[PathBuf]) -> Result<()> {
    let folder = published(cache)?;
    let ours = our_own(&folder)?;
    let location = |folder: &Path| folder.join(LOCATION);
    let printed = Run::new(KUBECONFORM.ensure(cache)?)
        .args(["-strict", "-summary", "-output", "json"])
        .arg("-schema-location")
        .arg(location(&folder))
        .arg("-schema-location")
        .arg(location(&ours))
        .args(paths)
        // What is wrong stands in what it prints.
        .output_however()?;
    let report: Value = serde_json::from_str(&printed).with_context(|| format!("kubeconform printed: {printed}"))?;
    judge(&report, objects_in(paths)?)
}

/// Says what kubeconform found, and that it looked at as many objects as there are.
fn judge(report: &Value, expected: usize) -> Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let wrong: Vec<String> = report["resources"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|found| {
            format!(
                "{}: {} {}: {}",
                text(&found["filename"]),
                text(&found["kind"]),
                text(&found["name"]),
                text(&found["msg"])
            )
        })
        .collect();
    ensure!(wrong.is_empty(), "not as the schemas of their kinds have it:\n{}", wrong.join("\n"));
    let count = |what: &str| report["summary"][what].as_u64().unwrap_or_default();
    let valid = usize::try_from(count("valid"))?;
    let others = count("invalid") + count("errors") + count("skipped");
    ensure!(others == 0 && valid == expected, "{valid} of {expected} objects were held to a schema");
    Ok(())
}

/// How many objects the files hold.
fn objects_in(paths: &[PathBuf]) -> Result<usize> {
    let mut count = 0;
    for path in paths {
        let files = if path.is_dir() {
            fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?
        } else {
            vec![path.clone()]
        };
        for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "yaml")) {
            let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            count += text.lines().filter(|line| line.starts_with("kind:")).count();
        }
    }
    Ok(count)
}

/// The schemas of Kubernetes and of the Prometheus operator, in a folder that is known by their versions and by this file.
fn published(cache: &Cache) -> Result<PathBuf> {
    let key = short_digest(&format!("{KUBERNETES} {PROMETHEUS_OPERATOR:?} {}", include_str!("schemas.rs")))?;
    make_once(&cache.tools(&format!("schemas-{key}")), |folder| {
        step("schemas: making them from Go modules, on first use only", || {
            let (kubernetes, _) = module("k8s.io/kubernetes", KUBERNETES)?;
            let published = fs::read_to_string(kubernetes.join("api/openapi-spec/swagger.json"))
                .context("Kubernetes' module has no swagger.json where it was")?;
            builtin(folder, serde_json::from_str(&published)?)?;
            let operator = pinned(PROMETHEUS_OPERATOR)?;
            let routes = "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml";
            custom(folder, DEFINITIONS, &pinned(GATEWAY_API)?.join(routes))?;
            for plural in MONITORING {
                let name = format!("example/prometheus-operator-crd/monitoring.coreos.com_{plural}.yaml");
                custom(folder, DEFINITIONS, &operator.join(name))?;
            }
            Ok(())
        })
    })
}

/// The schemas of our own kinds, in a folder beside the others that is known by the CRDs.
fn our_own(published: &Path) -> Result<PathBuf> {
    let crds = super::crd_files();
    let mut all = String::new();
    for crd in &crds {
        all.push_str(&fs::read_to_string(crd).with_context(|| format!("cannot read {}", crd.display()))?);
    }
    make_once(&published.join(format!("ours-{}", short_digest(&all)?)), |folder| {
        crds.iter().try_for_each(|crd| custom(folder, &format!("../{DEFINITIONS}"), crd))
    })
}

/// Makes a folder unless it is there. There is never half of one.
fn make_once(folder: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    if !folder.exists() {
        let unfinished = folder.with_extension(format!("unfinished-{}", std::process::id()));
        fs::create_dir_all(&unfinished).with_context(|| format!("cannot create {}", unfinished.display()))?;
        make(&unfinished)?;
        // Another run may have been quicker; what it made is the same.
        if fs::rename(&unfinished, folder).is_err() {
            ensure!(folder.exists(), "cannot create {}", folder.display());
            fs::remove_dir_all(&unfinished)?;
        }
    }
    Ok(folder.to_owned())
}

/// The folder of a Go module that is what it was when it was chosen.
fn pinned((path, version, sum): (&str, &str, &str)) -> Result<PathBuf> {
    let (folder, found) = module(path, version)?;
    ensure!(found == sum, "{path} {version} has the checksum {found}, not {sum}");
    Ok(folder)
}

/// A Go module's folder in Go's cache, and its checksum. Where a `go.sum` has it, Go compares; the module of the test
/// cluster's tools has Kubernetes.
fn module(path: &str, version: &str) -> Result<(PathBuf, String)> {
    let printed = Run::new("go")
        .dir(compile::root().join("testbed/tools/kubernetes"))
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .args(["mod", "download", "-json", &format!("{path}@{version}")])
        .advice("modules come through the Go module proxy: is it reachable (go env GOPROXY)?")
        .output()?;
    let told: Value = serde_json::from_str(&printed)?;
    match (told["Dir"].as_str(), told["Sum"].as_str()) {
        (Some(folder), Some(sum)) => Ok((folder.into(), sum.to_owned())),
        _ => bail!("go says nothing of {path} {version}: {printed}"),
    }
}

/// Writes the schemas of Kubernetes' own kinds: one file with all definitions, and a file for each kind that points in.
fn builtin(folder: &Path, mut swagger: Value) -> Result<()> {
    let Value::Object(published) = swagger["definitions"].take() else {
        bail!("Kubernetes' swagger.json has no definitions");
    };
    let mut definitions = Map::new();
    for (name, definition) in published {
        for kind in definition["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
            let part = |key: &str| kind[key].as_str().unwrap_or_default();
            let schema = json!({ "$ref": format!("{DEFINITIONS}#/definitions/{name}") });
            write(folder, part("kind"), part("group"), part("version"), &schema)?;
        }
        definitions.insert(name.clone(), open(&name).unwrap_or_else(|| strict(&definition)));
    }
    fs::write(folder.join(DEFINITIONS), json!({ "definitions": definitions }).to_string())?;
    Ok(())
}

/// The definitions that OpenAPI cannot say in full: what the API server takes there.
fn open(name: &str) -> Option<Value> {
    let props = json!({ "$ref": format!("#/definitions/{CRD_PACKAGE}.JSONSchemaProps") });
    let strings = json!({ "type": "array", "items": { "type": "string" } });
    match name.strip_prefix(CRD_PACKAGE).unwrap_or(name) {
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => Some(json!({ "type": ["integer", "string"] })),
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => Some(json!({ "type": ["number", "string"] })),
        ".JSONSchemaPropsOrBool" => Some(json!({ "anyOf": [{ "type": "boolean" }, props] })),
        ".JSONSchemaPropsOrArray" => Some(json!({ "anyOf": [{ "type": "array", "items": props }, props] })),
        ".JSONSchemaPropsOrStringArray" => Some(json!({ "anyOf": [strings, props] })),
        _ => None,
    }
}

/// Writes the schemas of the versions of a CRD. The metadata, which a CRD leaves open, is Kubernetes' own.
fn custom(folder: &Path, definitions: &str, crd: &Path) -> Result<()> {
    let text = fs::read_to_string(crd).with_context(|| format!("cannot read {}", crd.display()))?;
    let crd: Value = serde_saphyr::from_str(&text).with_context(|| format!("{} is no YAML", crd.display()))?;
    let named = |value: &Value| value.as_str().map(str::to_owned).context("a CRD lacks a name");
    let (group, kind) = (named(&crd["spec"]["group"])?, named(&crd["spec"]["names"]["kind"])?);
    for version in crd["spec"]["versions"].as_array().context("a CRD lacks versions")? {
        let mut schema = strict(&version["schema"]["openAPIV3Schema"]);
        let properties = schema["properties"].as_object_mut().with_context(|| format!("{kind} has no properties"))?;
        properties.insert("apiVersion".to_owned(), json!({ "type": "string" }));
        properties.insert("kind".to_owned(), json!({ "type": "string" }));
        properties
            .insert("metadata".to_owned(), json!({ "$ref": format!("{definitions}#/definitions/{OBJECT_META}") }));
        write(folder, &kind, &group, &named(&version["name"])?, &schema)?;
    }
    Ok(())
}

fn write(folder: &Path, kind: &str, group: &str, version: &str, schema: &Value) -> Result<()> {
    // kubeconform writes kinds small, and takes the version of the core group for its group.
    let group = if group.is_empty() { version } else { group };
    let path = folder.join(format!("{}_{group}_{version}.json", kind.to_lowercase()));
    fs::write(&path, schema.to_string()).with_context(|| format!("cannot write {}", path.display()))
}

/// A schema of OpenAPI as one of JSON Schema that takes no field which it does not name.
fn strict(schema: &Value) -> Value {
    let Value::Object(schema) = schema else { return schema.clone() };
    let mut made = Map::new();
    for (key, value) in schema {
        let value = match (key.as_str(), value) {
            // For people, and for those who read OpenAPI; a name under `properties` never comes by here.
            ("description" | "default" | "example" | "nullable", _) => continue,
            (key, _) if key.starts_with("x-") => continue,
            ("properties", Value::Object(fields)) => {
                fields.iter().map(|(name, field)| (name.clone(), strict(field))).collect()
            }
            ("items" | "additionalProperties", inner) => strict(inner),
            // Parts of these name only some of the fields.
            (_, other) => other.clone(),
        };
        made.insert(key.clone(), value);
    }
    let says = |key: &str| schema.get(key) == Some(&Value::Bool(true));
    if says("x-kubernetes-int-or-string") {
        made.insert("type".to_owned(), json!(["integer", "string"]));
    }
    if made.contains_key("properties") && !says("x-kubernetes-preserve-unknown-fields") {
        made.entry("additionalProperties").or_insert(Value::Bool(false));
    }
    if says("nullable") { json!({ "anyOf": [{ "type": "null" }, made] }) } else { Value::Object(made) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_takes_the_fields_that_it_names_and_no_others() {
        let made = strict(&json!({
            "type": "object",
            "description": "for people",
            "properties": {
                "description": { "type": "string", "description": "for people" },
                "list": { "type": "array", "items": { "type": "object", "properties": { "a": {} } } },
                "port": { "x-kubernetes-int-or-string": true, "anyOf": [{ "type": "integer" }, { "type": "string" }] },
                "maybe": { "type": "string", "nullable": true },
            },
        }));
        let expected = json!({
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "description": { "type": "string" },
                "list": {
                    "type": "array",
                    "items": { "type": "object", "additionalProperties": false, "properties": { "a": {} } },
                },
                "port": {
                    "type": ["integer", "string"],
                    "anyOf": [{ "type": "integer" }, { "type": "string" }],
                },
                "maybe": { "anyOf": [{ "type": "null" }, { "type": "string" }] },
            },
        });
        assert_eq!(made, expected);
    }

    #[test]
    fn what_is_left_open_stays_open() {
        let open = json!({ "type": "object", "properties": { "a": {} }, "x-kubernetes-preserve-unknown-fields": true });
        assert_eq!(strict(&open), json!({ "type": "object", "properties": { "a": {} } }));
        let labels = json!({ "type": "object", "additionalProperties": { "type": "string" } });
        assert_eq!(strict(&labels), labels);
        assert_eq!(strict(&json!({ "type": "object" })), json!({ "type": "object" }));
    }

    #[test]
    fn an_object_that_nobody_looked_at_is_told_about() {
        let report = |valid: u32, skipped: u32| json!({ "summary": { "valid": valid, "skipped": skipped } });
        assert!(judge(&report(3, 0), 3).is_ok());
        assert!(judge(&report(2, 0), 3).is_err());
        assert!(judge(&report(3, 1), 3).is_err());
        let wrong =
            json!({ "resources": [{ "kind": "Job", "name": "a", "msg": "not allowed" }], "summary": { "valid": 3 } });
        assert!(judge(&wrong, 3).is_err_and(|error| error.to_string().contains("Job a: not allowed")));
    }
}
