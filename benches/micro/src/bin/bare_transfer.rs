//! The floor of a copy between nodes: the same bytes over bare sockets, with the TLS and the checksum that Aktis has.
//!
//! ```text
//!  bare_transfer send    ADDRESS MEGABYTES STREAMS [CERT KEY CA]     serves one copy per line that it reads
//!  bare_transfer receive ADDRESS MEGABYTES STREAMS [CERT KEY CA]     prints the seconds of one copy
//! ```
//! Both ends hold the whole object in memory: the receiver's is fresh, as a copy's is. A thread serves a stream.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Barrier};
use std::time::Instant;

use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

/// As a transfer's chunks.
const CHUNK_BYTES: usize = 256 << 10;

type Failure = Box<dyn Error + Send + Sync>;

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

struct Plan {
    address: String,
    bytes: usize,
    streams: usize,
    tls: Option<[String; 3]>,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, address, megabytes, streams, tls @ ..] = arguments.as_slice() else {
        return Err(
            "usage: bare_transfer send|receive ADDRESS MEGABYTES STREAMS [CERT KEY CA]".into(),
        );
    };
    let plan = Plan {
        address: address.clone(),
        bytes: megabytes.parse::<usize>()? * 1_000_000,
        streams: streams.parse()?,
        tls: <[String; 3]>::try_from(tls.to_vec()).ok(),
    };
    match what.as_str() {
        "send" => send(&plan),
        "receive" => receive(&plan),
        other => Err(format!("neither send nor receive: {other}").into()),
    }
}

/// The parts of the object, one for each stream.
fn share(plan: &Plan) -> usize {
    plan.bytes.div_ceil(plan.streams)
}

fn send(plan: &Plan) -> Result<(), Failure> {
    let mut state = 1u64;
    let object: Vec<u64> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state
    })
    .take(plan.bytes.div_ceil(8))
    .collect();
    let object: Vec<u8> = object.into_iter().flat_map(u64::to_le_bytes).collect();
    let config = plan.tls.as_ref().map(server).transpose()?;
    let listener = TcpListener::bind(&plan.address)?;
    println!("ready");
    for line in io::stdin().lines() {
        line?;
        std::thread::scope(|scope| -> Result<(), Failure> {
            let mut threads = Vec::new();
            for part in object[..plan.bytes].chunks(share(plan)) {
                let (socket, _) = listener.accept()?;
                socket.set_nodelay(true)?;
                let mut stream: Box<dyn Stream> = match &config {
                    Some(config) => {
                        let tls = ServerConnection::new(Arc::clone(config))?;
                        Box::new(StreamOwned::new(tls, socket))
                    }
                    None => Box::new(socket),
                };
                threads.push(scope.spawn(move || -> io::Result<()> {
                    // The receiver says when it begins, so that no handshake is measured.
                    stream.read_exact(&mut [0])?;
                    for chunk in part.chunks(CHUNK_BYTES) {
                        let (len, checksum) = (chunk.len() as u32, crc32fast::hash(chunk));
                        stream.write_all(&len.to_le_bytes())?;
                        stream.write_all(&checksum.to_le_bytes())?;
                        stream.write_all(chunk)?;
                    }
                    stream.flush()
                }));
            }
            for thread in threads {
                thread.join().map_err(|_| "a sender panicked")??;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn receive(plan: &Plan) -> Result<(), Failure> {
    let config = plan.tls.as_ref().map(client).transpose()?;
    let mut object = vec![0u8; plan.bytes];
    let barrier = Barrier::new(plan.streams + 1);
    let seconds = std::thread::scope(|scope| -> Result<f64, Failure> {
        let mut threads = Vec::new();
        for part in object.chunks_mut(share(plan)) {
            let socket = TcpStream::connect(&plan.address)?;
            socket.set_nodelay(true)?;
            let mut stream: Box<dyn Stream> = match &config {
                Some(config) => {
                    let name = ServerName::try_from("aktis")?;
                    let mut tls = ClientConnection::new(Arc::clone(config), name)?;
                    let mut socket = socket;
                    while tls.is_handshaking() {
                        tls.complete_io(&mut socket)?;
                    }
                    Box::new(StreamOwned::new(tls, socket))
                }
                None => Box::new(socket),
            };
            let barrier = &barrier;
            threads.push(scope.spawn(move || -> Result<(), Failure> {
                barrier.wait();
                stream.write_all(&[1])?;
                stream.flush()?;
                for chunk in part.chunks_mut(CHUNK_BYTES) {
                    let mut head = [0; 8];
                    stream.read_exact(&mut head)?;
                    stream.read_exact(chunk)?;
                    if crc32fast::hash(chunk).to_le_bytes() != head[4..] {
                        return Err("a wrong checksum".into());
                    }
                }
                Ok(())
            }));
        }
        barrier.wait();
        let begin = Instant::now();
        for thread in threads {
            thread.join().map_err(|_| "a receiver panicked")??;
        }
        Ok(begin.elapsed().as_secs_f64())
    })?;
    println!("{seconds}");
    Ok(())
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    Ok(CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?)
}

fn roots(path: &str) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

fn server([cert, key, ca]: &[String; 3]) -> Result<Arc<ServerConfig>, Failure> {
    let provider = Arc::new(default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients.build()?)
        .with_single_cert(certificates(cert)?, PrivateKeyDer::from_pem_file(key)?)?;
    Ok(Arc::new(config))
}

fn client([cert, key, ca]: &[String; 3]) -> Result<Arc<ClientConfig>, Failure> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(ca)?)
        .with_client_auth_cert(certificates(cert)?, PrivateKeyDer::from_pem_file(key)?)?;
    Ok(Arc::new(config))
}
