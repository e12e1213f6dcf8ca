"""Values to bytes and back. Needs no native module."""

import subprocess
import sys
import threading

import numpy
import pytest
from aktis._values import serialization


def travelled(value):
    inband, buffers = serialization.dumps(value)
    return serialization.loads(inband, [memoryview(bytes(buffer)).toreadonly() for buffer in buffers])


class Importable:
    def __init__(self, x):
        self.x = x


@pytest.mark.parametrize(
    "array",
    [
        numpy.arange(5), numpy.zeros(0), numpy.array(5.0), numpy.asfortranarray(numpy.ones((3, 4))), numpy.array(["a"]),
        numpy.zeros((2, 2), "complex128"), numpy.zeros(3, "float16"),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)  # fmt: skip
def test_arrays_come_back_equal_and_read_only(array):
    back = travelled([array])[0]
    assert back.dtype == array.dtype and back.shape == array.shape and (back == array).all()
    assert not back.flags.writeable


def test_the_memory_of_arrays_stays_outside_of_the_pickle():
    inband, buffers = serialization.dumps({"a": numpy.zeros(100_000)})
    assert len(inband) < 1000 and len(buffers) == 1 and len(buffers[0]) == 800_000


def test_local_functions_classes_and_lambdas_go_by_value():
    class Local:
        def value(self):
            return 5

    assert travelled(lambda x: x + 1)(1) == 2
    assert travelled(Local)().value() == 5
    assert travelled(Local()).value() == 5


def test_importable_classes_go_by_name():
    inband, _ = serialization.dumps(Importable(1))
    assert b"cloudpickle" not in inband and travelled(Importable(3)).x == 3


def test_classes_of_the_script_go_by_value():
    script = "from aktis._values import serialization as s\nclass A:\n    x = 7\nopen('/dev/stdout', 'wb').write(s.dumps([A()])[0])"
    pickled = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=60).stdout
    assert serialization.loads(pickled, [])[0].x == 7


def test_tables_come_back_equal():
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"a": [1, 2, None], "b": ["x", "y", "z"]})
    stream = serialization.arrow_stream(table)
    assert serialization.restore_arrow(memoryview(stream)).equals(table)
    assert travelled({"t": table})["t"].equals(table)


class Model:
    def __init__(self):
        self.weights = [1, {"guard": threading.Lock()}]


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (threading.Lock(), "in a value of type _thread.lock"),
        ([1, threading.Lock()], r"at \[1\]"),
        ({"model": Model()}, r"at \['model'\].weights\[1\]\['guard'\] \(of type _thread.lock\)"),
    ],
)
def test_what_cannot_be_pickled_is_named(value, where):
    with pytest.raises(TypeError, match=where) as caught:
        serialization.dumps(value)
    assert "lock" in str(caught.value) and "Make such an object where it is used" in str(caught.value)


def test_a_function_that_cannot_be_pickled_names_the_variable():
    lock = threading.Lock()
    with pytest.raises(TypeError, match="captured variable 'lock'"):
        serialization.dumps_definition(lambda: lock)
