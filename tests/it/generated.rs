//! Generated files are those that the code makes. `cargo xtask generate` writes them anew.

use std::fs;

use berth::{install, plan};

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn the_crds_are_those_of_the_types() {
    for (name, crd) in install::crds() {
        let path = format!("crds/{name}");
        assert!(read(&path) == install::yaml(&crd).unwrap(), "{path} has drifted: run `cargo xtask generate`");
    }
}

#[test]
fn the_admission_policies_are_those_of_the_code() {
    let policies = install::admission::policies("berth").unwrap();
    let written = policies.iter().flat_map(|it| [install::yaml(&it.policy), install::yaml(&it.binding)]);
    let written: String = written.map(|document| format!("{}\n", document.unwrap().trim_end())).collect();
    assert!(
        read("manifests/admission.yaml") == written,
        "manifests/admission.yaml has drifted: run `cargo xtask generate`"
    );
}

#[test]
fn every_field_of_ours_has_a_description() {
    for (name, crd) in install::crds() {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        let mut missing = Vec::new();
        undescribed("", &schema["openAPIV3Schema"], &mut missing);
        assert_eq!(missing, Vec::<String>::new(), "{name}");
    }
}

fn undescribed(path: &str, schema: &serde_json::Value, missing: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        // The API server describes these itself.
        if ["apiVersion", "kind", "metadata"].contains(&name.as_str()) && path.matches('.').count() == 1 {
            continue;
        }
        if property["description"].as_str().is_none_or(str::is_empty) && !["spec", "status"].contains(&name.as_str()) {
            missing.push(path.clone());
        }
        undescribed(&path, property, missing);
        undescribed(&path, &property["items"], missing);
    }
}

#[test]
fn the_matrix_in_the_docs_is_that_of_the_code() {
    assert!(
        read("docs/states.md").contains(plan::phase::table().trim()),
        "docs/states.md has drifted: run `cargo xtask generate`"
    );
}

#[test]
fn the_reference_is_that_of_the_types() {
    assert!(
        read("docs/reference.md").trim() == berth::reference::page().trim(),
        "docs/reference.md has drifted: run `cargo xtask generate`"
    );
}

#[test]
fn a_crd_is_small_enough_for_client_side_apply() {
    for (name, crd) in install::crds() {
        let size = serde_json::to_string(&crd).unwrap().len();
        assert!(size < 200_000, "{name} has {size} bytes");
    }
}
