//! The head's control store: nodes, actors, jobs, key-value table, publications.
