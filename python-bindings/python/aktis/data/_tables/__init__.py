"""Tables whose own log says which files are theirs: Iceberg, Delta, Lance. A format is a module here, and functions that users call."""
