"""Functions and classes that workers reach by import, as in a script split over several files."""


def double(x):
    return 2 * x


class ImportableError(Exception):
    """An exception with a constructor of two arguments, which default pickling cannot rebuild from ``args``."""

    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class PlainError(Exception):
    pass
