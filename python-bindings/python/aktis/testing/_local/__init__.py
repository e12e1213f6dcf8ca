"""Calls and datasets within the process of a test, see :func:`aktis.testing.local`."""
