//! Examples of Aktis from Rust.
