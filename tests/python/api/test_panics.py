"""A panic in whatever function of the native module is an ordinary exception, here and in workers (ADR 069)."""

import aktis
import aktis.data
import pytest
from aktis.data import _native


def panic():
    """No duration is negative, which this internal function believes of its callers."""
    plan = _native.settled(aktis.data.range(3)._plan)
    options = {"keep_order": True, "budget_bytes": None, "block_bytes": None, "max_deaths": 1, "failures": None}
    _native.jobs().execute([(plan, None, None)], **options).next(-1.0)


def test_panic_is_caught_by_except_exception_and_the_session_goes_on(session):
    with pytest.raises(aktis.exceptions.RuntimeSystemError, match=r"panicked: .*negative.*please report"):
        panic()
    assert aktis.get(aktis.put(3)) == 3


def test_panic_in_a_task_is_the_tasks_failure_and_not_its_workers_end(session):
    @aktis.remote(max_retries=0)
    def caught():
        try:
            panic()
        except Exception as error:  # noqa: BLE001 - that it is one is what this is about
            return type(error).__name__
        return "nothing"

    @aktis.remote(max_retries=0)
    def uncaught():
        panic()

    assert aktis.get(caught.remote()) == "PanicError"
    with pytest.raises(aktis.exceptions.RuntimeSystemError, match="negative"):
        aktis.get(uncaught.remote())
