//! Where a process listens.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// An address of a gRPC server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A unix socket of this machine.
    Unix(PathBuf),
    /// A TCP port.
    Tcp {
        /// Name or IP address; IPv6 without brackets.
        host: String,
        /// Port; 0 when listening lets the system choose.
        port: u16,
    },
}

/// Text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no address: give HOST:PORT, such as 10.0.0.1:6379, or unix:/path")]
pub struct AddressError {
    text: String,
}

impl Address {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }

    /// `HOST:PORT`, with brackets around IPv6; the path of a unix socket.
    pub fn authority(&self) -> String {
        match self {
            Self::Unix(path) => path.display().to_string(),
            Self::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port } => format!("{host}:{port}"),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// Reads `unix:/path` or `host:port`, the latter also behind `http://` or `https://`.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let invalid = || AddressError {
            text: text.to_owned(),
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() {
                Err(invalid())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let rest = ["http://", "https://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        let (host, port) = rest.unwrap_or(text).rsplit_once(':').ok_or_else(invalid)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(invalid)?,
            None if host.contains([':', '/', '@']) => return Err(invalid()),
            None => host,
        };
        let port = port.parse().map_err(|_| invalid())?;
        if host.is_empty() {
            return Err(invalid());
        }
        Ok(Self::Tcp {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { .. } => f.write_str(&self.authority()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_they_print() {
        for text in [
            "unix:/tmp/gcs.sock",
            "10.0.0.1:6379",
            "[::1]:80",
            "head.local:1",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("http://h:5".parse::<Address>().unwrap().to_string(), "h:5");
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in [
            "",
            "host",
            "host:",
            ":80",
            "host:99999",
            "unix:",
            "a:b:80",
            "[::1:80",
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("such as 10.0.0.1:6379"), "{error}");
        }
    }

    #[test]
    fn only_loopback_and_unix_sockets_are_local() {
        let is_local = |text: &str| text.parse::<Address>().unwrap().is_local();
        assert!(is_local("127.0.0.1:1") && is_local("[::1]:1") && is_local("unix:/x"));
        assert!(is_local("localhost:1"));
        assert!(!is_local("0.0.0.0:1") && !is_local("10.0.0.1:1") && !is_local("head:1"));
    }
}
