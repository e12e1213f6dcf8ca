//! Streams beside gRPC: who is let in, and that bytes pass, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::{Path, PathBuf};

use aktis_common::config::Secret;
use aktis_proto::transport::{
    Address, BoxedDuplex, ConnectError, Listener, Network, Security, TlsPaths, serve_streams,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn security(token: &str, tls: Option<TlsPaths>) -> Security {
    Security {
        token: Some(Secret::new(token)),
        tls,
    }
}

/// Certificates of a cluster, in a folder.
fn certificates(folder: &Path) -> TlsPaths {
    let write = |name: &str, text: String| -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let ca = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["aktis".to_owned()]).unwrap();
    let own = own.signed_by(&key, &issuer).unwrap();
    TlsPaths {
        cert: write("cert", own.pem()),
        key: write("key", key.serialize_pem()),
        ca: write("ca", ca.pem()),
    }
}

/// Sends everything back.
async fn echo(stream: BoxedDuplex) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let _ = tokio::io::copy(&mut reader, &mut writer).await;
}

async fn server(listen: &str, security: Security) -> Address {
    let listen = listen.parse().unwrap();
    let listener = Listener::bind(&listen, &security).await.unwrap();
    let address = listener.address().clone();
    tokio::spawn(async move { serve_streams(listener, &security, echo).await });
    address
}

async fn open(address: &Address, security: &Security) -> Result<BoxedDuplex, ConnectError> {
    Network::system().open_stream(address, security).await
}

async fn passes(mut stream: BoxedDuplex) -> bool {
    let sent: Vec<u8> = (0..300_000u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut received = vec![0; 1000];
    for part in sent.chunks(1000) {
        stream.write_all(part).await.unwrap();
        stream.flush().await.unwrap();
        stream.read_exact(&mut received).await.unwrap();
        if received != part {
            return false;
        }
    }
    true
}

#[tokio::test]
async fn bytes_pass_both_ways_over_tcp_tls_and_unix_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let tls = Some(certificates(folder.path()));
    let unix = format!("unix:{}", folder.path().join("s").display());
    for (listen, tls) in [("127.0.0.1:0", None), ("127.0.0.1:0", tls), (&unix, None)] {
        let security = security("t", tls);
        let address = server(listen, security.clone()).await;
        assert!(passes(open(&address, &security).await.unwrap()).await);
    }
}

#[tokio::test]
async fn stream_with_a_wrong_token_is_refused_and_told_why() {
    let address = server("127.0.0.1:0", security("t", None)).await;
    match open(&address, &security("u", None)).await.map(drop) {
        Err(ConnectError::Refused { cause, .. }) => assert!(cause.contains("token"), "NET-2"),
        other => panic!("NET-2: {other:?}"),
    }
}

#[tokio::test]
async fn stream_with_certificates_of_another_cluster_is_not_let_in() {
    let (own, foreign) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let own = security("t", Some(certificates(own.path())));
    let foreign = security("t", Some(certificates(foreign.path())));
    let address = server("127.0.0.1:0", own.clone()).await;
    let refused = open(&address, &foreign).await.map(drop);
    assert!(
        matches!(refused, Err(ConnectError::Unreachable { .. })),
        "{refused:?}"
    );
    assert!(open(&address, &own).await.is_ok());
}
