//! The shared-memory object store of one node: arena, allocator, object table, spilling.
