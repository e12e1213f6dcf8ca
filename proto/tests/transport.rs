//! Who is let in, and who is spoken to, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aktis_common::config::Secret;
use aktis_proto::convert::is_unsent;
use aktis_proto::transport::{
    Address, ConnectError, Listener, Security, connect, connect_lazy, gcs_client, serve,
};
use aktis_proto::v1::Empty;
use tonic::metadata::MetadataValue;
use tonic::service::Routes;

fn security(token: &str) -> Security {
    Security {
        token: Some(Secret::new(token)),
        tls: None,
    }
}

/// A server without a service: who is let in hears that there is none.
async fn server(security: Security) -> Address {
    let listen = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(&listen, &security).await.unwrap();
    let address = listener.address().clone();
    tokio::spawn(async move {
        serve(
            listener,
            &security,
            Routes::default(),
            std::future::pending(),
        )
        .await
    });
    address
}

async fn call(address: &Address, security: &Security) -> tonic::Code {
    let channel = connect(address, security).await.unwrap();
    gcs_client(channel)
        .list_nodes(Empty {})
        .await
        .unwrap_err()
        .code()
}

#[tokio::test]
async fn caller_of_another_version_is_refused_with_both_named() {
    let address = server(security("t")).await;
    assert_eq!(
        call(&address, &security("t")).await,
        tonic::Code::Unimplemented
    );
    assert_eq!(
        call(&address, &security("u")).await,
        tonic::Code::Unauthenticated,
        "NET-2"
    );
    let endpoint =
        tonic::transport::Endpoint::from_shared(format!("http://{}", address.authority()));
    let channel = endpoint.unwrap().connect().await.unwrap();
    for version in [Some("0.0.7"), None] {
        let mut client = aktis_proto::v1::gcs_client::GcsClient::new(channel.clone());
        let mut request = tonic::Request::new(Empty {});
        let token = MetadataValue::from_static("74");
        request.metadata_mut().insert("aktis-token", token);
        if let Some(version) = version {
            let version = MetadataValue::from_static(version);
            request.metadata_mut().insert("aktis-version", version);
        }
        let status = client.list_nodes(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::FailedPrecondition, "NET-2");
        let message = status.message();
        assert!(message.contains(aktis_proto::VERSION), "{message}");
        assert!(
            version.is_none_or(|version| message.contains(version)),
            "{message}"
        );
    }
}

/// The server has threads of its own: this one connects and reads without giving way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_do_not_keep_others_out() {
    let address = server(security("t")).await;
    let silent: Vec<std::net::TcpStream> = (0..600)
        .map_while(|_| std::net::TcpStream::connect(address.authority()).ok())
        .collect();
    assert!(silent.len() > 100, "only {} connections", silent.len());
    assert_eq!(
        call(&address, &security("t")).await,
        tonic::Code::Unimplemented,
        "NET-5"
    );
    // The oldest ones were turned away.
    silent[0]
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let end = loop {
        match std::io::Read::read(&mut &silent[0], &mut [0; 4096]) {
            Ok(1..) => {}
            end => break end,
        }
    };
    assert!(
        !matches!(&end, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
        "NET-5: {end:?}"
    );
}

/// A process of user 65534 that listens and writes what it hears into a file.
struct Stranger {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

const LISTEN: &str = r#"
import socket, sys
server = socket.socket()
server.bind(("127.0.0.1", int(sys.argv[1])))
server.listen(8)
open(sys.argv[2] + "/up", "w").write("up")
while True:
    peer, _ = server.accept()
    open(sys.argv[2] + "/heard", "ab").write(b"connected:" + peer.recv(4096))
"#;

impl Stranger {
    /// None without root.
    fn start() -> Option<Self> {
        // One that another user can run, too.
        let has_python = std::path::Path::new("/usr/bin/python3").exists();
        if !rustix::process::geteuid().is_root() || !has_python {
            eprintln!("skipped: only root can be another user");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(folder.path(), Some(65534), Some(65534)).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let child = Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .args(["/usr/bin/python3", "-c", LISTEN, &port.to_string()])
            .arg(folder.path())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let stranger = Self {
            child,
            port,
            folder,
        };
        stranger.until("up");
        Some(stranger)
    }

    fn until(&self, name: &str) -> Vec<u8> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            // A file is there before its content is.
            if let Ok(bytes) = std::fs::read(self.folder.path().join(name))
                && !bytes.is_empty()
            {
                return bytes;
            }
            assert!(Instant::now() < deadline, "no file {name}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn nothing_is_said_to_a_port_of_another_user() {
    let Some(stranger) = Stranger::start() else {
        return;
    };
    let address: Address = format!("127.0.0.1:{}", stranger.port).parse().unwrap();
    let error = connect(&address, &security("secret")).await.unwrap_err();
    assert!(matches!(error, ConnectError::Foreign(_)), "NET-3: {error}");
    assert!(error.to_string().contains("uid 65534"), "{error}");
    assert_eq!(stranger.until("heard"), b"connected:", "NET-3");
}

#[tokio::test]
async fn client_without_tls_does_not_go_to_other_machines() {
    let address: Address = "192.0.2.1:6379".parse().unwrap();
    let error = connect(&address, &security("secret")).await.unwrap_err();
    assert!(matches!(error, ConnectError::Security(_)), "NET-1: {error}");
}

/// Whether a call may have arrived decides whether it may be made elsewhere.
#[tokio::test]
async fn call_for_which_no_connection_came_about_is_told_from_one_that_broke() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let channel = connect_lazy(&Address::Unix(path.clone()), &Security::default()).unwrap();
    let mut client = gcs_client(channel);
    let nobody = client.list_nodes(Empty {}).await.unwrap_err();
    assert!(is_unsent(&nobody), "{nobody:?}");
    // Somebody who takes the call and hangs up.
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let hangs_up = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = [0; 4096];
        let mut heard = Vec::new();
        // The frame with the headers of the call comes after those that begin a connection.
        while !heard.windows(9).any(|frame| frame[3] == 1 && frame[8] == 1) {
            let read = tokio::io::AsyncReadExt::read(&mut stream, &mut bytes).await;
            heard.extend_from_slice(&bytes[..read.unwrap()]);
        }
    });
    let broken = client.list_nodes(Empty {}).await.unwrap_err();
    hangs_up.await.unwrap();
    assert!(!is_unsent(&broken), "{broken:?}");
}
