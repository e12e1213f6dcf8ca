"""Bad input: a clear exception that names cause and fix, in bounded time, with the session still usable."""

import base64
import contextlib
import errno
import os
import resource
import shutil
import signal

import aktis
import aktis.data
import pyarrow
import pytest
from aktis.data import ActorPoolStrategy
from pyarrow import parquet


@pytest.fixture(autouse=True)
def session_is_usable_afterwards():
    yield
    assert aktis.data.range(3).map_batches(lambda batch: batch).count() == 3


def test_missing_file_and_empty_pattern(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.parquet"):
        aktis.data.read_parquet(tmp_path / "nowhere.parquet")
    with pytest.raises(FileNotFoundError, match="no file matches"):
        aktis.data.read_parquet(f"{tmp_path}/*.parquet")
    with pytest.raises(FileNotFoundError, match="no file matches"):
        aktis.data.read_parquet(tmp_path)


def test_file_that_is_not_parquet_is_named(tmp_path):
    path = tmp_path / "broken.parquet"
    path.write_bytes(b"PAR1 this is not what it says PAR1")
    with pytest.raises(OSError, match=r"broken\.parquet.*not a valid Parquet"):
        aktis.data.read_parquet(path)


def test_file_with_damaged_pages_is_named(words, tmp_path):
    whole = (words / "part-0.parquet").read_bytes()
    damaged = bytearray(whole)
    damaged[100 : len(whole) // 2] = b"\xff" * (len(whole) // 2 - 100)
    path = tmp_path / "damaged.parquet"
    path.write_bytes(damaged)
    with pytest.raises(Exception, match=r"damaged\.parquet"):
        aktis.data.read_parquet(path).take_all()


def test_wrong_column_is_told_with_the_columns_there_are(words):
    ds = aktis.data.read_parquet(words)
    for use in (
        lambda: ds.select_columns(["nope"]),
        lambda: ds.drop_columns(["nope"]),
        lambda: ds.rename_columns({"nope": "x"}),
        lambda: ds.filter(expr="nope > 3"),
        lambda: ds.map_batches(lambda batch: batch, input_columns=["nope"]),
        lambda: aktis.data.read_parquet(words, columns=["nope"]),
    ):
        with pytest.raises(ValueError, match=r"nope.*'id', 'word', 'data'"):
            use()
    made = aktis.data.range(3).map_batches(lambda batch: {"a": batch["id"]})
    with pytest.raises(Exception, match=r"'nope'.*'a'"):
        made.select_columns(["nope"]).take_all()


def test_wrong_type_in_an_expression_is_told(words):
    with pytest.raises(ValueError, match="filter"):
        aktis.data.read_parquet(words).filter(expr="word + 1")
    with pytest.raises(ValueError, match="filter"):
        aktis.data.read_parquet(words).filter(expr="id >")


def test_exception_of_a_function_keeps_its_type_and_traceback():
    def fail(batch):
        raise KeyError("the key")

    with pytest.raises(KeyError, match="the key") as caught:
        aktis.data.range(10).map_batches(fail).take_all()
    assert isinstance(caught.value, aktis.exceptions.RayTaskError)
    assert "in fail" in str(caught.value) or "in fail" in "".join(getattr(caught.value, "__notes__", []))


def test_exception_in_init_surfaces():
    class Broken:
        def __init__(self):
            raise ValueError("no such model")

        def __call__(self, batch):
            return batch

    with pytest.raises(ValueError, match="no such model"):
        aktis.data.range(10).map_batches(Broken, compute=ActorPoolStrategy(size=2)).take_all()


@pytest.mark.parametrize(
    ("output", "message"),
    [(3, "must return a dict"), (None, "must return a dict"), ({"a": [1, 2], "b": [1]}, "different lengths"),
     ({"a": 3}, "one value per row"), ({"a": [object()]}, "cannot be stored")],
)  # fmt: skip
def test_wrong_output_of_a_function_is_told(output, message):
    with pytest.raises(ValueError, match=message):
        aktis.data.range(3).map_batches(lambda batch: output).take_all()


def test_two_columns_of_one_name_are_refused_wherever_they_come_from():
    """Rows have room for one of them, and a file of both cannot be read."""
    table = pyarrow.table([[1], [2]], names=["a", "a"])
    frame = table.to_pandas()
    with pytest.raises(ValueError, match=r"from_arrow\(\): two columns have the name 'a'"):
        aktis.data.from_arrow(table)
    with pytest.raises(ValueError, match=r"from_pandas\(\): two columns have the name 'a'"):
        aktis.data.from_pandas(frame)
    for output in (table, table.to_batches()[0], frame):
        with pytest.raises(ValueError, match="two columns have the name 'a'; rename"):
            aktis.data.range(1).map_batches(lambda batch, output=output: output).take_all()


def test_columns_that_change_type_cannot_be_written(tmp_path):
    def flip(batch):
        yield {"x": [1.5]}
        yield {"x": ["text"]}

    with pytest.raises(Exception, match="return the same columns with the same types"):
        aktis.data.range(2).map_batches(flip).write_parquet(tmp_path)


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_function_that_ends_its_process_is_given_up_by_name(how):
    def end(batch):
        if how == "exit":
            os._exit(3)
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(Exception, match=r"MapBatches\(end\).*given up"):
        aktis.data.range(4).map_batches(end).take_all()  # pyright: ignore[reportArgumentType]


def test_worker_that_dies_once_is_replaced_and_no_row_is_lost(tmp_path):
    marker = tmp_path / "died"

    def die_once(batch):
        if 50 in batch["id"] and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return batch

    ds = aktis.data.range(100).map_batches(die_once, batch_size=10)
    assert [row["id"] for row in ds.take_all()] == list(range(100))
    assert sum(stage["worker_deaths"] for stage in ds.get_stats_summary()["stages"]) >= 1
    marker.unlink()
    target = tmp_path / "out"
    aktis.data.range(100).map_batches(die_once, batch_size=10).write_parquet(target)
    assert sorted(parquet.read_table(target)["id"].to_pylist()) == list(range(100))
    assert all(path.suffix == ".parquet" for path in target.iterdir())


@contextlib.contextmanager
def as_nobody():
    """As a user without rights, where the tests run as root, whom no file refuses."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def test_missing_rights_are_a_permission_error_when_reading_and_writing(words, tmp_path):
    closed = tmp_path / "closed"
    shutil.copytree(words, closed)
    for path in (closed / "part-0.parquet", closed):
        path.chmod(0)
        with as_nobody(), pytest.raises(PermissionError, match="closed") as caught:
            aktis.data.read_parquet(closed)
        assert caught.value.errno == errno.EACCES
        path.chmod(0o755)
    closed.chmod(0o555)
    with as_nobody(), pytest.raises(PermissionError, match="closed"):
        aktis.data.range(3).write_parquet(closed / "out")
    closed.chmod(0o755)


def test_path_below_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file"):
        aktis.data.range(3).write_parquet(tmp_path / "file" / "out")


def test_disk_that_takes_no_more_is_an_os_error_with_its_number(tmp_path):
    """A full disk comes the same way; a limit for files needs no mount."""

    def limit(batch):
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return {"bytes": [os.urandom(1000) for _ in batch["id"]]}

    with pytest.raises(OSError, match=str(tmp_path)) as caught:
        aktis.data.range(1000).map_batches(limit).write_parquet(tmp_path)
    assert caught.value.errno == errno.EFBIG
    assert all(path.name[0] in "._" for path in tmp_path.iterdir())


def test_file_that_goes_away_before_it_is_read_is_not_called_damaged(words, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(words, source)
    ds = aktis.data.read_parquet(source)
    shutil.rmtree(source)
    with pytest.raises(FileNotFoundError, match=r"part-\d\.parquet"):
        ds.take_all()


def test_file_with_types_that_only_its_writer_knows_is_refused_by_name(tmp_path):
    """Integers of 128 bits, as polars writes them: bytes for Parquet, and for Arrow a type that it does not have."""
    path = tmp_path / "wide.parquet"
    told = bytearray(pyarrow.schema([("n", pyarrow.int64())]).serialize().to_pybytes())
    width = told.index((64).to_bytes(4, "little"))
    told[width : width + 4] = (128).to_bytes(4, "little")
    numbers = pyarrow.table({"n": pyarrow.array([bytes(16)], pyarrow.binary(16))})
    with parquet.ParquetWriter(path, numbers.schema, store_schema=False) as writer:
        writer.write_table(numbers)
        writer.add_key_value_metadata({"ARROW:schema": base64.b64encode(told).decode()})
    with pytest.raises(OSError, match=r"wide\.parquet.*its columns cannot be understood.*write it anew"):
        aktis.data.read_parquet(path)


def test_impossible_request_says_what_is_missing():
    class Model:
        def __call__(self, batch):
            return batch

    # Before anything runs, and of the class that tasks and actors have.
    with pytest.raises(aktis.exceptions.TaskUnschedulableError, match=r"2 GPU.*no node has more than 1"):
        aktis.data.range(3).map_batches(Model, num_gpus=2, batch_size=1).take_all()


def test_two_pools_that_do_not_fit_together_still_finish():
    class Wide:
        def __call__(self, batch):
            return batch

    ds = aktis.data.range(10)
    for _ in range(2):
        ds = ds.map_batches(Wide, num_cpus=2, compute=ActorPoolStrategy(size=1))
    assert ds.count() == 10
