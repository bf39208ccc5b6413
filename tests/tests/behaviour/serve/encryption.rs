//! Tests of connections that are encrypted.

use std::io::Write;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::client::{Answer, connect, read_answer};
use super::{SMALL, Server, shapes};
use crate::support::{detr, folder_with};

/// A certificate for `localhost` with its key, in PEM.
struct Identity {
    certificate: CertificateDer<'static>,
    files: [(&'static str, Vec<u8>); 2],
}

fn identity() -> Identity {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = [
        ("cert.pem", cert.pem().into_bytes()),
        ("key.pem", signing_key.serialize_pem().into_bytes()),
    ];
    Identity { certificate: cert.der().clone(), files }
}

/// Asks over an encrypted connection; the error is one of the handshake.
fn ask(address: &str, path: &str, trusted: &CertificateDer<'static>) -> Result<Answer, String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(client, connect(address).unwrap());
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).map_err(|error| error.to_string())?;
    read_answer(stream).map_err(|error| error.to_string())
}

#[test]
fn connections_are_encrypted_and_certificates_are_renewed() {
    let (first, second) = (identity(), identity());
    let folder = folder_with(first.files.clone());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (certificate, key) = (path("cert.pem"), path("key.pem"));
    let flags = ["--tls-cert", &certificate, "--tls-key", &key, "--head-timeout", "2"];
    let mut server = Server::start_encrypted(&[&SMALL[..], &flags].concat());
    let address = server.address.clone();
    while ask(&address, "/ping", &first.certificate).unwrap().status != 200 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let metadata = ask(&address, "/v2/models/shapes", &first.certificate).unwrap();
    assert!(metadata.expect(200).text().contains("num_detections"));
    let error = ask(&address, "/ping", &second.certificate).unwrap_err();
    assert!(error.contains("certificate"), "{error}");
    // One that speaks no TLS, and one that says nothing, are cut off.
    assert!(super::client::request(&address, "GET", "/ping", &[], b"").is_err());
    let silent = connect(&address).unwrap();
    assert!(std::io::Read::read_to_end(&mut &silent, &mut Vec::new()).unwrap_or(0) == 0);

    for (name, bytes) in &second.files {
        std::fs::write(path(name), bytes).unwrap();
    }
    #[cfg(unix)]
    {
        server.running().signal("HUP");
        let start = std::time::Instant::now();
        while ask(&address, "/ping", &second.certificate).is_err() {
            assert!(start.elapsed().as_secs() < 60, "{}", server.running().stderr());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    // Nothing of the key is told.
    let stderr = server.running().stderr();
    assert!(!stderr.contains("PRIVATE") && !stderr.contains("BEGIN"), "{stderr}");
}

#[test]
fn identities_that_cannot_be_used_are_usage() {
    let (first, second) = (identity(), identity());
    let [certificate, key] = &first.files;
    let folder = folder_with([
        ("cert.pem", certificate.1.clone()),
        ("key.pem", key.1.clone()),
        ("other.pem", second.files[1].1.clone()),
        ("empty.pem", Vec::new()),
        ("broken.pem", b"-----BEGIN CERTIFICATE-----\n$$$$\n-----END CERTIFICATE-----\n".to_vec()),
    ]);
    let model = shapes();
    for (certificate, key, part) in [
        ("cert.pem", "other.pem", "cert.pem"),
        ("empty.pem", "key.pem", "no certificate"),
        ("broken.pem", "key.pem", "broken.pem"),
        ("key.pem", "key.pem", "no certificate"),
        ("cert.pem", "cert.pem", "no private key"),
        ("nowhere.pem", "key.pem", "no such file"),
        ("cert.pem", "nowhere.pem", "no such file"),
    ] {
        let flags = ["serve", "--backend", "flex", "--port", "0", "--model"];
        let run = detr(flags).arg(&model).args(["--tls-cert", certificate, "--tls-key", key]);
        let outcome = run.inside(folder.path()).run().expect(2);
        assert!(outcome.stderr.contains(part), "{certificate} {key}: {}", outcome.stderr);
    }
    let flags = ["serve", "--backend", "flex", "--tls-cert", "cert.pem", "--model"];
    let outcome = detr(flags).arg(&model).inside(folder.path()).run().expect(2);
    assert!(outcome.stderr.contains("--tls-key"), "{}", outcome.stderr);
}
