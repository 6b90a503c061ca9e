//! Bills of materials, as CycloneDX JSON: of the program, by cargo-cyclonedx from the commit's `Cargo.lock`; of an image,
//! from the package records in it. Owns what they say; two of the same commit and packages are alike.

use super::{Arch, Source, binary};
use crate::cache::Cache;
use crate::compile;
use crate::run::Run;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The version of cargo-cyclonedx, built from its package on first use.
const CYCLONEDX: &str = "0.5.9";
/// The version of the format.
const SPEC: &str = "1.5";
/// What a bill says where a path of this machine would stand.
const FOLDER: &str = "/berth";

/// The bill of the program for an architecture: every crate that is compiled into it or builds it.
pub fn of_binary(cache: &Cache, source: &Source, arch: Arch) -> Result<Value> {
    let tool = compile::tool(cache, "cargo-cyclonedx", CYCLONEDX)?;
    let scratch = std::env::temp_dir().join(format!("berth-sbom-{}-{}", std::process::id(), arch.name()));
    let made = exported(&scratch).and_then(|()| {
        Run::new(&tool)
            .dir(&scratch)
            .env("SOURCE_DATE_EPOCH", source.epoch.to_string())
            .args(["cyclonedx", "--format", "json", "--spec-version", SPEC, "--describe", "binaries"])
            .args(["--target", binary::triple(arch)])
            .quiet()?;
        let text = fs::read_to_string(scratch.join("berth_bin.cdx.json")).context("cargo-cyclonedx wrote no bill")?;
        Ok(serde_json::from_str(&text.replace(&*scratch.to_string_lossy(), FOLDER))?)
    });
    let _ = fs::remove_dir_all(&scratch);
    made
}

/// The commit's files, in a folder where the tool may write.
fn exported(scratch: &Path) -> Result<()> {
    fs::create_dir_all(scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    let archive = scratch.join("source.tar");
    let git = Run::new("git").dir(compile::root()).args(["archive", "--format=tar", "--output"]).arg(&archive);
    git.arg("HEAD").quiet()?;
    Run::new("tar").arg("-xf").arg(&archive).arg("-C").arg(scratch).quiet()
}

/// The bill of an image: the packages whose records it has, and the program with its crates where it has that.
pub fn of_image(archive: &Path, name: &str, source: &Source, arch: Arch, program: Option<&Value>) -> Result<Value> {
    let records = records(archive)?;
    let mut components = components(&records)?;
    if let Some(program) = program {
        components.push(program["metadata"]["component"].clone());
        components.extend(program["components"].as_array().into_iter().flatten().cloned());
    }
    let labels: Vec<Value> =
        source.origin().into_iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let reference = format!("{name}@{}", source.version);
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "version": 1,
        "metadata": {
            "timestamp": source.created,
            "component": {
                "type": "container",
                "bom-ref": reference,
                "name": name,
                "version": source.version,
                "properties": labels,
            },
            "properties": [{ "name": "architecture", "value": arch.name() }],
        },
        "components": components,
    }))
}

/// Whether a bill has these components: what could not be missing from a right one.
pub fn names(bill: &Value, wanted: &[&str]) -> Result<()> {
    let there: BTreeSet<&str> = bill["components"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|component| component["name"].as_str())
        .collect();
    let missing: Vec<&&str> = wanted.iter().filter(|name| !there.contains(**name)).collect();
    ensure!(missing.is_empty(), "the bill of {} components does not have {missing:?}", there.len());
    Ok(())
}

