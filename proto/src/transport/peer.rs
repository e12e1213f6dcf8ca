//! Who is at the other end, looked at before anything is said (`NET-3`).
//!
//! A path in the file system and a port of this machine can be anybody's: whose the socket at the other end is, only the
//! kernel knows. It says so of unix sockets by `SO_PEERCRED`, and of TCP connections within a machine by its table of them
//! (`/proc/net/tcp`, see proc_pid_net(5)), in which each end has a row with its user.

use std::fmt::Write;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tonic::codegen::http::Uri;
use tower::Service;

use super::address::Address;
use super::network::BoxedDuplex;

/// How often the table is asked for a connection that it does not show yet, or that nobody has accepted yet.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);
/// State of a row: the socket listens.
const LISTENS: &str = "0A";

/// The process at the other end is not one of this user.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "{address} is not served by a process of this user (uid {own}) but {by}: nothing was said to it; between users, \
     use TLS (AKTIS_TLS_CERT, AKTIS_TLS_KEY, AKTIS_TLS_CA)"
)]
pub struct ForeignPeer {
    address: Address,
    own: u32,
    by: String,
}

/// Opens connections without TLS: to processes of this user on this machine, and to nobody else.
#[derive(Debug, Clone)]
pub(super) struct OwnPeers {
    pub(super) address: Address,
}

impl Service<Uri> for OwnPeers {
    type Response = TokioIo<BoxedDuplex>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let address = self.address.clone();
        Box::pin(async move { dial(&address).await.map(TokioIo::new) })
    }
}

pub(super) async fn dial(address: &Address) -> io::Result<BoxedDuplex> {
    match address {
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).await?;
            let uid = stream.peer_cred()?.uid();
            if uid != own_uid() {
                return Err(foreign(address, format!("by one of uid {uid}")));
            }
            Ok(Box::new(stream))
        }
        Address::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            let (near, far) = (stream.local_addr()?, stream.peer_addr()?);
            check_owner(address, near, far).await?;
            Ok(Box::new(stream))
        }
    }
}

async fn check_owner(address: &Address, near: SocketAddr, far: SocketAddr) -> io::Result<()> {
    if !far.ip().to_canonical().is_loopback() {
        return Err(foreign(address, format!("by another machine ({far})")));
    }
    for _ in 0..TRIES {
        let found = tokio::task::spawn_blocking(move || owners(near, far));
        let Owners { end, listener } = found.await.map_err(io::Error::other)??;
        match (end, listener) {
            // Older kernels show 0 for a connection that nobody has accepted yet: what listens must be our own, too.
            (Some(end), Some(listener)) if end == own_uid() && listener == end => return Ok(()),
            (Some(end), _) if end != own_uid() && end != 0 => {
                return Err(foreign(address, format!("by one of uid {end}")));
            }
            (_, Some(listener)) if listener != own_uid() => {
                return Err(foreign(address, format!("by one of uid {listener}")));
            }
            _ => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(foreign(
        address,
        "by one that the system does not name".to_owned(),
    ))
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn foreign(address: &Address, by: String) -> io::Error {
    let foreign = ForeignPeer {
        address: address.clone(),
        own: own_uid(),
        by,
    };
    io::Error::new(io::ErrorKind::PermissionDenied, foreign)
}

/// Users of the other end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Owners {
    /// Of the connection.
    end: Option<u32>,
    /// Of the socket that listens on its port.
    listener: Option<u32>,
}

fn owners(near: SocketAddr, far: SocketAddr) -> io::Result<Owners> {
    let read = |path: &str| match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other,
    };
    let four = read("/proc/net/tcp")?;
    let six = read("/proc/net/tcp6")?;
    Ok(find(&four, &six, near, far))
}

/// Looks for the other end's rows. A socket for both families has its rows in the table for IPv6.
fn find(four: &str, six: &str, near: SocketAddr, far: SocketAddr) -> Owners {
    let mut owners = Owners::default();
    let any = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    let ends = keys(near)
        .into_iter()
        .flat_map(|near| keys(far).map(|far| (far, near.clone())));
    let ends: Vec<(String, String)> = ends.collect();
    let listening: Vec<String> = [far.ip(), any[0], any[1]]
        .into_iter()
        .flat_map(|ip| keys(SocketAddr::new(ip, far.port())))
        .collect();
    for row in four.lines().skip(1).chain(six.lines().skip(1)) {
        let fields: Vec<&str> = row.split_ascii_whitespace().collect();
        let [_, local, remote, state, _, _, _, uid, ..] = fields.as_slice() else {
            continue;
        };
        let Ok(uid) = uid.parse() else { continue };
        let is_end = ends
            .iter()
            .any(|(far, near)| far == local && near == remote);
        if is_end {
            owners.end = Some(uid);
        } else if *state == LISTENS && listening.iter().any(|key| key == local) {
            owners.listener = Some(uid);
        }
    }
    owners
}

/// An address as the tables write it, for either family: 32-bit words in the machine's order.
fn keys(address: SocketAddr) -> [String; 2] {
    let port = address.port();
    let ip = address.ip().to_canonical();
    let mapped = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let words = |octets: &[u8]| {
        octets
            .chunks_exact(4)
            .fold(String::new(), |mut text, word| {
                let word = u32::from_ne_bytes(word.try_into().expect("four bytes"));
                let _ = write!(text, "{word:08X}");
                text
            })
    };
    let six = format!("{}:{port:04X}", words(&mapped.octets()));
    match ip {
        IpAddr::V4(ip) => [format!("{}:{port:04X}", words(&ip.octets())), six],
        IpAddr::V6(_) => [six.clone(), six],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn own_ports_are_recognised_in_both_families() {
        for listen in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
            // Machines without IPv6 have one family less.
            let Ok(listener) = tokio::net::TcpListener::bind(listen).await else {
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            let host = if listen == "[::1]:0" {
                "::1"
            } else {
                "127.0.0.1"
            };
            let address = Address::Tcp {
                host: host.to_owned(),
                port,
            };
            // Nobody has accepted it.
            dial(&address).await.map(drop).unwrap();
        }
    }

    #[test]
    fn rows_of_another_user_are_told_from_own_ones() {
        let header =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n";
        let row = |local: &str, remote: &str, state: &str, uid: u32| {
            format!(
                "   0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000 {uid} 0 1\n"
            )
        };
        let near: SocketAddr = "127.0.0.1:40000".parse().unwrap();
        let far: SocketAddr = "127.0.0.1:6379".parse().unwrap();
        let [near_key, _] = keys(near);
        let [far_key, far_mapped] = keys(far);
        let [_, near_mapped] = keys(near);
        let [_, any] = keys("[::]:6379".parse().unwrap());
        let own_end = row(&near_key, &far_key, "01", 7);
        let four = format!("{header}{own_end}");
        let six = format!(
            "{header}{}{}",
            row(&any, &keys("[::]:0".parse().unwrap())[0], LISTENS, 65534),
            row(&far_mapped, &near_mapped, "01", 65534)
        );
        let theirs = Owners {
            end: Some(65534),
            listener: Some(65534),
        };
        assert_eq!(find(&four, &six, near, far), theirs, "NET-3");
        assert_eq!(find(&four, header, near, far), Owners::default());
    }
}
