"""What is asked for before it is known that it will be wanted."""

import threading
from typing import Any

from aktis.data._formats.csv import CSV
from aktis.data._reading import _footers
from aktis.data._stores.arrow import ArrowFiles
from aktis.data._stores.backend import Entry
from aktis.data._stores.finding import found_files
from aktis.data._stores.store import Store
from pyarrow.fs import LocalFileSystem

LATE_SECONDS = 60


class Slow:
    """What of a store is asked for here. Two files in a folder, of which nobody learns that it is one before both have been read."""

    has_folders = True

    def __init__(self):
        self.read_ranges, self.are_read = [], threading.Event()

    def entry(self, path):
        assert self.are_read.wait(LATE_SECONDS), "nobody has asked for the files"
        return Entry(path, None)

    def files_below(self, folder):
        return [Entry(f"{folder}/{name}", size) for name, size in (("b.csv", 100_000), ("a.csv", 10), ("_c", 10))]

    def forget(self):
        pass

    def read(self, path, start, end):
        self.read_ranges.append((path, start, end))
        if len(self.read_ranges) == 2:
            self.are_read.set()
        return bytes(end - start)


def test_ends_of_files_are_asked_for_before_their_folder_is_known_as_one_and_once():
    files: Any = Slow()
    store = Store(files, "")
    found = found_files(store, ["b/in"], ["csv"], ignores_missing=False, foresees=_footers)
    assert [path for path, *_ in found] == ["b/in/a.csv", "b/in/b.csv"]
    wanted = [("b/in/a.csv", 0, 10), ("b/in/b.csv", 100_000 - (64 << 10), 100_000)]
    for path, start, end in wanted:
        assert store.read_ranges(path, [(start, end)]) == [bytes(end - start)]
    assert sorted(files.read_ranges) == wanted
    # Whoever asks later wants what lies there then.
    store.read_ranges(*("b/in/a.csv", [(0, 10)]))
    assert len(files.read_ranges) == 3


def test_what_was_foreseen_in_vain_is_asked_for_again():
    files: Any = Slow()
    files.are_read.set()
    store = Store(files, "")
    store.foresee([("b/a", 0, 5)])
    store.forget_foreseen()
    assert store.request("b/a", 0, 5).result() == bytes(5)
    assert files.read_ranges == [("b/a", 0, 5)] * 2


def test_files_that_are_looked_into_say_how_much_of_them():
    from pyarrow import csv

    assert CSV(None, None, None).glimpse_bytes() > 0
    assert CSV(None, csv.ParseOptions(newlines_in_values=True), None).glimpse_bytes() == 0
    assert CSV(None, csv.ParseOptions(quote_char=False), None).glimpse_bytes() == 0


class Openings:
    """A filesystem that opens a file when it is told to."""

    type_name = "s3"

    def __init__(self):
        self.opened, self.may_open = [], threading.Event()
        self.error: Exception | None = None

    def open_input_file(self, path):
        self.opened.append(path)
        assert self.may_open.wait(LATE_SECONDS)
        if self.error is not None:
            raise self.error
        return self

    def read_at(self, count, start):
        return bytes(count)


def read_together(files, filesystem, count):
    answers = []

    def read():
        try:
            answers.append(files.read("a", 0, 3))
        except OSError as error:
            answers.append(error)

    threads = [threading.Thread(target=read) for _ in range(count)]
    for thread in threads:
        thread.start()
    filesystem.may_open.set()
    for thread in threads:
        thread.join(LATE_SECONDS)
    return answers


def test_file_is_opened_once_for_all_who_read_it_at_the_same_time():
    filesystem = Openings()
    files = ArrowFiles(filesystem)
    assert read_together(files, filesystem, 8) == [bytes(3)] * 8
    assert filesystem.opened == ["a"]
    files.forget()
    assert files.read("a", 0, 3) == bytes(3)
    assert filesystem.opened == ["a", "a"]


def test_file_that_could_not_be_opened_is_opened_again_by_the_next_attempt():
    filesystem = Openings()
    filesystem.error = ConnectionError("busy")
    files = ArrowFiles(filesystem)
    assert all(isinstance(answer, ConnectionError) for answer in read_together(files, filesystem, 4))
    filesystem.error = None
    assert files.read("a", 0, 3) == bytes(3)


def test_stores_that_are_used_stay_and_those_that_are_not_go():
    from aktis.data._stores import store as stores

    first, *others = (Store(ArrowFiles(LocalFileSystem()), f"{number}/") for number in range(stores._KEPT_STORES + 1))
    name = first.dumped("read_csv")
    for other in others:
        assert stores.load(name) is first
        other.dumped("read_csv")
    assert stores.load(name) is first
    stores._stores.clear()
    assert stores.load(name) is not first
