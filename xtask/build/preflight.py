"""Names everything that the machine lacks for a build, before anything is built.

Runs on any Python 3, since the Python at hand may itself be what is missing.

    python3 xtask/build/preflight.py TARGET_FOLDER
"""
# ruff: noqa: UP031, UP036 - an old Python must be able to read this file and say that it is too old.

import os
import shutil
import subprocess
import sys

# A build of the module, the tests and what they leave: measured with `du`, rounded up.
NEEDED_DISK_BYTES = 6 << 30
# The largest rustc process of the build took 1.0 GB; two run side by side on two cores.
NEEDED_MEMORY_BYTES = 3 << 30
GIB = float(1 << 30)


def missing(target):
    """What is not there, one sentence each, with the way to get it."""
    found = []
    if not sys.platform.startswith("linux"):
        found.append("Linux is needed; this is %s. A virtual machine or a container of Linux will do." % sys.platform)
    if shutil.which("cargo") is None:
        found.append("cargo is missing: install Rust from https://rustup.rs")
    elif not toolchain_works():
        found.append(
            "cargo does not run here: rust-toolchain.toml names the version it needs; "
            "install Rust from https://rustup.rs, which fetches that version by itself"
        )
    if shutil.which("cc") is None:
        found.append("a C compiler is missing: apt-get install gcc libc6-dev")
    if sys.version_info < (3, 11):
        found.append("Python 3.11 or later is missing, this is %d.%d: set PYTHON= to one" % sys.version_info[:2])
    elif not has_venv():
        found.append("Python's venv module is missing: apt-get install python3-venv")
    free = free_bytes(target)
    if free < NEEDED_DISK_BYTES and not os.path.isdir(os.path.join(target, "release")):
        found.append(
            "%s has %.1f GB of free disk, and a build takes %.0f: make room, or set CARGO_TARGET_DIR= to a folder elsewhere"
            % (target, free / GIB, NEEDED_DISK_BYTES / GIB)
        )
    memory = memory_bytes()
    if memory and memory < NEEDED_MEMORY_BYTES:
        found.append(
            "%.1f GB of memory is too little for the compiler, which takes up to %.0f: add swap, or set CARGO_BUILD_JOBS=1"
            % (memory / GIB, NEEDED_MEMORY_BYTES / GIB)
        )
    return found


def toolchain_works():
    """Whether cargo starts in this folder, with the toolchain that the project names."""
    try:
        return subprocess.call(["cargo", "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def has_venv():
    """Debian splits the module in two; both are needed."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return False
    return True


def free_bytes(folder):
    """Free disk where `folder` is, or will be."""
    folder = os.path.abspath(folder)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return shutil.disk_usage(folder).free


def memory_bytes():
    """Memory and swap that are available, 0 where it is not known. CARGO_BUILD_JOBS=1 is taken for the user's word."""
    if os.environ.get("CARGO_BUILD_JOBS") == "1":
        return 0
    try:
        with open("/proc/meminfo") as lines:
            fields = dict(line.split(":", 1) for line in lines)
        return sum(int(fields[name].split()[0]) << 10 for name in ("MemTotal", "SwapTotal"))
    except (OSError, KeyError, ValueError):
        return 0


def main():
    """Exit status 1 and a list, if anything is missing."""
    target = sys.argv[1] if len(sys.argv) > 1 else "target"
    found = missing(target)
    for sentence in found:
        sys.stderr.write("missing: %s\n" % sentence)
    if found:
        sys.stderr.write("Nothing was built.\n")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
