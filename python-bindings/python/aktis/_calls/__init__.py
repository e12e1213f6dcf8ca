"""Calls from the side of the caller: what `remote` makes, its options and arguments, and the objects that come back."""
