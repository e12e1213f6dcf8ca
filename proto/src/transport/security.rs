//! Who may talk to a process of the cluster.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aktis_common::config::{Secret, Settings};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

use super::address::Address;

/// The name that certificates of a cluster are valid for, so that one serves all its nodes.
pub(super) const TLS_NAME: &str = "aktis";

/// What a process needs to be part of a cluster; the same on all of its nodes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Security {
    /// Shared secret; every call carries it.
    pub token: Option<Secret>,
    /// Certificates; both sides show theirs (mutual TLS).
    pub tls: Option<TlsPaths>,
}

/// PEM files of a process's certificate. It must be valid for the DNS name `aktis`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsPaths {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Certificates of the authority that signs all certificates of the cluster.
    pub ca: PathBuf,
}

/// Settings of security that do not fit together, or files that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// Some but not all of the TLS files are named.
    #[error("TLS needs all of tls_cert, tls_key and tls_ca; {missing} is not set")]
    IncompleteTls {
        /// The first that is missing.
        missing: &'static str,
    },
    /// A file of the TLS settings cannot be read.
    #[error("cannot read {path:?}, named by a TLS setting: {cause}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// A TLS file is not what it should be.
    #[error("{path:?}, named by a TLS setting, cannot be used: {cause}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the transport said.
        cause: String,
    },
    /// A listener would be open to others without protection.
    #[error(
        "listening on {address}, which other machines can reach, needs {missing}: \
         set AKTIS_TOKEN, AKTIS_TLS_CERT, AKTIS_TLS_KEY and AKTIS_TLS_CA on all nodes, \
         or listen on 127.0.0.1"
    )]
    Unprotected {
        /// Where.
        address: Address,
        /// What is not set.
        missing: &'static str,
    },
    /// A client would speak to another machine without protection.
    #[error(
        "{address} may be on another machine, and without TLS nobody can tell who is there: \
         set AKTIS_TOKEN, AKTIS_TLS_CERT, AKTIS_TLS_KEY and AKTIS_TLS_CA to those of the cluster"
    )]
    UnprotectedClient {
        /// Where.
        address: Address,
    },
}

impl Security {
    /// What the settings say.
    ///
    /// # Errors
    /// When only some of the TLS files are named.
    pub fn from_settings(settings: &Settings) -> Result<Self, SecurityError> {
        let tls = match (&settings.tls_cert, &settings.tls_key, &settings.tls_ca) {
            (None, None, None) => None,
            (None, ..) => {
                return Err(SecurityError::IncompleteTls {
                    missing: "tls_cert",
                });
            }
            (_, None, _) => return Err(SecurityError::IncompleteTls { missing: "tls_key" }),
            (_, _, None) => return Err(SecurityError::IncompleteTls { missing: "tls_ca" }),
            (Some(cert), Some(key), Some(ca)) => Some(TlsPaths {
                cert: cert.clone(),
                key: key.clone(),
                ca: ca.clone(),
            }),
        };
        Ok(Self {
            token: settings.token.clone(),
            tls,
        })
    }

    /// `NET-1 (guarded-beyond-loopback)`.
    ///
    /// # Errors
    /// When `address` can be reached from other machines, and token or TLS is missing.
    pub fn check_listener(&self, address: &Address) -> Result<(), SecurityError> {
        let missing = match (&self.token, &self.tls) {
            _ if address.is_local() => return Ok(()),
            (Some(_), Some(_)) => return Ok(()),
            (None, Some(_)) => "a token",
            (Some(_), None) => "TLS",
            (None, None) => "a token and TLS",
        };
        Err(SecurityError::Unprotected {
            address: address.clone(),
            missing,
        })
    }

    /// The client's side of `NET-1`.
    ///
    /// # Errors
    /// When `address` may be on another machine, and TLS is missing.
    pub fn check_client(&self, address: &Address) -> Result<(), SecurityError> {
        if self.tls.is_some() || address.is_local() {
            return Ok(());
        }
        Err(SecurityError::UnprotectedClient {
            address: address.clone(),
        })
    }
}

