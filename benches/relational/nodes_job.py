"""Shuffles rows that lie in the stores of two nodes into the stores of two nodes, and prints the seconds as JSON, with the megabytes that
crossed meanwhile, and what stages did.

nodes_job.py ADDRESS GB LINK
"""

import json
import pathlib
import sys
import time

import aktis
import aktis.data
import numpy

#: A row is a number and so many bytes by chance.
DATA_BYTES = 992
BLOCKS = 32


def rows_of(batch):
    count = len(batch["id"])
    chance = numpy.random.default_rng(int(batch["id"][0]))
    return {"id": batch["id"], "data": chance.integers(0, 256, (count, DATA_BYTES), dtype=numpy.uint8)}


def crossed_mb(link):
    """Megabytes that have passed a link so far, both ways."""
    counts = pathlib.Path("/sys/class/net", link, "statistics")
    return sum(int((counts / f"{way}_bytes").read_text()) for way in ("rx", "tx")) / 1e6


def main(address, gb, link):
    aktis.init(address=address, log_to_driver=False)
    rows = round(gb * 1e9 / (DATA_BYTES + 8))
    made = aktis.data.range(rows, override_num_blocks=BLOCKS).map_batches(rows_of, batch_size=4096).materialize()
    assert made.size_bytes() >= gb * 0.99e9
    before, begin = crossed_mb(link), time.perf_counter()
    shuffled = made.random_shuffle(seed=7).materialize()
    seconds, crossed = time.perf_counter() - begin, crossed_mb(link) - before
    assert shuffled.count() == rows
    assert shuffled.sum("id") == rows * (rows - 1) // 2
    first = [row["id"] for row in shuffled.select_columns(["id"]).take(1000)]
    assert first != sorted(first)
    print(json.dumps({"job_s": seconds, "crossed_mb": crossed, "stages": shuffled.stats()}))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3])