/// Writes a bill.
pub fn write(path: &Path, bill: &Value) -> Result<PathBuf> {
    fs::write(path, format!("{bill:#}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path.to_owned())
}

/// The files of an image that say what it is made of, by their paths.
fn records(archive: &Path) -> Result<BTreeMap<String, String>> {
    let open = || File::open(archive).with_context(|| format!("cannot read {}", archive.display()));
    let mut manifest = Value::Null;
    let mut layers: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for entry in tar::Archive::new(open()?).entries_with_seek()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        if name == "manifest.json" {
            manifest = serde_json::from_reader(entry).context("the archive's manifest.json is no JSON")?;
        } else if name.ends_with(".tar") && entry.header().entry_type().is_file() {
            layers.insert(name, layer(&mut entry)?);
        }
    }
    let order = manifest[0]["Layers"].as_array().context("the archive's manifest.json names no layers")?;
    let mut found = BTreeMap::new();
    for name in order.iter().filter_map(Value::as_str) {
        // A later layer's file is the one that is seen.
        found.extend(layers.remove(name).with_context(|| format!("the archive has no layer {name}"))?);
    }
    Ok(found)
}

fn layer(read: &mut impl Read) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(read).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
        if is_record(&path) && entry.header().entry_type().is_file() {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            found.insert(path, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    Ok(found)
}

fn is_record(path: &str) -> bool {
    let debian = path == "var/lib/dpkg/status" || path.starts_with("var/lib/dpkg/status.d/");
    let owned = path.starts_with("var/lib/dpkg/info/") && path.ends_with(".list");
    debian || owned || is_python(path) || path == "etc/os-release" || path == "usr/lib/os-release"
}

/// Whether it is a Python package's own record: in a folder, or, of older packages, a file by itself.
fn is_python(path: &str) -> bool {
    path.ends_with(".dist-info/METADATA") || path.ends_with(".egg-info/PKG-INFO") || path.ends_with(".egg-info")
}

/// What the records name: the system, its packages, and Python packages that belong to none of them.
fn components(records: &BTreeMap<String, String>) -> Result<Vec<Value>> {
    let os = records.get("etc/os-release").or_else(|| records.get("usr/lib/os-release"));
    let os = os.context("the image does not say which system it is made of")?;
    let said = |key: &str| {
        let line = os.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned()).unwrap_or_default()
    };
    let (id, version) = (said("ID"), said("VERSION_ID"));
    let system =
        json!({ "type": "operating-system", "bom-ref": format!("{id}-{version}"), "name": id, "version": version });
    let mut found = BTreeMap::new();
    for (path, text) in records.iter().filter(|(path, _)| path.starts_with("var/lib/dpkg/status")) {
        for stanza in text.split("\n\n").filter(|stanza| !stanza.trim().is_empty()) {
            if let Some((purl, component)) = package(stanza, &id, &version).with_context(|| format!("in {path}"))? {
                found.insert(purl, component);
            }
        }
    }
    ensure!(!found.is_empty(), "the image has no records of its packages");
    let lists = records.iter().filter(|(path, _)| path.ends_with(".list"));
    let owned: BTreeSet<&str> =
        lists.flat_map(|(_, text)| text.lines()).map(|line| line.trim_start_matches('/')).collect();
    for (_, text) in records.iter().filter(|(path, _)| is_python(path) && !owned.contains(path.as_str())) {
        let (name, version) = (field(text, "Name"), field(text, "Version"));
        let (name, version) = name.zip(version).context("a Python package names no name or no version")?;
        let purl = format!("pkg:pypi/{}@{}", encoded(&name.to_lowercase()), encoded(&version));
        let component = json!({ "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl });
        found.insert(purl, component);
    }
    Ok(std::iter::once(system).chain(found.into_values()).collect())
}

/// A package of Debian's from its record, by its package URL; nothing where it is not installed.
fn package(stanza: &str, id: &str, release: &str) -> Result<Option<(String, Value)>> {
    let said = |key: &str| field(stanza, key).with_context(|| format!("a package without {key}"));
    if field(stanza, "Status").is_some_and(|status| !status.ends_with(" installed")) {
        return Ok(None);
    }
    let (name, version, arch) = (said("Package")?, said("Version")?, said("Architecture")?);
    let mut purl = format!("pkg:deb/{id}/{}@{}?arch={arch}&distro={id}-{release}", encoded(&name), encoded(&version));
    // Weaknesses are told of source packages.
    if let Some(from) = field(stanza, "Source") {
        let (from, of) = from.split_once(" (").map_or((from.as_str(), None), |(name, of)| (name, of.strip_suffix(')')));
        purl.push_str(&format!("&upstream={}", encoded(&format!("{from}@{}", of.unwrap_or(&version)))));
    }
    let mut component = json!({ "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl });
    if let Some(maintainer) = field(stanza, "Maintainer") {
        component["publisher"] = json!(maintainer);
    }
    Ok(Some((purl, component)))
}

/// The value of a one-line field.
fn field(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": ")).map(|value| value.trim().to_owned())
}

/// Text as a package URL has it.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::source::example;
    use super::*;

    fn image(layers: &[&[(&str, &str)]]) -> Result<PathBuf> {
        let name = format!("berth-sbom-test-{}-{:?}.tar", std::process::id(), std::thread::current().id());
        let path = std::env::temp_dir().join(name);
        let append = |tar: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]| -> Result<()> {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            Ok(tar.append_data(&mut header, name, bytes)?)
        };
        let mut outer = tar::Builder::new(Vec::new());
        // Not in their order: the manifest decides.
        for (index, files) in layers.iter().enumerate().rev() {
            let mut inner = tar::Builder::new(Vec::new());
            for (name, text) in *files {
                append(&mut inner, name, text.as_bytes())?;
            }
            append(&mut outer, &format!("{index}.tar"), &inner.into_inner()?)?;
        }
        let order: Vec<String> = (0..layers.len()).map(|index| format!("{index}.tar")).collect();
        append(&mut outer, "manifest.json", json!([{ "Layers": order }]).to_string().as_bytes())?;
        fs::write(&path, outer.into_inner()?)?;
        Ok(path)
    }

    const OS: (&str, &str) = ("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n");
    const OLD: &str = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n";
    const NEW: &str = "Package: libc6\nStatus: install ok installed\nSource: glibc\nArchitecture: amd64\nVersion: 1:2+x\n\n\
        Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n\
        Package: gcc\nSource: gcc-12 (12.2-3)\nMaintainer: People\nArchitecture: all\nVersion: 4\n";

    #[test]
    fn the_bill_of_an_image_has_what_is_installed_in_its_last_layer() -> Result<()> {
        let archive = image(&[&[OS, ("var/lib/dpkg/status", OLD)], &[("var/lib/dpkg/status", NEW)]])?;
        let bill = of_image(&archive, "berth-x", &example(), Arch::Amd64, None)?;
        let purls: Vec<&str> =
            bill["components"].as_array().into_iter().flatten().filter_map(|one| one["purl"].as_str()).collect();
        let expected = [
            "pkg:deb/debian/gcc@4?arch=all&distro=debian-12&upstream=gcc-12%4012.2-3",
            "pkg:deb/debian/libc6@1%3A2%2Bx?arch=amd64&distro=debian-12&upstream=glibc%401%3A2%2Bx",
        ];
        assert_eq!(purls, expected);
        assert_eq!(bill["components"][0]["type"], "operating-system");
        assert!(names(&bill, &["gcc", "libc6"]).is_ok());
        assert!(names(&bill, &["gone"]).is_err());
        Ok(fs::remove_file(archive)?)
    }

    #[test]
    fn a_python_package_of_no_debian_package_is_told_by_itself() -> Result<()> {
        let python = "Metadata-Version: 2.1\nName: JupyterLab\nVersion: 4.0\n";
        let path = |name: &str| format!("usr/lib/python3/dist-packages/{name}.dist-info/METADATA");
        let (lab, owned) = (path("jupyterlab"), path("numpy"));
        let list = format!("/.\n/{owned}\n");
        let files = [
            OS,
            ("var/lib/dpkg/status.d/libc6", OLD),
            ("var/lib/dpkg/info/numpy.list", &list),
            (&lab, python),
            (&owned, "Name: numpy\nVersion: 2\n"),
        ];
        let archive = image(&[&files])?;
        let program = json!({ "metadata": { "component": { "name": "berth" } }, "components": [{ "name": "kube" }] });
        let bill = of_image(&archive, "berth-x", &example(), Arch::Amd64, Some(&program))?;
        names(&bill, &["libc6", "JupyterLab", "berth", "kube"])?;
        assert!(names(&bill, &["numpy"]).is_err());
        Ok(fs::remove_file(archive)?)
    }

    #[test]
    fn an_image_that_says_nothing_of_its_packages_has_no_bill() -> Result<()> {
        let archive = image(&[&[OS]])?;
        let error = of_image(&archive, "berth-x", &example(), Arch::Amd64, None);
        assert!(error.is_err_and(|error| error.to_string().contains("no records")));
        Ok(fs::remove_file(archive)?)
    }
}
