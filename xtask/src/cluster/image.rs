//! Images on the real node: the small one that the cluster itself needs, and any other from an archive.
//!
//! There is no registry. An image comes as an archive in Docker's format and is imported into containerd.

use super::layout::{BUSYBOX_IMAGE, Layout, PAUSE_IMAGE};
use super::node::in_box;
use crate::run::{Run, step};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// The label on an image of the node that says which image configuration it was imported from.
const LABEL: &str = "berth.dev/config";

/// Brings an archive's images to the node, unless they are there already.
pub fn load(layout: &Layout, init: i32, archive: &Path) -> Result<()> {
    let images = images_in(archive)?;
    let here = in_box(layout, init).args(["ctr", "images", "list"]).output()?;
    let has = |(name, config): &(String, String)| {
        here.lines()
            .any(|line| line.split_whitespace().next() == Some(name) && line.contains(&format!("{LABEL}={config}")))
    };
    if images.iter().all(has) {
        return Ok(());
    }
    let names: Vec<_> = images.iter().map(|(name, _)| name.as_str()).collect();
    step(&format!("{}: bringing it to the node", names.join(", ")), || {
        in_box(layout, init).args(["ctr", "images", "import"]).arg(archive).log(layout.log("import")).quiet()?;
        for (name, config) in &images {
            // Said last, so that an import cut short is done again.
            in_box(layout, init).args(["ctr", "images", "label", name, &format!("{LABEL}={config}")]).quiet()?;
        }
        Ok(())
    })
}

/// The names in an archive, each with the digest of its image's configuration.
fn images_in(archive: &Path) -> Result<Vec<(String, String)>> {
    let text = Run::new("tar")
        .arg("-xOf")
        .arg(archive)
        .arg("manifest.json")
        .advice("an image archive in Docker's format is needed (`docker save`, `buildah push … docker-archive:`)")
        .output()?;
    let manifest: Value = serde_json::from_str(&text)
        .with_context(|| format!("{} has an unreadable manifest.json", archive.display()))?;
    let mut images = Vec::new();
    for image in manifest.as_array().into_iter().flatten() {
        let config = image["Config"].as_str().unwrap_or_default();
        for name in image["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            images.push((name.to_owned(), label_value(config)));
        }
    }
    anyhow::ensure!(!images.is_empty(), "{} names no image", archive.display());
    Ok(images)
}

/// Writers name the configuration by its digest, with or without a folder and an ending.
fn label_value(config: &str) -> String {
    config.trim_end_matches(".json").rsplit('/').next().unwrap_or_default().replace(':', "-")
}

/// Makes the cluster's own small image, under two names, and brings it to the node.
pub fn ensure_base(layout: &Layout, init: i32) -> Result<()> {
    let archive = layout.at("base-image.tar");
    if !Path::new(&archive).exists() {
        let folder = layout.at("base-image");
        if Path::new(&folder).exists() {
            fs::remove_dir_all(&folder)?;
        }
        build_base(Path::new(&folder), Path::new(&archive))?;
    }
    load(layout, init, Path::new(&archive))
}

fn build_base(folder: &Path, archive: &Path) -> Result<()> {
    let root = folder.join("root");
    let bin = root.join("bin");
    for name in ["bin", "etc", "root", "tmp", "var"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::set_permissions(root.join("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o1777))?;
    fs::copy("/bin/busybox", bin.join("busybox")).context("the Debian package busybox-static is missing")?;
    for applet in Run::new("/bin/busybox").arg("--list").output()?.lines() {
        if applet != "busybox" {
            symlink("busybox", bin.join(applet))?;
        }
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\n")?;
    let layer = folder.join("layer.tar");
    pack(&layer, &root, &["."])?;
    let digest = sha256(&layer)?;
    let (pause, pause_name) = config(&digest, &["/bin/sleep", "2147483647"]);
    let (shell, shell_name) = config(&digest, &["/bin/sh"]);
    let pause_file = write_config(folder, pause, pause_name)?;
    let shell_file = write_config(folder, shell, shell_name)?;
    let manifest = json!([
        {"Config": pause_file, "RepoTags": [PAUSE_IMAGE], "Layers": ["layer.tar"]},
        {"Config": shell_file, "RepoTags": [BUSYBOX_IMAGE], "Layers": ["layer.tar"]},
    ]);
    fs::write(folder.join("manifest.json"), serde_json::to_vec(&manifest)?)?;
    let unfinished = folder.join("image.tar");
    pack(&unfinished, folder, &["manifest.json", &pause_file, &shell_file, "layer.tar"])?;
    fs::rename(&unfinished, archive)?;
    Ok(fs::remove_dir_all(folder)?)
}

fn config(layer: &str, command: &[&str]) -> (Value, &'static str) {
    let name = if command.len() > 1 { "pause" } else { "busybox" };
    let value = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {"Cmd": command, "Env": ["PATH=/bin"], "Labels": {"name": name}},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
        "history": [{"created_by": "cargo xtask cluster up"}],
    });
    (value, name)
}

fn write_config(folder: &Path, config: Value, name: &str) -> Result<String> {
    let unnamed = folder.join(name);
    fs::write(&unnamed, serde_json::to_vec(&config)?)?;
    let file = format!("{}.json", sha256(&unnamed)?);
    fs::rename(unnamed, folder.join(&file))?;
    Ok(file)
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn pack(archive: &Path, folder: &Path, names: &[&str]) -> Result<()> {
    Run::new("tar")
        .args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "-cf"])
        .arg(archive)
        .arg("-C")
        .arg(folder)
        .args(names)
        .quiet()
}

fn sha256(file: &Path) -> Result<String> {
    let line = Run::new("sha256sum").arg(file).output()?;
    Ok(line.split_whitespace().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::label_value;

    #[test]
    fn an_image_is_known_by_its_configuration() {
        assert_eq!(label_value("abc.json"), "abc");
        assert_eq!(label_value("blobs/sha256/abc"), "abc");
        assert_eq!(label_value("sha256:abc.json"), "sha256-abc");
    }
}
