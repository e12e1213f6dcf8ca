"""What no compiler checks of this repository; `make lint` runs all of it, in seconds.

    python3 xtask/checks              all checks
    python3 xtask/checks labels       one of labels, callers, settings, lints

| check    | says                                                                                              |
|----------|---------------------------------------------------------------------------------------------------|
| labels   | each label of an invariant has one meaning, is listed and stated, kept by code and cited by a test |
| callers  | what is `pub` has a caller outside its own tests                                                  |
| settings | each setting is read somewhere                                                                    |
| lints    | no clock, randomness or IO in cores; threads have names; atomics and the interpreter lock stay in their places; names mean one thing |
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import callers
import labels
import lints
import rust
import settings
from rust import ROOT, Source

CHECKS: dict[str, Callable[[list[Source]], list[str]]] = {
    "labels": lambda files: labels.complaints(files, _python(), (ROOT / "docs/architecture.md").read_text()),
    "callers": lambda files: callers.complaints(files, callers.users()),
    "settings": settings.complaints,
    "lints": lints.complaints,
}


def _python() -> list[Source]:
    paths = rust.tracked("python-bindings/python/*.py", "tests/python/*.py")
    # The tests of these checks are full of violations.
    return [Source(path, (ROOT / path).read_text()) for path in paths if not path.endswith("/test_checks.py")]


def main(wanted: list[str]) -> int:
    """Prints what is wrong; returns the exit code."""
    if unknown := [name for name in wanted if name not in CHECKS]:
        print(f"no such check: {', '.join(unknown)}; there are {', '.join(CHECKS)}", file=sys.stderr)
        return 2
    files = rust.sources()
    found = [f"{name}: {complaint}" for name in wanted or CHECKS for complaint in CHECKS[name](files)]
    print("\n".join(found) if found else f"checked {len(files)} files: {', '.join(wanted or CHECKS)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
