"""Faults on purpose, see :func:`aktis.testing.chaos`."""
