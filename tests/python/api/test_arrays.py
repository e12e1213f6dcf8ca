"""Arrays on their way: as arguments, inside of containers, as results, from the store."""

import aktis
import numpy
import pytest

NUMBER_TYPES = [
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "longlong",
    "ulonglong",
]
NUMBER_TYPES += ["float16", "float32", "float64"]
OTHERS = [
    numpy.zeros(0), numpy.zeros((3, 0)), numpy.array(["a", "bc"]), numpy.zeros(3, "datetime64[ns]"),
    numpy.arange(16).reshape(4, 4).T[:2], numpy.arange(4, dtype=">i4"), numpy.array([None, 1]), numpy.zeros(2, [("a", "i4")]),
    numpy.ma.masked_array([1, 2], [True, False]), numpy.zeros(2, "complex128"), numpy.zeros(2, "longdouble"),
]  # fmt: skip


@aktis.remote
def echo(value, *rest, **named):
    return value


@aktis.remote
def describe(value):
    return type(value).__name__, value.dtype.str, value.shape, value.flags.writeable


def assert_same(back, array):
    assert type(back) is type(array) and back.dtype == array.dtype and back.shape == array.shape
    assert (numpy.asarray(back) == numpy.asarray(array)).all()


@pytest.mark.parametrize("dtype", NUMBER_TYPES)
@pytest.mark.parametrize("shape", [(), (7,), (2, 3), (200, 300)])
def test_array_of_numbers_survives_the_way_there_and_back(session, dtype, shape):
    array = numpy.arange(numpy.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    back = aktis.get(echo.remote(array))
    assert_same(back, array)
    assert not back.flags.writeable
    assert aktis.get(describe.remote(array)) == ("ndarray", array.dtype.str, shape, False)
    assert_same(aktis.get(aktis.put(array)), array)


@pytest.mark.parametrize("array", OTHERS, ids=lambda array: f"{array.dtype}-{array.shape}")
def test_other_arrays_survive_too(session, array):
    assert_same(aktis.get(echo.remote(array)), array)


def test_arrays_inside_of_containers(session):
    batch = {"id": numpy.arange(5), "rows": [numpy.ones((2, 2), "float32"), "text", None], "pair": (numpy.zeros(1), 3)}
    back = aktis.get(echo.remote(batch, batch, named=batch))
    assert_same(back["id"], batch["id"])
    assert_same(back["rows"][0], batch["rows"][0])
    assert back["rows"][1:] == ["text", None] and back["pair"][1] == 3
    assert_same(back["pair"][0], batch["pair"][0])


def test_one_array_met_twice_stays_one(session):
    array = numpy.arange(10)
    first, second = aktis.get(echo.remote([array, array]))
    assert first is second


def test_array_changed_after_the_call_does_not_change_the_argument(session):
    array = numpy.zeros(10_000)
    refs = []
    for number in range(20):
        array[:] = number
        refs.append(echo.remote(array))
    for number, back in enumerate(aktis.get(refs)):
        assert (back == number).all()


def test_array_read_from_the_store_outlives_its_reference(session):
    back = aktis.get(aktis.put(numpy.arange(1_000_000)))
    others = [aktis.get(aktis.put(numpy.zeros(1_000_000))) for _ in range(5)]
    assert len(others) == 5 and (back == numpy.arange(1_000_000)).all()
