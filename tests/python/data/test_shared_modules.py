"""Stage workers share what their functions need instead of importing it."""

import os
import sys

import aktis.data


class Looker:
    def __init__(self):
        # Before the first batch: nothing of this process has imported anything yet.
        self.has_modules = all(name in sys.modules for name in ("numpy", "pandas", "pyarrow"))

    def __call__(self, batch):
        import numpy

        number = numpy.random.rand()
        return {"has": [self.has_modules], "pid": [os.getpid()], "number": [number]}


def test_stage_workers_begin_with_the_modules_and_random_numbers_of_their_own():
    pool = aktis.data.ActorPoolStrategy(size=2)
    rows = aktis.data.range(64).map_batches(Looker, compute=pool, batch_size=1, batch_format="pandas").take_all()
    assert all(row["has"] for row in rows)
    assert len({row["number"] for row in rows}) == len(rows)


class Imports:
    """What has been imported by each call since the one before."""

    def __init__(self):
        self.known = set(sys.modules)

    def __call__(self, batch):
        new = set(sys.modules) - self.known
        self.known |= new
        return {"new": [" ".join(sorted(new))], "text": ["text"]}


def test_a_worker_imports_nothing_at_its_first_batch():
    pool = aktis.data.ActorPoolStrategy(size=1)
    rows = aktis.data.range(64, override_num_blocks=1).map_batches(Imports, compute=pool, batch_size=16).take_all()
    assert [row["new"] for row in rows] == [""] * 4
