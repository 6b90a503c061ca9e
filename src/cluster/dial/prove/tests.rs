use std::net::SocketAddr;

use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::server;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ALL_VERSIONS, ServerConfig, SupportedProtocolVersion};

use super::*;

/// A server on the loopback that serves one connection.
async fn serving<F>(serve: impl FnOnce(TcpStream) -> F + Send + 'static) -> (SocketAddr, JoinHandle<()>)
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream).await;
    });
    (address, task)
}

async fn asked(address: SocketAddr, proof: Proof) -> Result<(), String> {
    prove(TcpStream::connect(address).await.unwrap(), "127.0.0.1", &proof).await
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn line(seed: u8) -> String {
    key(seed).public_key().to_openssh().unwrap()
}

/// A key of another kind, whose private half nobody has.
const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg=";

struct Nobody;

impl server::Handler for Nobody {
    type Error = russh::Error;
}

async fn ssh_server(key: PrivateKey) -> (SocketAddr, JoinHandle<()>) {
    let config = Arc::new(server::Config { keys: vec![key], ..server::Config::default() });
    serving(|stream| async move {
        if let Ok(session) = server::run_stream(config, stream, Nobody).await {
            let _ = session.await;
        }
    })
    .await
}

#[tokio::test]
async fn a_terminal_proves_one_of_its_pinned_keys() {
    let (address, _task) = ssh_server(key(1)).await;
    assert_eq!(asked(address, Proof::HostKeys(vec![line(2), line(1)])).await, Ok(()));
}

#[tokio::test]
async fn a_pin_of_another_kind_beside_the_right_one_does_no_harm() {
    let (address, _task) = ssh_server(key(1)).await;
    assert_eq!(asked(address, Proof::HostKeys(vec![ECDSA.to_owned(), line(1)])).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up_whoever_waits() {
    let (address, _task) = serving(|stream| async move {
        let _held = stream;
        tokio::time::sleep(Duration::from_secs(3600)).await;
    })
    .await;
    let why = asked(address, Proof::HostKeys(vec![line(1)])).await.unwrap_err();
    assert!(why.starts_with("does not speak SSH: "), "{why}");
}

#[tokio::test]
async fn a_terminal_with_another_key_is_told_by_its_fingerprint() {
    let (address, _task) = ssh_server(key(1)).await;
    let why = asked(address, Proof::HostKeys(vec![line(2)])).await.unwrap_err();
    let shown = key(1).public_key().fingerprint(HashAlg::Sha256).to_string();
    assert_eq!(why, format!("shows the host key {shown} (ssh-ed25519), which spec.endpoint.hostKeys does not name"));
}

#[tokio::test]
async fn a_terminal_without_a_key_of_the_pinned_kind_is_told() {
    let (address, _task) = ssh_server(key(1)).await;
    let why = asked(address, Proof::HostKeys(vec![ECDSA.to_owned()])).await.unwrap_err();
    assert_eq!(why, "has no host key of a kind that spec.endpoint.hostKeys names");
}

#[tokio::test]
async fn what_is_no_key_and_what_is_no_terminal_is_told() {
    let (address, _task) = serving(|mut stream| async move {
        let _ = stream.write_all(b"220 mail.example.org ESMTP\r\n".repeat(600).as_slice()).await;
    })
    .await;
    let why = asked(address, Proof::HostKeys(vec![line(1)])).await.unwrap_err();
    assert!(why.starts_with("does not speak SSH: "), "{why}");
    let (address, _task) = ssh_server(key(1)).await;
    let why = asked(address, Proof::HostKeys(vec![format!("ssh-ed25519 {}", "A".repeat(68))])).await.unwrap_err();
    assert!(why.starts_with("cannot be asked for the key ssh-ed25519 AAAA"), "{why}");
}

fn openssl(words: &str) -> String {
    let done = std::process::Command::new("openssl").args(words.split(' ')).output().unwrap();
    assert!(done.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// A certificate that its own key signed, the key, and what openssl prints as its fingerprint.
fn own_certificate() -> (CertificateDer<'static>, PrivateKeyDer<'static>, String) {
    static MADE: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let one = MADE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("berth-certificate-{}-{one}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let at = folder.to_str().unwrap();
    openssl(&format!(
        "req -x509 -noenc -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN=machine -keyout {at}/key -out {at}/certificate"
    ));
    let printed = openssl(&format!("x509 -noout -fingerprint -sha256 -in {at}/certificate"));
    let certificate = CertificateDer::from_pem_file(folder.join("certificate")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("key")).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    (certificate, key, printed.trim().split_once('=').unwrap().1.to_owned())
}

/// A machine with a certificate of its own, and the certificate's fingerprint.
async fn tls_server(rdp: bool) -> (SocketAddr, String, JoinHandle<()>) {
    let (certificate, key, fingerprint) = own_certificate();
    let (address, task) = tls_server_with(certificate, key, rdp, ALL_VERSIONS).await;
    (address, fingerprint, task)
}

/// A machine that shows this certificate and signs with this key, whether it is the certificate's or not.
async fn tls_server_with(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    rdp: bool,
    versions: &[&'static SupportedProtocolVersion],
) -> (SocketAddr, JoinHandle<()>) {
    let shown = CertifiedKey::new(vec![certificate], ring::sign::any_supported_type(&key).unwrap());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    let (address, task) = serving(move |mut stream| async move {
        if rdp {
            let mut request = [0; 19];
            stream.read_exact(&mut request).await.unwrap();
            assert_eq!(request, RDP_REQUEST);
            stream.write_all(&[3, 0, 0, 19, 14, 0xd0, 0, 0, 0, 0, 0, 2, 0, 8, 0, 1, 0, 0, 0]).await.unwrap();
        }
        if let Ok(mut spoken) = TlsAcceptor::from(Arc::new(config)).accept(stream).await {
            let _ = spoken.read(&mut [0; 1]).await;
        }
    })
    .await;
    (address, task)
}

#[tokio::test]
async fn who_shows_a_pinned_certificate_without_its_key_proves_nothing() {
    for versions in [&[&TLS12][..], &[&TLS13][..]] {
        let (certificate, _, pinned) = own_certificate();
        let (_, another_key, _) = own_certificate();
        let (address, _task) = tls_server_with(certificate, another_key, false, versions).await;
        let why = asked(address, Proof::Certificates(vec![pinned])).await.unwrap_err();
        assert!(why.starts_with("does not prove its certificate in TLS: "), "{why}");
    }
}

#[tokio::test]
async fn a_machine_proves_its_pinned_certificate_whoever_signed_it() {
    let (address, pinned, _task) = tls_server(false).await;
    assert_eq!(asked(address, Proof::Certificates(vec![pinned])).await, Ok(()));
    let (address, pinned, _task) = tls_server(true).await;
    assert_eq!(asked(address, Proof::CertificatesOfRdp(vec![pinned])).await, Ok(()));
}

#[tokio::test]
async fn a_machine_with_another_certificate_is_told_by_its_fingerprint() {
    let another = vec!["00:".repeat(31) + "00"];
    for rdp in [false, true] {
        let (address, shown, _task) = tls_server(rdp).await;
        let proof = if rdp { Proof::CertificatesOfRdp(another.clone()) } else { Proof::Certificates(another.clone()) };
        let why = asked(address, proof).await.unwrap_err();
        assert_eq!(why, format!("shows the certificate {shown}, which spec.endpoint.certificates does not name"));
    }
}

#[tokio::test]
async fn a_machine_that_speaks_rdp_without_tls_or_no_rdp_is_told() {
    for (answer, words) in [
        (&[3, 0, 0, 11, 6, 0xd0, 0, 0, 0, 0, 0][..], "speaks RDP without TLS"),
        (&[3, 0, 0, 19, 14, 0xd0, 0, 0, 0, 0, 0, 3, 0, 8, 0, 2, 0, 0, 0][..], "speaks RDP without TLS"),
        (&[3, 0, 0, 19, 14, 0xd0, 0, 0, 0, 0, 0, 2, 0, 8, 0, 0, 0, 0, 0][..], "speaks RDP without TLS"),
        (&b"HTTP/1.1 400 Bad Request\r\n"[..], "does not speak RDP"),
        (&[3, 0, 0xff, 0xff][..], "does not speak RDP"),
        (&[3, 0][..], "does not speak RDP"),
    ] {
        let answer = answer.to_vec();
        let (address, _task) = serving(move |mut stream| async move {
            let _ = stream.read_exact(&mut [0; 19]).await;
            let _ = stream.write_all(&answer).await;
        })
        .await;
        let why = asked(address, Proof::CertificatesOfRdp(vec!["00".to_owned()])).await.unwrap_err();
        assert!(why.starts_with(words), "{why}");
    }
}

#[tokio::test]
async fn who_is_not_asked_has_nothing_to_prove() {
    let (address, _task) = serving(|_| async {}).await;
    assert_eq!(asked(address, Proof::Unasked).await, Ok(()));
}
