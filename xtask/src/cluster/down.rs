//! Taking the cluster down, whatever state it is in: nothing is left behind but the caches.

use super::layout::Layout;
use super::{node, process};
use anyhow::{Context, Result};
use rustix::mount::{UnmountFlags, unmount};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

/// Takes everything down. Each part looks at the world, so it can be done again after any interruption.
pub fn down(layout: &Layout) -> Result<()> {
    end_processes(layout)?;
    node::remove(layout)?;
    unmount_leftovers(layout)?;
    remove_state(layout)
}

/// Takes down a control plane that never had a real node.
pub fn control_plane(layout: &Layout) -> Result<()> {
    end_processes(layout)?;
    remove_state(layout)
}

/// Ending the box's init process ends all that is in the box. The rest carries the cluster's mark. What a killed run
/// had just started may still start something itself, so it takes two looks that find nothing.
fn end_processes(layout: &Layout) -> Result<()> {
    let mut quiet = 0;
    while quiet < 2 {
        let processes = process::find(layout)?;
        if processes.is_empty() {
            quiet += 1;
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        quiet = 0;
        process::end(&processes, LIMIT)?;
    }
    Ok(())
}

/// The node mounts in its box alone. Should anything be mounted in the state folder all the same, what lies behind
/// that mount must not be deleted with the folder.
fn unmount_leftovers(layout: &Layout) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut places: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    places.retain(|place| Path::new(place).starts_with(layout.state()));
    for place in places.iter().rev() {
        unmount(*place, UnmountFlags::DETACH).with_context(|| format!("cannot unmount {place}"))?;
    }
    Ok(())
}

/// Renamed first: half a state folder must never look like a cluster.
fn remove_state(layout: &Layout) -> Result<()> {
    let dead = layout.state().with_extension("dead");
    if layout.state().exists() {
        if dead.exists() {
            remove_folder(&dead)?;
        }
        fs::rename(layout.state(), &dead).with_context(|| format!("cannot remove {}", layout.state().display()))?;
    }
    remove_folder(&dead)
}

fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
