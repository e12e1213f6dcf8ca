"""What workers are called in ``ps`` and ``top``."""

from __future__ import annotations

import os
import pathlib

import aktis
import aktis.data
import pytest
from waiting import until

pytestmark = pytest.mark.usefixtures("session")


def title_of(pid):
    """What ``ps`` and ``top`` show of a process."""
    folder = pathlib.Path(f"/proc/{pid}")
    return (folder / "cmdline").read_bytes().rstrip(b"\0").decode(), (folder / "comm").read_text().strip()


@aktis.remote
def resize_images():
    return title_of(os.getpid()), os.getpid()


@aktis.remote
class Counter:
    def title(self):
        return title_of(os.getpid())


def test_a_worker_is_called_by_its_task_and_idle_after_it():
    title, pid = aktis.get(resize_images.remote())
    assert title == ("aktis::resize_images", "aktis::resize_i")
    until(lambda: title_of(pid) == ("aktis::idle", "aktis::idle"), "it is called idle")


def test_an_actor_is_called_by_its_class():
    counter = Counter.remote()
    assert aktis.get(counter.title.remote()) == ("aktis::Counter", "aktis::Counter")


def test_a_worker_of_a_dataset_is_called_by_its_function():
    def embed(batch):
        return {"title": [title_of(os.getpid())[0]] * len(batch["id"])}

    (row, *_) = aktis.data.range(2).map_batches(embed).take_all()
    assert row["title"] == "aktis::MapBatches(embed)"
