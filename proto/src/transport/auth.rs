//! The token on every call, and the user behind every unix socket (`NET-2`).

use aktis_common::config::Secret;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::server::{TlsConnectInfo, UdsConnectInfo};
use tonic::{Request, Status};

use super::door::Visitor;
use super::security::Security;
use crate::{VERSION, refusal_of_version};

/// Metadata that carries the token.
const TOKEN_KEY: &str = "aktis-token";
/// Metadata that carries the caller's version of Aktis.
const VERSION_KEY: &str = "aktis-version";

/// Adds the token to calls.
#[derive(Debug, Clone)]
pub struct ClientAuth {
    token: Option<MetadataValue<Ascii>>,
}

impl ClientAuth {
    pub(super) fn new(security: &Security) -> Self {
        let hex = |token: &Secret| {
            let digits: String = token
                .expose()
                .bytes()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let mut value: MetadataValue<Ascii> = digits.parse().expect("hexadecimal is ASCII");
            value.set_sensitive(true);
            value
        };
        Self {
            token: security.token.as_ref().map(hex),
        }
    }
}

impl Interceptor for ClientAuth {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.token {
            request.metadata_mut().insert(TOKEN_KEY, token.clone());
        }
        let version = MetadataValue::from_static(VERSION);
        request.metadata_mut().insert(VERSION_KEY, version);
        Ok(request)
    }
}

/// Checks token and user of calls.
#[derive(Debug, Clone)]
pub(super) struct ServerAuth {
    expected: ClientAuth,
}

impl ServerAuth {
    pub(super) fn new(security: &Security) -> Self {
        Self {
            expected: ClientAuth::new(security),
        }
    }
}

impl Interceptor for ServerAuth {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(peer) = request.extensions().get::<UdsConnectInfo>() {
            check_user(peer)?;
        }
        if let Some(expected) = &self.expected.token {
            let given = request.metadata().get(TOKEN_KEY);
            let is_right = given.is_some_and(|given| {
                is_equal(given.as_encoded_bytes(), expected.as_encoded_bytes())
            });
            if !is_right {
                return Err(Status::unauthenticated(
                    "the token is missing or wrong: set AKTIS_TOKEN to the cluster's token, or call as the user who \
                     started the head, with the same AKTIS_TEMP_DIR",
                ));
            }
        }
        check_version(&request)?;
        let extensions = request.extensions();
        let visitor = extensions.get::<Visitor>();
        let over_tls = || Some(extensions.get::<TlsConnectInfo<Visitor>>()?.get_ref());
        if let Some(visitor) = visitor.or_else(over_tls) {
            visitor.is_known_now();
        }
        Ok(request)
    }
}

fn check_version(request: &Request<()>) -> Result<(), Status> {
    let given = request.metadata().get(VERSION_KEY);
    let given = given.and_then(|version| version.to_str().ok());
    if given == Some(VERSION) {
        return Ok(());
    }
    Err(Status::failed_precondition(refusal_of_version(
        "process",
        given.unwrap_or_default(),
    )))
}

fn check_user(peer: &UdsConnectInfo) -> Result<(), Status> {
    let own = rustix::process::geteuid().as_raw();
    match &peer.peer_cred {
        Some(credentials) if [own, 0].contains(&credentials.uid()) => Ok(()),
        _ => Err(Status::permission_denied(
            "this socket belongs to another user",
        )),
    }
}

/// Compares without telling by its duration where the first difference is.
pub(super) fn is_equal(left: &[u8], right: &[u8]) -> bool {
    let difference = left.iter().zip(right).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(difference) == 0 && left.len() == right.len()
}
