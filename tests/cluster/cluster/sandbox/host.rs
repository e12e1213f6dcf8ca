//! Machines and their addresses.

use std::fmt;

use aktis_proto::transport::Address;

/// A machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(pub u8);

impl Host {
    /// Where a process of this host listens.
    pub fn address(self, port: u16) -> Address {
        Address::Tcp {
            host: format!("127.0.0.{}", self.0 + 1),
            port,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host {}", self.0)
    }
}

/// The host of an address that [`Host::address`] made.
pub fn host_of(address: &Address) -> Option<Host> {
    let Address::Tcp { host, .. } = address else {
        return None;
    };
    let number: u8 = host.rsplit('.').next()?.parse().ok()?;
    Some(Host(number.checked_sub(1)?))
}
