//! The real node: containerd, runc, CNI plugins, kubelet and kube-proxy, in a box of its own.
//!
//! The box is a set of namespaces for processes, mounts and the network, and one init process. Whatever the node
//! does to mounts, links, routes, sysctls, nftables and iptables happens in there, so all of it goes when the
//! kernel takes the box down with its init process. Two things lie outside: one end of the link between the box
//! and this machine, and the pods' cgroups.

use super::layout::{
    CGROUP, DNS_ADDRESS, HOST_ADDRESS, LINK, Layout, NODE, NODE_ADDRESS, PAUSE_IMAGE, POD_CIDR, SERVICE_CIDR,
};
use super::pki::write_if_changed;
use super::process::{self, Daemon};
use super::tools;
use crate::run::{Run, wait_until};
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the kernel may take to clear up.
const LIMIT: Duration = Duration::from_secs(20);

/// Where containerd listens, inside the box.
const CONTAINERD: &str = "/run/containerd/containerd.sock";

/// Kernel settings that the kubelet would otherwise change for the whole machine: it reads these values and is
/// content, and the machine keeps its own.
const KERNEL_SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// The init process of the box, when there is a box.
pub fn init(layout: &Layout) -> Result<Option<i32>> {
    Ok(process::of(layout, "node-box", "tini")?.map(|p| p.pid))
}

/// Opens the box unless it is open, and returns its init process.
pub fn ensure_box(layout: &Layout) -> Result<i32> {
    if let Some(other) = elsewhere(layout)? {
        bail!("the cluster in {} has a real node on this machine: take it down first", other.display());
    }
    if init(layout)?.is_none() {
        // The kubelet would wait half a minute for the containers of a box that died.
        remove(layout)?;
    }
    let script = layout.at("config/node-box.sh");
    write_if_changed(&script, &box_script(layout)?)?;
    fs::create_dir_all(layout.at("node"))?;
    let unshare = "unshare --pid --mount --net --fork --kill-child --mount-proc sh";
    Daemon::new("node-box", "tini")
        .through(unshare.split(' '))
        .through([&script])
        .args(["-s", "--", "sleep", "infinity"])
        .input(&script)
        .ensure(layout)?;
    let mut pid = None;
    wait_until("the node's box is open", Duration::from_secs(10), || {
        pid = init(layout)?;
        Ok(pid.is_some())
    })
    .with_context(|| format!("see {}", layout.log("node-box").display()))?;
    pid.context("the node's box is gone again")
}

/// What happens in the box before its init process runs. The state folder must stay visible, so the folders that
/// are covered by private ones may not hold it.
fn box_script(layout: &Layout) -> Result<String> {
    let mut script = String::from("set -e\nmount --make-rshared /\n");
    for covered in ["/var/lib", "/var/log", "/run"] {
        if layout.state().starts_with(covered) {
            bail!("the cache may not lie under {covered}, which the node has a private one of: set BERTH_CACHE");
        }
    }
    for covered in ["var/lib", "var/log"] {
        let private = layout.at(&format!("node/{covered}"));
        script.push_str(&format!("mkdir -p {private}\nmount --bind {private} /{covered}\n"));
    }
    script.push_str("mount -t tmpfs -o mode=755 tmpfs /run\nmkdir -p /run/lock /run/netns\n");
    for (setting, value) in KERNEL_SETTINGS {
        let file = layout.at(&format!("node/sys/{}", setting.replace('/', ".")));
        script.push_str(&format!(
            "mkdir -p {}\necho {value} > {file}\nmount --bind {file} /proc/sys/{setting}\n",
            layout.at("node/sys")
        ));
    }
    script.push_str("exec \"$@\"\n");
    Ok(script)
}

