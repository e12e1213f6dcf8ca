"""One session for all tests of datasets, and a deadline on every test."""

import faulthandler
import signal

import aktis
import pyarrow
import pytest
from pyarrow import parquet

TEST_DEADLINE_S = 90
RUN_DEADLINE_S = 120


@pytest.fixture(scope="session", autouse=True)
def session():
    """A laptop session of two CPUs and one logical GPU."""
    aktis.shutdown()
    aktis.init(num_cpus=2, num_gpus=1, log_to_driver=False)
    yield
    aktis.shutdown()


@pytest.fixture(autouse=True)
def deadline():
    """Interrupts a test that hangs; if even that hangs, prints all stacks and ends the run."""

    def interrupt(_signal, _frame):
        raise TimeoutError(f"test ran longer than {TEST_DEADLINE_S} s")

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(TEST_DEADLINE_S)
    faulthandler.dump_traceback_later(RUN_DEADLINE_S, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


@pytest.fixture(scope="session")
def words(tmp_path_factory):
    """A folder of two Parquet files: 2000 rows of `id`, `word` and 1000 bytes of `data`, in row groups of 250."""
    folder = tmp_path_factory.mktemp("words")
    for part in range(2):
        ids = range(part * 1000, part * 1000 + 1000)
        table = pyarrow.table({
            "id": list(ids),
            "word": [f"word {i % 7}" for i in ids],
            "data": [bytes([i % 251]) * 1000 for i in ids],
        })  # fmt: skip
        parquet.write_table(
            table, folder / f"part-{part}.parquet", row_group_size=250, compression="none", use_dictionary=False
        )
    return folder
