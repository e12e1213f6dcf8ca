"""Modules that the workers of a node share: the zygote imports them, and its forks find them there.

Importing numpy, pandas and pyarrow takes a third of a second and 60 MB in every process, and what the stages of a dataset
import of ``aktis.data`` another tenth. Forked from a zygote that has them, a worker pays neither. They are imported when the first stage of a
dataset that calls Python starts, and ahead, when the zygote is idle for a moment, if the driver has them or has imported ``aktis.data``. pandas
takes as long as all others together: it comes last, and only if it is likely to be used. What a fork must not inherit is put right here:

- OpenBLAS starts threads at its import. It ends them before a fork, by itself, and starts as many anew in the process
  that computes; one fork that does nothing leaves the zygote single-threaded.
- The background thread of Arrow's jemalloc is not started; Arrow ends it in forked processes anyway.
- numpy's global random generator would be the same in all workers: each is seeded anew.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Iterable, Iterator

#: The modules for which all this is known to be enough.
MODULES = (
    "numpy", "pyarrow", "aktis.data._worker", "aktis.data._from_python", "aktis.data._formats.csv", "aktis.data._formats.json",
    "aktis.data._stores.arrow", "pandas",
)  # fmt: skip
#: Those that most stages do without, and which of them somebody has asked for.
_SELDOM = frozenset(MODULES[4:])
#: A zygote that imports forks nobody meanwhile: this takes as long as all others together.
_SLOW = "pandas"
_asked: set[str] = set()


def likely_modules() -> list[str]:
    """Of :data:`MODULES`, those that workers of this process will need: what it has imported or asked for, and, if it uses datasets, all
    but pandas.

    >>> import aktis.data
    >>> likely_modules()[:3]
    ['numpy', 'pyarrow', 'aktis.data._worker']
    """
    return [name for name in MODULES if _is_used(name) or ("aktis.data" in sys.modules and name != _SLOW)]


def _is_used(module: str) -> bool:
    return module in sys.modules or module in _asked


def foresee() -> None:
    """Tells the node that this process uses datasets: it may have begun its session before."""
    from aktis import _aktis

    _aktis.preload(likely_modules())


def ask(module: str) -> None:
    """Stages of this process will use a module, whether the process itself does or not."""
    if module in MODULES and module not in _asked:
        _asked.add(module)
        foresee()


def modules_of_stages() -> list[str]:
    """Of :data:`MODULES`, those that stages of this process wait for."""
    return [name for name in MODULES if name not in _SELDOM or _is_used(name)]


def load(modules: Iterable[str]) -> None:
    """Imports modules in the zygote. One that cannot be imported is left to the workers, whose errors are seen."""
    missing = [name for name in modules if name in MODULES and name not in sys.modules]
    if not missing:
        return
    gc.disable()
    try:
        with _no_background_thread_of_arrow():
            for name in missing:
                with contextlib.suppress(Exception):
                    importlib.import_module(name)
                _end_threads()
            if "aktis.data._worker" in missing:
                _make_planner()
    finally:
        # Not collected before: what an import leaves as garbage is little, and a worker may be waiting.
        gc.freeze()
        gc.enable()


def _make_planner() -> None:
    """What gives expressions their meaning knows a few hundred functions. Every stage worker needs it, and takes some milliseconds to make it."""
    from aktis import _aktis

    with contextlib.suppress(Exception):
        _aktis.data.Sources.range(1).filter("id = 0")


@contextlib.contextmanager
def _no_background_thread_of_arrow() -> Iterator[None]:
    name = "JE_ARROW_MALLOC_CONF"
    before = os.environ.get(name)
    os.environ[name] = ",".join(filter(None, (before, "background_thread:false")))
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _end_threads() -> None:
    """Lets the libraries end their threads, as they do before every fork: waiting for work, they spin for a while."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    with contextlib.suppress(FileNotFoundError):  # where there is no /proc
        threads = len(os.listdir("/proc/self/task"))
        if threads > 1:
            print(f"the zygote has {threads} threads after importing shared modules", file=sys.stderr, flush=True)


def after_fork() -> None:
    """Makes a worker differ from its siblings where it must."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()
