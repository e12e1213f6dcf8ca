//! How many descriptors a process may have.

use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More is of no use to a node, and some programs close every descriptor up to the limit when they start.
const ENOUGH: u64 = 1 << 20;

/// Raises the soft limit of descriptors to the hard one. Connections, files and memory of a node are descriptors of its
/// daemon or driver, and the usual soft limit of 1024 is one of few dozens of workers with their callers. Does nothing
/// where the limit is enough, or where the system refuses.
pub fn raise_descriptor_limit() {
    let before = getrlimit(Resource::Nofile);
    let highest = before.maximum.unwrap_or(ENOUGH).min(ENOUGH);
    if before.current.is_some_and(|current| current < highest) {
        let raised = Rlimit {
            current: Some(highest),
            maximum: before.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "the limit of descriptors stays as it is");
        }
    }
}

/// Whether this process, or the machine, has no descriptor left.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

/// What to say to the user when there is no descriptor left.
pub fn descriptor_advice() -> String {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or_else(|| "no".to_owned(), |limit| limit.to_string());
    format!(
        "the limit of this process is {limit} descriptors: raise it (`ulimit -n`) or use fewer workers"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_limit_is_raised_to_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum;
        let low = Rlimit {
            current: Some(200),
            maximum: hard,
        };
        setrlimit(Resource::Nofile, low).unwrap();
        raise_descriptor_limit();
        let now = getrlimit(Resource::Nofile).current;
        assert_eq!(now, Some(hard.unwrap_or(ENOUGH).min(ENOUGH)));
        assert!(descriptor_advice().contains(&now.unwrap().to_string()));
    }
}
