//! Project chores that need more than a Makefile line.
fn main() {}
