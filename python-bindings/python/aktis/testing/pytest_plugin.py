"""Fixtures for pytest, found by its entry point ``pytest11``.

```text
 aktis_session    a session of its own for the test, and at its end a look at what the test has left
 aktis_local      everything in the process of the test, see aktis.testing.local()
 @pytest.mark.aktis(num_cpus=4, may_leave=["actors"])    arguments of either, and what a test may leave
```
Every run of pytest where Aktis is installed imports this, so it imports nothing of Aktis before a test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

#: What tests may be allowed to leave, and fail for otherwise.
_KINDS = ("references", "actors", "processes", "shared memory")
_has_failed = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    """Declares the marker."""
    config.addinivalue_line(
        "markers",
        "aktis(may_leave=(), **arguments): arguments of aktis.init() for the fixture aktis_session, or of aktis.testing.local() for "
        f"aktis_local; may_leave: which of {', '.join(_KINDS)} the test may leave at its end",
    )


@pytest.hookimpl(hookwrapper=True)  # as older releases have it, too
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Remembers whether the test has failed: its traceback holds what it had."""
    report = (yield).get_result()
    if report.when != "teardown":  # a fixture that fails, as well as the test
        item.stash[_has_failed] = report.failed


@pytest.fixture
def aktis_session(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A session on this machine for this test alone.

    Two CPUs, and no lines of workers, unless the marker ``aktis`` says otherwise. At its end the test fails if it leaves references,
    actors, processes or shared memory: the message names them. Of a test that has failed that is not asked.
    """
    import aktis

    from . import _leaks

    arguments, may_leave = _marked(request)
    if aktis.is_initialized():
        pytest.fail(
            "aktis_session begins a session of its own, and there is one already: end it first, aktis.shutdown()",
            pytrace=False,
        )
    _leaks.begin()
    before = _leaks.Machine.now()
    options: dict[str, Any] = {"num_cpus": 2, "log_to_driver": False, **arguments}
    yield aktis.init(**options)
    is_asked = not request.node.stash.get(_has_failed, False)
    left = _leaks.in_session(may_leave) if is_asked and aktis.is_initialized() else []
    if not is_asked or "references" in may_leave:
        _leaks.forget_references()
    aktis.shutdown()
    _leaks.end()
    if is_asked:
        left += _leaks.on_machine(before, may_leave)
    if left:
        pytest.fail(_leaks.message(left), pytrace=False)


@pytest.fixture
def aktis_local(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Tasks, actors and functions of datasets run in the process of this test, see :func:`aktis.testing.local`."""
    import aktis.testing

    arguments, _ = _marked(request)
    with aktis.testing.local(**arguments) as context:
        yield context


def _marked(request: pytest.FixtureRequest) -> tuple[dict[str, Any], set[str]]:
    arguments: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers("aktis"))):  # the nearest one counts most
        if marker.args:
            given = ", ".join(map(repr, marker.args))
            pytest.fail(f"@pytest.mark.aktis({given}): arguments go by their names, as num_cpus=4", pytrace=False)
        arguments |= marker.kwargs
    may_leave = arguments.pop("may_leave", ())
    told = [may_leave] if isinstance(may_leave, str) or not isinstance(may_leave, Iterable) else list(may_leave)
    if unknown := [kind for kind in told if kind not in _KINDS]:
        pytest.fail(f"@pytest.mark.aktis(may_leave=...): {unknown} are none of {list(_KINDS)}", pytrace=False)
    return arguments, set(told)
