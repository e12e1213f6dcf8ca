//! The token on every call, and the user behind every unix socket (`NET-2`).

use aktis_common::config::Secret;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Status};

use super::security::Security;

/// Metadata that carries the token.
const TOKEN_KEY: &str = "aktis-token";

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
                    "the token is missing or wrong: set AKTIS_TOKEN to the cluster's token",
                ));
            }
        }
        Ok(request)
    }
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
fn is_equal(left: &[u8], right: &[u8]) -> bool {
    let difference = left.iter().zip(right).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(difference) == 0 && left.len() == right.len()
}
