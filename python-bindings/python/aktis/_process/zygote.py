"""The zygote: a small process, with one thread, that forks the workers of a node.

It imports what every worker needs, once, and then serves its raylet over a socket (standard input). Each fork shares
the imported pages and costs milliseconds. Started by the raylet as ``python -m aktis._process.zygote --cleanup-dir DIR``.

No thread may be started here: a fork copies only the thread that calls it, with all locks as they are.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import signal
import sys

import cloudpickle  # noqa: F401

# Everything a worker needs for its first task is imported here, before the first fork.
from .. import _aktis, actor, exceptions, remote_function, runtime_context  # noqa: F401
from .._calls import objects  # noqa: F401
from .._session import session
from .._values import carried, definition, serialization  # noqa: F401
from . import actor_host, end, output, shared_modules, thread_limits, worker  # noqa: F401


def main(argv: list[str] | None = None) -> None:
    """Serves the raylet at the other end of standard input until it goes away. Returns in no child."""
    path, cleanup_dirs = _parse(sys.argv[1:] if argv is None else argv)
    if path is not None:
        sys.path[:] = path
    # Ctrl-C in a terminal is for the driver, which ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    link = _take_standard_input()
    thread_limits.begin()
    # Whoever reads of a crash in native code learns which line of Python it was in, and whoever waits for a worker that
    # hangs, where it is: `kill -USR1 PID`. Forks inherit it.
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, file=2)
    gc.collect()
    gc.freeze()  # keeps collections in the children from touching, and so copying, every shared page
    try:
        start = _aktis.zygote_serve(link, cleanup_dirs, _fork, shared_modules.load)
    except SystemExit as error:  # in a child that cannot become a worker: nothing that is here is its own
        os._exit(error.code if isinstance(error.code, int) else 1)
    if start is not None:
        _become_worker(start)
    # Somebody waits for the end, and there is nothing that an orderly one would do.
    os._exit(0)


def _parse(argv: list[str]) -> tuple[list[str] | None, list[str]]:
    """``--path FOLDERS`` (``sys.path`` of the workers) and each ``--cleanup-dir DIR`` (removed when the raylet is gone).

    By hand, because ``argparse`` takes longer to import than everything else here.

    >>> _parse(["--path", "a:b", "--cleanup-dir", "/tmp/x", "--cleanup-dir", "/tmp/y"])
    (['a', 'b'], ['/tmp/x', '/tmp/y'])
    """
    if len(argv) % 2 or not set(argv[::2]) <= {"--path", "--cleanup-dir"}:
        raise SystemExit(f"usage: python -m aktis._process.zygote [--path FOLDERS] [--cleanup-dir DIR]...; got {argv}")
    given = list(zip(argv[::2], argv[1::2], strict=True))
    paths = [value.split(os.pathsep) for name, value in given if name == "--path"]
    return (paths[-1] if paths else None), [value for name, value in given if name == "--cleanup-dir"]


def _take_standard_input() -> int:
    """Moves the socket away from standard input, which workers must not read."""
    link = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return link


def _fork() -> int:
    gc.disable()
    try:
        return os.fork()
    finally:
        gc.enable()


def _become_worker(start: dict[str, object]) -> None:
    """Runs as a worker until the raylet or the owner ends it; never returns."""
    status = 1
    try:
        signal.signal(signal.SIGINT, worker.on_interrupt)
        shared_modules.after_fork()
        # As in Ray, GPUs are seen by those who ask for them. A lease with GPUs sets this again.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        output.install()
        session.mark_connected(as_worker=True)
        status = _work(start)
        end.end_in_order(worker.actor_instance, status)
    except BaseException:  # noqa: BLE001 - the last chance to say why
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        # Others may hold references to what this process owns. What it holds itself is over.
        with contextlib.suppress(Exception):
            worker.actor_instance = None
            _aktis.linger()
        os._exit(status)


def _work(start: dict[str, object]) -> int:
    """Runs what the raylet and the callers send, until the process is to end with the status returned."""
    try:
        _aktis.worker_main(start)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    return 0


if __name__ == "__main__":
    main()
