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
    from ._chaos.checking import chaos_check
    from ._chaos.entering import Chaos, Fault, chaos
    from ._local.entering import local

#: Where each public name is defined.
_MODULE_OF = {
    "Chaos": "_chaos.entering",
    "Fault": "_chaos.entering",
    "chaos": "_chaos.entering",
    "chaos_check": "_chaos.checking",
    "local": "_local.entering",
}
__all__ = ["Chaos", "Fault", "chaos", "chaos_check", "local"]


def __getattr__(name: str) -> object:
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
        globals()[name] = value
        return value
    from aktis._messages.missing import explained

    raise AttributeError(explained(__name__, name, __all__))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