impl TlsPaths {
    pub(super) fn client(&self) -> Result<ClientTlsConfig, SecurityError> {
        Ok(ClientTlsConfig::new()
            .domain_name(TLS_NAME)
            .ca_certificate(Certificate::from_pem(read(&self.ca)?))
            .identity(self.identity()?))
    }

    pub(super) fn server(&self) -> Result<ServerTlsConfig, SecurityError> {
        Ok(ServerTlsConfig::new()
            .client_ca_root(Certificate::from_pem(read(&self.ca)?))
            .identity(self.identity()?))
    }

    /// The same for streams that are no calls.
    pub(super) fn stream_client(&self) -> Result<TlsConnector, SecurityError> {
        let (chain, key) = self.chain_and_key()?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&self.cert, error))?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(chain, key)
            .map_err(|error| unusable(&self.cert, error))?;
        Ok(TlsConnector::from(Arc::new(config)))
    }

    /// The same for streams that are no calls.
    pub(super) fn stream_server(&self) -> Result<TlsAcceptor, SecurityError> {
        let provider = Arc::new(ring::default_provider());
        let (chain, key) = self.chain_and_key()?;
        let clients = WebPkiClientVerifier::builder_with_provider(
            Arc::new(self.roots()?),
            Arc::clone(&provider),
        );
        let clients = clients.build().map_err(|error| unusable(&self.ca, error))?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&self.cert, error))?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .map_err(|error| unusable(&self.cert, error))?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    fn roots(&self) -> Result<RootCertStore, SecurityError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots
                .add(certificate)
                .map_err(|error| unusable(&self.ca, error))?;
        }
        Ok(roots)
    }

    fn chain_and_key(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), SecurityError> {
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|error| unusable(&self.key, error))?;
        Ok((certificates(&self.cert)?, key))
    }

    fn identity(&self) -> Result<Identity, SecurityError> {
        Ok(Identity::from_pem(read(&self.cert)?, read(&self.key)?))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SecurityError> {
    let pem = read(path)?;
    let all = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    all.map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, error: impl std::fmt::Display) -> SecurityError {
    SecurityError::Unusable {
        path: path.to_owned(),
        cause: error.to_string(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, SecurityError> {
    std::fs::read(path).map_err(|error| SecurityError::Unreadable {
        path: path.to_owned(),
        cause: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listener_beyond_loopback_needs_token_and_tls() {
        let open: Address = "0.0.0.0:6379".parse().unwrap();
        let tls = TlsPaths {
            cert: "c".into(),
            key: "k".into(),
            ca: "a".into(),
        };
        let token = Some(Secret::new("t"));
        let check = |token: &Option<Secret>, tls: Option<&TlsPaths>| {
            Security {
                token: token.clone(),
                tls: tls.cloned(),
            }
            .check_listener(&open)
        };
        assert!(check(&token, Some(&tls)).is_ok());
        let error = check(&None, None).unwrap_err().to_string();
        assert!(
            error.contains("needs a token and TLS: set AKTIS_TOKEN"),
            "{error}"
        );
        assert!(
            check(&token, None)
                .unwrap_err()
                .to_string()
                .contains("needs TLS")
        );
        assert!(
            check(&None, Some(&tls))
                .unwrap_err()
                .to_string()
                .contains("needs a token")
        );
        assert!(
            Security::default()
                .check_listener(&"127.0.0.1:0".parse().unwrap())
                .is_ok()
        );
    }

    #[test]
    fn client_goes_beyond_loopback_by_tls_or_not_at_all() {
        let security = Security {
            token: Some(Secret::new("t")),
            tls: None,
        };
        let check = |text: &str| security.check_client(&text.parse().unwrap());
        assert!(check("127.0.0.1:1").is_ok() && check("unix:/x").is_ok());
        let error = check("10.0.0.1:6379").unwrap_err().to_string();
        assert!(error.contains("AKTIS_TLS_CERT"), "NET-1: {error}");
    }

    #[test]
    fn half_of_a_tls_setting_names_what_is_missing() {
        let settings = Settings {
            tls_cert: Some("c".into()),
            ..Settings::default()
        };
        let error = Security::from_settings(&settings).unwrap_err().to_string();
        assert!(error.contains("tls_key is not set"), "{error}");
    }
}
