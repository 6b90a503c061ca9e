//! An image archive's names: Docker's format keeps them in one small member, `manifest.json`.
//!
//! Owns giving an archive a second name. buildah writes one, and GNU tar cannot replace a member reliably: its
//! `--delete` has damaged archives of this very shape.

use crate::run::Run;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// The size of a header, and what each member's content is filled up to.
const BLOCK: u64 = 512;
const MANIFEST: &str = "manifest.json";
/// An older form of the manifest, which readers need no longer.
const OLDER: &str = "repositories";

/// Gives the image in an archive one more name.
pub fn add_name(archive: &Path, name: &str) -> Result<()> {
    let text = Run::new("tar").arg("-xOf").arg(archive).arg(MANIFEST).output()?;
    let mut manifest: Value = serde_json::from_str(&text).context("the archive's manifest.json is no JSON")?;
    match manifest.pointer_mut("/0/RepoTags").and_then(Value::as_array_mut) {
        Some(names) => names.push(json!(name)),
        None => bail!("the archive's manifest.json names no image"),
    }
    let mut file = OpenOptions::new().read(true).write(true).open(archive)?;
    let end = manifest_at_the_end(&mut file)?;
    file.set_len(end)?;
    file.seek(SeekFrom::End(0))?;
    // The two empty blocks that end an archive, for tar to append before.
    file.write_all(&[0; 2 * BLOCK as usize])?;
    drop(file);
    let folder = archive.with_extension("manifest");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(MANIFEST), serde_json::to_vec(&manifest)?)?;
    Run::new("tar").arg("-rf").arg(archive).arg("-C").arg(&folder).arg(MANIFEST).quiet()?;
    Ok(fs::remove_dir_all(folder)?)
}

/// Where the manifest's header begins, if nothing that is needed comes after it.
fn manifest_at_the_end(file: &mut File) -> Result<u64> {
    let mut at = 0;
    let mut found = None;
    loop {
        let mut header = [0; BLOCK as usize];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut header).context("the archive ends too early")?;
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        let name = String::from_utf8_lossy(&header[..100]).trim_end_matches('\0').to_owned();
        match (name.as_str(), found) {
            (MANIFEST, _) => found = Some(at),
            (OLDER, _) | (_, None) => {}
            (other, Some(_)) => {
                bail!("{other} comes after {MANIFEST} in the archive: buildah has changed how it writes")
            }
        }
        let size = String::from_utf8_lossy(&header[124..136]);
        let size = size.trim_matches(['\0', ' ']);
        let size = u64::from_str_radix(size, 8).with_context(|| format!("`{size}` is no size of {name}"))?;
        at += BLOCK + size.div_ceil(BLOCK) * BLOCK;
    }
    found.context("the archive has no manifest.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_name_leaves_the_rest_as_it_is() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("berth-archive-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("layer.tar"), vec![7; 70_001])?;
        fs::write(folder.join(MANIFEST), r#"[{"Config":"c.json","RepoTags":["a:1"]}]"#)?;
        fs::write(folder.join(OLDER), "{}")?;
        let archive = folder.join("image.tar");
        let pack = |names: &[&str]| Run::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&folder).args(names).quiet();
        pack(&["layer.tar", MANIFEST, OLDER])?;
        add_name(&archive, "a:dev")?;
        let listed = Run::new("tar").arg("-tf").arg(&archive).output()?;
        assert_eq!(listed, "layer.tar\nmanifest.json\n");
        let manifest = Run::new("tar").arg("-xOf").arg(&archive).arg(MANIFEST).output()?;
        assert_eq!(manifest, r#"[{"Config":"c.json","RepoTags":["a:1","a:dev"]}]"#);
        let check = "tar -xOf \"$0\" layer.tar | cmp - \"$1\"";
        Run::new("sh").args(["-c", check]).arg(&archive).arg(folder.join("layer.tar")).quiet()?;

        pack(&[MANIFEST, "layer.tar"])?;
        assert!(add_name(&archive, "a:dev").is_err());
        Ok(fs::remove_dir_all(folder)?)
    }
}