/// Joins the box's network to this machine's. Each line may be said again.
pub fn ensure_network(layout: &Layout, init: i32) -> Result<()> {
    let link_is_there = PathBuf::from(format!("/sys/class/net/{LINK}")).exists();
    let inside_is_there = in_box(layout, init).args(["ip", "link", "show", "eth0"]).succeeds();
    if link_is_there && !inside_is_there {
        layout.run("ip").args(["link", "delete", LINK]).quiet()?;
    }
    if !inside_is_there {
        addresses_are_free()?;
        layout
            .run("ip")
            .args(["link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", &init.to_string()])
            .quiet()
            .context("cannot make the link to the node's network")?;
    }
    let host = format!(
        "address replace {HOST_ADDRESS}/30 dev {LINK}\nlink set {LINK} up\n\
         route replace {POD_CIDR} via {NODE_ADDRESS} dev {LINK}\n\
         route replace {SERVICE_CIDR} via {NODE_ADDRESS} dev {LINK}\n"
    );
    let inside = format!(
        "link set lo up\naddress replace {NODE_ADDRESS}/30 dev eth0\nlink set eth0 up\n\
         route replace default via {HOST_ADDRESS} dev eth0\n"
    );
    // The far end first: a route through a link needs that link to be up at both ends.
    in_box(layout, init).args(["ip", "-batch", "-"]).input(inside).quiet()?;
    layout.run("ip").args(["-batch", "-"]).input(host).quiet()?;
    let settings = ["net.ipv4.ip_forward=1", "net.bridge.bridge-nf-call-iptables=1"];
    in_box(layout, init).args(["sysctl", "-qw", settings[0]]).quiet()?;
    // Needed for a pod that reaches its neighbour through a Service; absent where the kernel has no such filter.
    in_box(layout, init).args(["sysctl", "-qw", settings[1]]).succeeds();
    Ok(())
}

/// Another cluster on this machine may use the same addresses, and its routes are not ours to replace.
fn addresses_are_free() -> Result<()> {
    for address in [HOST_ADDRESS, POD_CIDR, SERVICE_CIDR] {
        let address = address.split('/').next().unwrap_or(address);
        let routes = Run::new("ip").args(["-o", "route", "show", "to", "match", address]).output()?;
        if let Some(route) = routes.lines().find(|route| !route.starts_with("default")) {
            bail!("{address} is in use here already, by `{}`: take that down first", route.trim());
        }
    }
    Ok(())
}

/// A command in the box.
pub fn in_box(layout: &Layout, init: i32) -> Run {
    layout
        .run("nsenter")
        .args(["--target", &init.to_string(), "--mount", "--pid", "--net", "--"])
        .env("CONTAINERD_ADDRESS", CONTAINERD)
        .env("CONTAINERD_NAMESPACE", "k8s.io")
}

/// Starts containerd.
pub fn start_containerd(layout: &Layout, init: i32) -> Result<()> {
    let (config, network) = (layout.at("config/containerd.toml"), layout.at("config/cni/10-berth.conflist"));
    write_if_changed(&config, &containerd_config(layout))?;
    write_if_changed(&network, &serde_json::to_string_pretty(&network_config())?)?;
    Daemon::new("containerd", "containerd")
        .args(["--config", &config])
        .input(config.clone())
        .env("XTABLES_LOCKFILE", "/run/xtables.lock")
        .inside(init)
        .ensure(layout)
}

/// Waits until containerd answers.
pub fn wait_for_containerd(layout: &Layout, init: i32) -> Result<()> {
    wait_until("containerd answers", Duration::from_secs(30), || {
        process::must_run(layout, "containerd", "containerd")?;
        Ok(in_box(layout, init).args(["ctr", "version"]).succeeds())
    })
    .with_context(|| format!("see {}", layout.log("containerd").display()))
}

/// The out-of-memory scores stay as they are: lowering them needs a capability that a container's root often lacks.
fn containerd_config(layout: &Layout) -> String {
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt"]

[grpc]
  address = "{CONTAINERD}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
  stream_server_address = "127.0.0.1"

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{}"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#,
        layout.at("config/cni")
    )
}

fn network_config() -> serde_json::Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "berth",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                // A pod that calls its own Service comes back by the port that it left by.
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": POD_CIDR}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

