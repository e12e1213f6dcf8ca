"""Values, functions and errors on their way between processes."""
