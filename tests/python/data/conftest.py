"""One session for all tests of datasets, and a folder of Parquet files."""

import aktis
import pyarrow
import pytest
from pyarrow import parquet


@pytest.fixture(scope="package", autouse=True)
def session():
    """A laptop session of two CPUs and one logical GPU; it ends before another folder's tests begin."""
    begin_session()
    yield
    aktis.shutdown()


def begin_session():
    """In the place of one that there is."""
    aktis.shutdown()
    aktis.init(num_cpus=2, num_gpus=1, log_to_driver=False)


@pytest.fixture
def session_again(session):
    """For a test whose code begins sessions of its own: those behind it have theirs."""
    yield
    begin_session()


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