/// Starts the kubelet and kube-proxy; the API server must serve.
pub fn start_kubelet(layout: &Layout, init: i32) -> Result<()> {
    ensure_cgroups()?;
    if process::of(layout, "kubelet", "kubelet")?.is_none() {
        // What the last kubelet said of the node is out of date, and would be believed for a while. There may be no
        // node yet, and then nothing to say.
        let unknown =
            json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "KubeletStarts"}]}});
        layout
            .kubectl()
            .args(["patch", "node", NODE, "--subresource=status", "--patch", &unknown.to_string()])
            .succeeds();
    }
    let config = layout.at("config/kubelet.json");
    write_if_changed(&config, &serde_json::to_string_pretty(&kubelet_config(layout))?)?;
    Daemon::new("kubelet", tools::KUBELET.path(&layout.cache)?)
        .args([
            format!("--config={config}"),
            format!("--kubeconfig={}", layout.kubeconfig("kubelet")),
            format!("--hostname-override={NODE}"),
            format!("--node-ip={NODE_ADDRESS}"),
        ])
        .input(config)
        .input(layout.kubeconfig("kubelet"))
        .inside(init)
        .ensure(layout)?;
    let config = layout.at("config/kube-proxy.json");
    let text = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": NODE,
        "clusterCIDR": POD_CIDR,
        "clientConnection": {"kubeconfig": layout.kubeconfig("kube-proxy")},
        "conntrack": {"maxPerCore": 0},
        "nodePortAddresses": ["primary"],
    });
    write_if_changed(&config, &serde_json::to_string_pretty(&text)?)?;
    Daemon::new("kube-proxy", tools::KUBE_PROXY.path(&layout.cache)?)
        .args([format!("--config={config}")])
        .input(config)
        .input(layout.kubeconfig("kube-proxy"))
        .inside(init)
        .ensure(layout)
}

fn kubelet_config(layout: &Layout) -> serde_json::Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": layout.pki("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": layout.pki("node.crt"),
        "tlsPrivateKeyFile": layout.pki("node.key"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{CGROUP}"),
        "failCgroupV1": false,
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        "oomScoreAdj": 0,
        // A full disk or a busy machine is the developer's affair: evict only at the very end, and never remove an
        // image, which no registry could bring back.
        "evictionHard": {
            "memory.available": "64Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%", "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        // No DNS is served. Without an address here every pod would get a warning event.
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": "/etc/resolv.conf",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "nodeStatusUpdateFrequency": "4s",
        "nodeLeaseDurationSeconds": 16,
        "makeIPTablesUtilChains": false,
    })
}

/// The mounted cgroup hierarchies of this machine.
pub fn hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    Ok(mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (_, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
            matches!(kind, "cgroup" | "cgroup2").then(|| PathBuf::from(place))
        })
        .collect())
}

/// The kubelet wants its root cgroup to exist in every hierarchy.
fn ensure_cgroups() -> Result<()> {
    for hierarchy in hierarchies()? {
        let folder = hierarchy.join(CGROUP);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create the cgroup {}", folder.display()))?;
        // In a cgroup2 hierarchy the controllers must be handed down; the first form has no such file.
        if let Ok(controllers) = fs::read_to_string(hierarchy.join("cgroup.controllers")) {
            let wanted: Vec<_> = controllers.split_whitespace().map(|c| format!("+{c}")).collect();
            for place in [&hierarchy, &folder] {
                let _ = fs::write(place.join("cgroup.subtree_control"), wanted.join(" "));
            }
        }
    }
    Ok(())
}

/// The state folder of another cluster whose real node is on this machine: there is room for one.
pub fn elsewhere(layout: &Layout) -> Result<Option<PathBuf>> {
    let is_other = |p: &process::Process| p.component == "node-box" && p.state != layout.state();
    Ok(process::find_all()?.into_iter().find(is_other).map(|p| p.state))
}

/// Takes the real node away, if there is one: the box, and what lies outside of it.
pub fn remove(layout: &Layout) -> Result<()> {
    if let Some(init) = process::of(layout, "node-box", "tini")? {
        process::end([&init], LIMIT)?;
    }
    if !rustix::process::geteuid().is_root() || elsewhere(layout)?.is_some() {
        return Ok(());
    }
    // The link goes with the box's network, but the kernel takes its time over that.
    let link = PathBuf::from(format!("/sys/class/net/{LINK}"));
    if link.exists() {
        layout.run("ip").args(["link", "delete", LINK]).succeeds();
    }
    wait_until(&format!("the link {LINK} is gone"), LIMIT, || Ok(!link.exists()))?;
    // The containers died with the box; a cgroup can go once the last of its processes is reaped.
    for hierarchy in hierarchies()? {
        let folder = hierarchy.join(CGROUP);
        wait_until(&format!("the cgroup {} is empty", folder.display()), LIMIT, || Ok(remove_cgroup(&folder)))?;
    }
    Ok(())
}

fn remove_cgroup(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return true };
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
