"""What users test their own programs with.

>>> import aktis, aktis.testing
>>> @aktis.remote
... def square(x):
...     return x * x
>>> with aktis.testing.local():  # everything in this process: breakpoints, coverage, mocks
...     aktis.get(square.remote(3))
9

Importing this imports nothing else, and not the native module.
"""

from __future__ import annotations

import importlib

# As type checkers know it, see the package.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from ._local.entering import local

#: Where each public name is defined.
_MODULE_OF = {"local": "_local.entering"}
__all__ = ["local"]


def __getattr__(name: str) -> object:
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
        globals()[name] = value
        return value
    from aktis._messages.missing import explained

    raise AttributeError(explained(__name__, name, __all__))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
