//! Encryption of connections.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// The files of a server's identity, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and behind it those that lead to one that clients know.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
}

/// The identity of a server, for both of its ports. Connections that are open keep theirs when it is read again.
pub(crate) struct Tls {
    files: TlsFiles,
    current: RwLock<Acceptors>,
}

#[derive(Clone)]
struct Acceptors {
    http: TlsAcceptor,
    grpc: TlsAcceptor,
}

impl Tls {
    /// Reads the files.
    pub(crate) fn new(files: TlsFiles) -> Result<Self, String> {
        let current = RwLock::new(read(&files)?);
        Ok(Self { files, current })
    }

    /// Reads the files again; if they cannot be used, those from before stay.
    pub(crate) fn reload(&self) -> Result<(), String> {
        let acceptors = read(&self.files)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = acceptors;
        Ok(())
    }

    /// Returns the acceptor of connections that speak HTTP/1.1.
    pub(crate) fn http(&self) -> TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).http.clone()
    }

    /// Returns the acceptor of connections that speak HTTP/2, which gRPC needs.
    pub(crate) fn grpc(&self) -> TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).grpc.clone()
    }
}

fn read(files: &TlsFiles) -> Result<Acceptors, String> {
    let TlsFiles { certificate, key } = files;
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(certificate, &error))?;
    if chain.is_empty() {
        let name = certificate.display();
        return Err(format!("{name}: there is no certificate\nhint: give a file in PEM"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
    let mut http = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| {
            format!("{}: {error}\nhint: is {} its key?", certificate.display(), key.display())
        })?;
    let mut grpc = http.clone();
    http.alpn_protocols = vec![b"http/1.1".to_vec()];
    grpc.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Acceptors { http: Arc::new(http).into(), grpc: Arc::new(grpc).into() })
}

/// Describes a file that cannot be read. The content is not shown, since it may be a secret.
fn unreadable(path: &Path, error: &pem::Error) -> String {
    let name = path.display();
    match error {
        pem::Error::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            format!("{name}: there is no such file")
        }
        pem::Error::Io(error) => format!("{name}: cannot be read: {error}"),
        pem::Error::NoItemsFound => {
            format!("{name}: there is no private key\nhint: give a file in PEM")
        }
        _ => format!("{name}: this is no PEM"),
    }
}
