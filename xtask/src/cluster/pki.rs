//! Certificates, keys and kubeconfigs: made once per cluster, by OpenSSL's command line.

use super::layout::{API_SERVICE_ADDRESS, HOST_ADDRESS, Layout, NODE, NODE_ADDRESS};
use crate::run::Run;
use anyhow::{Context, Result};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Who may talk to the API server, and under which groups.
const USERS: [(&str, &str); 7] = [
    ("admin", "/O=system:masters/CN=admin"),
    ("controller-manager", "/CN=system:kube-controller-manager"),
    ("scheduler", "/CN=system:kube-scheduler"),
    ("kube-proxy", "/CN=system:kube-proxy"),
    ("kubelet", "/O=system:nodes/CN=system:node:berth-node"),
    ("kwok", "/O=system:masters/CN=kwok"),
    ("provisioner", "/O=system:masters/CN=local-path-provisioner"),
];

/// Makes what is missing. A folder is written aside and renamed, so there is all of it or nothing.
pub fn ensure(layout: &Layout) -> Result<()> {
    let pki = layout.at("pki");
    if !Path::new(&pki).exists() {
        let unfinished = layout.at("pki.unfinished");
        fresh(&unfinished)?;
        certificates(&unfinished)?;
        fs::rename(&unfinished, &pki).with_context(|| format!("cannot create {pki}"))?;
    }
    // Written each time: the API server's port may have moved. The certificates stay.
    let folder = layout.at("kubeconfig");
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    for (user, _) in USERS {
        let in_node = matches!(user, "kubelet" | "kube-proxy");
        let server = if in_node { layout.api_url_from_node() } else { layout.api_url() };
        write_if_changed(&layout.kubeconfig(user), &kubeconfig(layout, user, &server)?)?;
    }
    Ok(())
}

fn fresh(folder: &str) -> Result<()> {
    if Path::new(folder).exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {folder}"))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    Ok(())
}

fn certificates(folder: &str) -> Result<()> {
    let ca = request(folder, "ca", "/CN=berth-cluster");
    ca.args(["-addext", "keyUsage=critical,keyCertSign,digitalSignature"]).quiet()?;
    let serving = format!(
        "subjectAltName=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,\
         DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:{HOST_ADDRESS},IP:{API_SERVICE_ADDRESS}"
    );
    signed(folder, "apiserver", "/CN=kube-apiserver", "serverAuth", Some(&serving))?;
    let serving = format!("subjectAltName=DNS:{NODE},IP:{NODE_ADDRESS}");
    signed(folder, "node", "/O=system:nodes/CN=system:node:berth-node", "serverAuth", Some(&serving))?;
    signed(folder, "apiserver-to-kubelet", "/O=system:masters/CN=kube-apiserver", "clientAuth", None)?;
    for (user, subject) in USERS {
        signed(folder, user, subject, "clientAuth", None)?;
    }
    let (key, public) = (format!("{folder}/accounts.key"), format!("{folder}/accounts.pub"));
    openssl()
        .args(["genpkey", "-quiet", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"])
        .args(["-out", &key])
        .quiet()?;
    openssl().args(["pkey", "-in", &key, "-pubout", "-out", &public]).quiet()
}

fn openssl() -> Run {
    Run::new("openssl").advice("certificates are made by OpenSSL's command line: install openssl 3 or newer")
}

fn request(folder: &str, name: &str, subject: &str) -> Run {
    openssl()
        .args(["req", "-x509", "-noenc", "-sha256", "-days", "3650"])
        .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
        .args(["-subj", subject])
        .arg("-keyout")
        .arg(format!("{folder}/{name}.key"))
        .arg("-out")
        .arg(format!("{folder}/{name}.crt"))
}

fn signed(folder: &str, name: &str, subject: &str, usage: &str, names: Option<&str>) -> Result<()> {
    let run = request(folder, name, subject)
        .arg("-CA")
        .arg(format!("{folder}/ca.crt"))
        .arg("-CAkey")
        .arg(format!("{folder}/ca.key"))
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-addext", "keyUsage=critical,digitalSignature"])
        .arg("-addext")
        .arg(format!("extendedKeyUsage={usage}"));
    match names {
        Some(names) => run.args(["-addext", names]).quiet(),
        None => run.quiet(),
    }
}

/// A kubeconfig that needs no other file, so that it can be copied anywhere.
fn kubeconfig(layout: &Layout, user: &str, server: &str) -> Result<String> {
    let data = |file: String| -> Result<String> {
        let bytes = fs::read(layout.pki(&file)).with_context(|| format!("cannot read {file}"))?;
        Ok(base64(&bytes))
    };
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "berth",
        "contexts": [{"name": "berth", "context": {"cluster": "berth", "user": user}}],
        "clusters": [{"name": "berth", "cluster": {
            "server": server,
            "certificate-authority-data": data("ca.crt".to_owned())?,
        }}],
        "users": [{"name": user, "user": {
            "client-certificate-data": data(format!("{user}.crt"))?,
            "client-key-data": data(format!("{user}.key"))?,
        }}],
    });
    Ok(serde_json::to_string_pretty(&config)?)
}

/// Writes a file unless it says this already; a reader never sees half of it.
pub fn write_if_changed(path: &str, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|now| now == text) {
        return Ok(());
    }
    let path = Path::new(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, text).with_context(|| format!("cannot write {}", unfinished.display()))?;
    fs::rename(&unfinished, path).with_context(|| format!("cannot write {}", path.display()))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            if digit <= chunk.len() {
                text.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_pads_as_the_standard_says() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
