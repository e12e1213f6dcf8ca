"""Rows that are all brought into one process."""

import aktis.data
import pytest


@pytest.fixture
def context():
    context = aktis.data.DataContext.get_current()
    before = context.warn_on_driver_memory_usage_bytes, context.max_driver_bytes
    yield context
    context.warn_on_driver_memory_usage_bytes, context.max_driver_bytes = before


def calls(ds):
    return [ds.take_all, ds.to_arrow, ds.to_pandas]


def test_many_bytes_are_told_once_while_they_come_and_before_where_they_are_known(context, caplog):
    ds = aktis.data.range(100_000, override_num_blocks=4)
    for call in calls(ds):
        call()
    assert "into this process" not in caplog.text
    context.warn_on_driver_memory_usage_bytes = 100_000
    for call in calls(ds):
        caplog.clear()
        call()
        assert caplog.text.count("has brought") == 1
        assert (
            f"{call.__name__}() has brought " in caplog.text
            and "iter_batches() takes them piece by piece" in caplog.text
        )
    whole = ds.materialize()
    caplog.clear()
    assert whole.to_arrow().num_rows == 100_000
    assert "to_arrow() brings 80" in caplog.text and caplog.text.count("into this process") == 1
    context.warn_on_driver_memory_usage_bytes = None
    caplog.clear()
    ds.take_all()
    assert "into this process" not in caplog.text


def test_more_bytes_than_the_limit_are_refused_and_pieces_are_not(context):
    context.max_driver_bytes = 100_000
    ds = aktis.data.range(100_000, override_num_blocks=4)
    for call in (*calls(ds), *calls(ds.materialize())):
        with pytest.raises(
            ValueError, match=rf"{call.__name__}\(\) would bring more than 100000 bytes .*max_driver_bytes"
        ):
            call()
    assert sum(len(batch["id"]) for batch in ds.iter_batches()) == 100_000
    assert ds.limit(1000).to_arrow().num_rows == 1000 and len(ds.take(1000)) == 1000
