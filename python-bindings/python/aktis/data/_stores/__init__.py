"""Files that are not local: which store paths mean, what lies there, and their bytes (ADR 129)."""
