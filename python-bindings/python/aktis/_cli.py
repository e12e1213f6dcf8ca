"""The command ``aktis``: parsed and carried out by the native module."""

from __future__ import annotations

import sys


def main() -> int:
    """Runs the command line of this process; returns its exit status."""
    from . import _aktis
    from ._process.command import zygote_command

    self_command = [sys.executable, "-m", "aktis._cli"]
    return _aktis.cli(sys.argv[1:], self_command, zygote_command())


if __name__ == "__main__":
    sys.exit(main())
