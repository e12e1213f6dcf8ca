#!/usr/bin/env -S python3 -S -E
"""RUSTC_WRAPPER of `account.py`: runs rustc and notes what it cost, a line of JSON for each crate in $AKTIS_RUSTC_CPU."""

import json
import os
import resource
import subprocess
import sys
import time


def main():
    """The arguments are rustc's command line."""
    command = sys.argv[1:]
    started = time.monotonic()
    # The jobserver of cargo is a pair of descriptors that are passed on.
    code = subprocess.call(command, close_fds=False)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    if "--crate-name" in command and "--print" not in command:
        note = {
            "crate": command[command.index("--crate-name") + 1],
            # The folder of the package, from which its name and version follow.
            "package": os.environ.get("CARGO_PKG_NAME", ""),
            "version": os.environ.get("CARGO_PKG_VERSION", ""),
            "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
            "wall_seconds": round(time.monotonic() - started, 2),
            "peak_mb": used.ru_maxrss >> 10,
        }
        with open(os.environ["AKTIS_RUSTC_CPU"], "a") as notes:
            notes.write(json.dumps(note) + "\n")
    sys.exit(code)


main()
