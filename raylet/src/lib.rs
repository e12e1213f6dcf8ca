//! The one daemon of a node: leases, resources, worker pool, object store, transfer.
