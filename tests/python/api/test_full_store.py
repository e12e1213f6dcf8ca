"""A store whose memory readers hold: objects are made and read in files on the disk, and go with their last reference."""

import gc
import os
import pathlib
import re
import resource
import signal

import aktis
import aktis.data
import numpy
import pytest
from aktis import exceptions
from waiting import DEADLINE_S, run, until

MB = 1 << 20
STORE_MB = 100


@pytest.fixture
def small(request, tmp_path, monkeypatch):
    """A session with a small store, which spills into the folder that it gives."""
    folder = tmp_path / "spilled"
    monkeypatch.setenv("AKTIS_SPILL_DIR", str(folder))
    for name, value in getattr(request, "param", {}).items():
        monkeypatch.setenv(name, value)
    aktis.shutdown()
    aktis.init(num_cpus=2, object_store_memory=STORE_MB * MB, log_to_driver=False)
    yield folder
    aktis.shutdown()
    assert [*folder.iterdir()] == []


def numbers(first, megabytes=10):
    return numpy.arange(first, first + megabytes * MB // 8)


def is_numbers(array, first, megabytes=10):
    return numpy.array_equal(array, numbers(first, megabytes))


def store():
    (node,) = aktis.nodes()
    return node["ObjectStoreUsedBytes"], node["ObjectStoreDiskBytes"]


def files(folder):
    return [path for path in folder.rglob("spill-*") if path.is_file()]


def mapped():
    """Files on the disk that this process reads in place."""
    maps = pathlib.Path("/proc/self/maps").read_text()
    return set(re.findall(r"spill-\d+\.bin", maps))


def hold_store():
    """Views of all but a few megabytes of the store."""
    return [aktis.get(aktis.put(numbers(number)), timeout=DEADLINE_S) for number in range(9)]


@aktis.remote
def make(first):
    return numbers(first)


@aktis.remote
def make_and_tell(first, path):
    with open(path, "a") as told:
        told.write("made\n")
    return numbers(first)


@aktis.remote
def total(array):
    return int(array.sum())


@aktis.remote(num_cpus=0)
class Holder:
    def hold(self, refs):
        self.held = [aktis.get(ref) for ref in refs]
        return os.getpid()


def test_puts_and_results_go_on_while_views_hold_the_store_and_leave_nothing(small):
    views = hold_store()
    put = [aktis.put(numbers(100 + number)) for number in range(3)]
    made = [make.remote(200 + number) for number in range(3)]
    more = [aktis.get(ref, timeout=DEADLINE_S) for ref in [*put, *made]]
    # An object in a file is an argument like any other.
    assert aktis.get(total.remote(put[0]), timeout=DEADLINE_S) == int(numbers(100).sum())
    for first, array in zip([100, 101, 102, 200, 201, 202], more, strict=True):
        assert is_numbers(array, first)
        assert not array.flags.writeable
    assert all(is_numbers(view, first) for first, view in enumerate(views))
    until(lambda: store()[1] >= 50 * MB, "the node tells what is on the disk")
    assert len(files(small)) >= 5
    assert len(mapped()) >= 5
    # Views outlive the references.
    del put, made
    gc.collect()
    assert is_numbers(more[0], 100)
    del more, views, array
    gc.collect()
    until(lambda: store() == (0, 0), "an empty store")
    until(lambda: not files(small), "an empty disk")
    assert not mapped()


def test_spilled_object_is_read_while_views_hold_the_store(small):
    refs = [aktis.put(numbers(number)) for number in range(18)]
    views = [aktis.get(ref, timeout=DEADLINE_S) for ref in refs]
    assert mapped()
    assert all(is_numbers(view, first) for first, view in enumerate(views))


def test_object_that_nobody_may_open_is_not_lost_and_is_read_when_it_may_be(small, tmp_path):
    views = hold_store()
    told = tmp_path / "told"
    ref = make_and_tell.remote(100, str(told))
    assert aktis.wait([ref], timeout=DEADLINE_S, fetch_local=False)[0]
    assert files(small)
    holder = Holder.remote()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # First it is the node that may not open the file, then, where another process reads it already, this one.
    for _ in range(2):
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            with pytest.raises(exceptions.ObjectUnreadableError, match=r"spill-\d+\.bin.*ulimit -n"):
                aktis.get(ref, timeout=DEADLINE_S)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        aktis.get(holder.hold.remote([ref]), timeout=DEADLINE_S)
    assert is_numbers(aktis.get(ref, timeout=DEADLINE_S), 100)
    assert told.read_text() == "made\n"
    del views


def test_holder_that_is_killed_holds_neither_memory_nor_disk(small):
    holder = Holder.remote()
    refs = [aktis.put(numbers(number)) for number in range(9)]
    pid = aktis.get(holder.hold.remote(refs), timeout=DEADLINE_S)
    refs += [aktis.put(numbers(number)) for number in (50, 51)]
    assert aktis.get(holder.hold.remote(refs), timeout=DEADLINE_S) == pid
    assert files(small)
    del refs
    gc.collect()
    os.kill(pid, signal.SIGKILL)
    until(lambda: store() == (0, 0), "an empty store")
    until(lambda: not files(small), "an empty disk")


def test_batches_of_two_iterators_that_fill_the_store_are_read_to_the_end(small):
    def large(batch):
        return {"id": batch["id"], "large": numpy.full((len(batch["id"]), 41_000_000 // 8), batch["id"][0])}

    def batches(first):
        rows = aktis.data.range(first + 3).filter(lambda row: row["id"] >= first)
        return iter(rows.map_batches(large, batch_size=1).iter_batches(batch_size=1))

    kept = []
    for pair in zip(batches(0), batches(10), strict=True):
        kept.append(pair)
        for batch in pair:
            assert (batch["large"] == batch["id"][0]).all()
    assert sorted(int(batch["id"][0]) for pair in kept for batch in pair) == [0, 1, 2, 10, 11, 12]
    assert all((batch["large"] == batch["id"][0]).all() for pair in kept for batch in pair)
    del kept, pair, batch
    gc.collect()


@pytest.mark.parametrize("small", [{"AKTIS_SPILL_LIMIT_BYTES": "15MiB"}], indirect=True)
def test_limit_of_the_disk_is_named_beside_the_store(small):
    views = []
    with pytest.raises(exceptions.ObjectStoreFullError) as caught:
        # How many fit into the store depends on what lies between them; one fits onto the disk.
        for number in range(20, 32):
            ref = aktis.put(numbers(number))
            views.append(aktis.get(ref, timeout=DEADLINE_S))
    message = str(caught.value)
    for part in (
        rf"capacity {STORE_MB * MB}\b",
        r"pinned by readers [789]\d{7}\b",
        r"on the disk 1048\d{4} of at most 15728640 \(spill_limit_bytes\)",
        "object_store_memory",
    ):
        assert re.search(part, message), (part, message)
    # What is there stays readable, and room that is given back is used.
    assert is_numbers(aktis.get(ref, timeout=DEADLINE_S), 20 + len(views) - 1)
    del views
    gc.collect()
    assert is_numbers(aktis.get(aktis.put(numbers(50)), timeout=DEADLINE_S), 50)


KILLED = """
import aktis, numpy, os, signal
aktis.init(num_cpus=1, object_store_memory=64 << 20, log_to_driver=False)
views = [aktis.get(aktis.put(numpy.zeros(10 << 20, dtype=numpy.uint8))) for _ in range(6)]
more = [aktis.get(aktis.put(numpy.ones(10 << 20, dtype=numpy.uint8))) for _ in range(2)]
(node,) = aktis.nodes()
print(len([name for _, _, files in os.walk({folder!r}) for name in files if name.startswith("spill-")]))
{end}
"""


def test_driver_that_is_killed_leaves_no_file_to_the_next_one(tmp_path):
    folder = tmp_path / "spilled"
    env = {"AKTIS_SPILL_DIR": str(folder)}
    kill = "print(flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    script = "import subprocess, sys; print(subprocess.run([sys.executable, '-c', {!r}], stdout=-1, text=True).stdout)"
    written = run(script.format(KILLED.format(folder=str(folder), end=kill)), env=env)
    assert int(written) >= 2
    run(KILLED.format(folder=str(folder), end=""), env=env)
    assert [path for path in pathlib.Path(folder).rglob("*") if path.is_file()] == []
