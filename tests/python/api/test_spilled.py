"""What is spilled: damaged objects are never wrong bytes, and rows of a sort lie in the folder that the node spills to."""

import json

from waiting import run

SCRIPT = """
import json, pathlib
import aktis

aktis.init(num_cpus=1, object_store_memory=100 << 20, log_to_driver=False)
SIZE = 10 << 20

@aktis.remote
def make(number):
    return bytes([number]) * SIZE

made = [make.remote(number) for number in range(10)]
aktis.wait(made, num_returns=10)
put = [aktis.put(bytes([100 + number]) * SIZE) for number in range(10)]
last = [aktis.put(bytes([200 + number]) * SIZE) for number in range(9)]

for path in pathlib.Path({spill_dir!r}).rglob("*"):
    if path.is_file():
        # Some bytes in the middle of every object, whatever lies around them.
        with open(path, "r+b") as file:
            for at in range(SIZE // 2, path.stat().st_size, SIZE // 2):
                file.seek(at)
                file.write(b"damage")

def read(refs, first):
    errors = []
    for number, ref in enumerate(refs):
        try:
            value = aktis.get(ref, timeout=60)
        except aktis.exceptions.ObjectLostError as error:
            errors.append(str(error))
        else:
            assert value == bytes([first + number]) * SIZE, "wrong bytes"
    return errors

print(json.dumps([read(made, 0), read(put, 100), read(last, 200)]))
"""


def test_damaged_spill_file_is_named_and_what_a_task_made_is_made_again(tmp_path):
    folder = tmp_path / "spilled"
    made, put, _ = json.loads(
        run(SCRIPT.format(spill_dir=str(folder)), env={"AKTIS_SPILL_DIR": str(folder)}, deadline_s=120)
    )
    assert made == [], "their task ran again"
    assert put, "some of them were on the disk"
    for error in put:
        assert str(folder) in error and "corrupt" in error, error
        assert "with its node" not in error, error


SORT = """
import json, pathlib, threading
import aktis, aktis.data

aktis.init(num_cpus=2, object_store_memory=128 << 20, log_to_driver=False)
files, is_over = set(), threading.Event()

def look():
    while not is_over.wait(0.01):
        files.update(str(path) for path in pathlib.Path({spill_dir!r}).rglob("rows/*/*"))

watch = threading.Thread(target=look)
watch.start()
rows = aktis.data.range(6_000_000).sort("id", descending=True).materialize().count()
is_over.set()
watch.join()
aktis.shutdown()
print(json.dumps([rows, len(files), [str(path) for path in pathlib.Path({spill_dir!r}).iterdir()]]))
"""


def test_rows_of_a_sort_are_spilled_where_the_node_spills(tmp_path):
    folder = tmp_path / "spilled"
    script = SORT.format(spill_dir=str(folder))
    rows, files, left = json.loads(run(script, env={"AKTIS_SPILL_DIR": str(folder)}, deadline_s=120))
    assert rows == 6_000_000
    assert files > 0, "all rows fit into memory: the test shows nothing"
    assert left == [], "the folder goes with its session"


MIXED = """
import json
import aktis, aktis.data
import numpy

aktis.init(num_cpus=2, object_store_memory=80 << 20, log_to_driver=False)

def padded(batch):
    ids = batch["id"]
    batch["pad"] = numpy.repeat(ids, 1000).reshape(-1, 1000)
    if ids[0] >= 2000:
        batch["late"] = ids
    return batch

def read(rows):
    found = {"id": [], "late": []}
    for batch in rows.iter_batches(batch_size=None, batch_format="pyarrow"):
        pads = batch.column("pad").combine_chunks()
        assert (numpy.asarray(pads.flatten()).reshape(-1, 1000) == batch.column("id").to_numpy()[:, None]).all()
        for name, values in found.items():
            values.extend(batch.column(name).to_pylist())
    return found["id"], found["late"]

rows = aktis.data.range(4000).map_batches(padded, batch_size=100)
ids, late = read(rows.sort("id", descending=True))
print(json.dumps([ids, late]))
"""


def test_rows_that_are_too_much_to_be_read_first_are_sorted_with_the_columns_of_all():
    ids, late = json.loads(run(MIXED, deadline_s=120))
    assert ids == [*reversed(range(4000))]
    assert late == [number if number >= 2000 else None for number in ids]
