//! Taking the cluster down, whatever state it is in: nothing is left behind but the caches.

use super::layout::{CGROUP, LINK, Layout};
use super::node::hierarchies;
use super::process;
use crate::run::wait_until;
use anyhow::{Context, Result};
use rustix::mount::{UnmountFlags, unmount};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

/// Takes everything down. Each part looks at the world, so it can be done again after any interruption.
pub fn down(layout: &Layout) -> Result<()> {
    end_processes(layout)?;
    remove_link(layout)?;
    remove_cgroups()?;
    unmount_leftovers(layout)?;
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

/// The link goes with the box's network, but the kernel takes its time over that.
fn remove_link(layout: &Layout) -> Result<()> {
    let link = PathBuf::from(format!("/sys/class/net/{LINK}"));
    if link.exists() {
        layout.run("ip").args(["link", "delete", LINK]).succeeds();
    }
    wait_until(&format!("the link {LINK} is gone"), LIMIT, || Ok(!link.exists()))
}

/// Containers of the box died with it; a cgroup can go once the last of its processes is reaped.
fn remove_cgroups() -> Result<()> {
    for hierarchy in hierarchies()? {
        let folder = hierarchy.join(CGROUP);
        wait_until(&format!("the cgroup {} is empty", folder.display()), LIMIT, || Ok(remove_cgroup(&folder)))?;
    }
    Ok(())
}

fn remove_cgroup(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else {
        return true;
    };
    let mut gone = true;
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            gone &= remove_cgroup(&entry.path());
        }
    }
    gone && match fs::remove_dir(folder) {
        Ok(()) => true,
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
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
    let dead = layout.state().with_file_name("cluster.dead");
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
