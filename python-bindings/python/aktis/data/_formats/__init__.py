"""Formats of files that Python's libraries read and write: a module each, which workers load when they meet such a file."""
