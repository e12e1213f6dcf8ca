"""The end of a worker in good order: what its code wants to do before the process goes.

```text
 __ray_shutdown__ of the actor ─► functions registered with atexit, the last one first ─► output flushed ─► process ends
```
That is so when the last handle of an actor is gone, after ``exit_actor`` and ``__ray_terminate__``, after ``sys.exit``, after
the last call of ``max_calls``, and when an idle worker is not needed any more. ``kill``, crashes and the end of the session
run nothing of it.

Processes that code of the worker's has begun end with it. So ``multiprocessing``, whose own function waits for those that are no
daemons, is told to end them too: an actor whose last handle is gone would otherwise stay, with its GPUs, as long as they run.
"""

from __future__ import annotations

import atexit
import contextlib
import inspect
import sys
import traceback
from typing import Any

from .. import _aktis

#: How long all of it may take before the process ends anyway. As in Ray.
PATIENCE_S = 30.0


def end_in_order(actor: Any, status: int) -> None:
    """Runs what the code of this worker wants to run at its end.

    Args:
        actor: the instance, if the worker is an actor.
        status: of the process if this takes too long.
    """
    message = f"aktis: the end of this worker took longer than {PATIENCE_S:g} s and was cut short"
    _aktis.set_end_deadline(PATIENCE_S, status, message)
    hook = getattr(type(actor), "__ray_shutdown__", None)
    if hook is not None:
        with _errors_printed():
            result = hook(actor)
            if inspect.iscoroutine(result):
                import asyncio

                asyncio.run(result)
    _wait_for_no_children()
    with _errors_printed():  # each of the functions is called, and its error printed, by atexit itself
        atexit._run_exitfuncs()
    _aktis.clear_end_deadline()


def _wait_for_no_children() -> None:
    """Has ``multiprocessing`` end its processes at its turn among the functions, before it waits for them.

    Functions that were registered later run before that: a pool or a server may still be closed as its user wants it.
    """
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, _end_children, exitpriority=0)


def _end_children() -> None:
    from multiprocessing import active_children

    for child in active_children():
        child.terminate()


@contextlib.contextmanager
def _errors_printed() -> Any:
    try:
        yield
    except BaseException:  # noqa: BLE001 - nobody else would hear of it
        traceback.print_exc()
