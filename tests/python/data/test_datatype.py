"""Ray's `DataType`, wherever a type is taken."""

import aktis.data
import numpy
import pyarrow
import pyarrow.compute
import pytest
from aktis.data.aggregate import Sum
from aktis.data.datatype import DataType
from aktis.data.expressions import col, udf


def test_casts_functions_and_declared_columns_take_it():
    @udf(return_dtype=DataType.int32())
    def next_one(numbers):
        return pyarrow.compute.add(numbers, 1)  # pyright: ignore[reportAttributeAccessIssue]

    rows = (
        aktis.data.range(2)
        .with_column("next", next_one(col("id")))
        .with_column("text", col("id").cast(DataType.string()))
    )
    assert rows.materialize().schema().types == [pyarrow.int64(), pyarrow.int32(), pyarrow.string()]
    declared = rows.map(lambda row: {"vector": [1.0]}, output_schema={"vector": DataType.list(DataType.float32())})
    assert declared.schema().base_schema.field("vector").type == pyarrow.list_(pyarrow.float32())
    told = aktis.data.range(3).summary(override_dtype_agg_mapping={DataType.int64(): lambda column: [Sum(column)]})
    assert told.get_column_stats("id")["value"].tolist() == [3]


@pytest.mark.parametrize(
    ("kind", "arrow"),
    [
        (DataType.bool(), pyarrow.bool_()),
        (DataType.from_numpy("float32"), pyarrow.float32()),
        (DataType(int), pyarrow.int64()),
        (DataType.map(DataType.string(), DataType.uint8()), pyarrow.map_(pyarrow.string(), pyarrow.uint8())),
        (DataType.temporal("time32"), pyarrow.time32("s")),
        (DataType.temporal("timestamp", tz="UTC"), pyarrow.timestamp("us", "UTC")),
        (DataType.tensor((2, 3), DataType.int8()), pyarrow.fixed_shape_tensor(pyarrow.int8(), (2, 3))),
    ],
)
def test_types_of_pyarrow(kind, arrow):
    assert kind.to_arrow_dtype() == arrow


def test_which_kind_it_is():
    assert DataType.list(DataType.int8()).is_list_type() and DataType.list(DataType.int8()).is_nested_type()
    assert DataType.tensor((2,), DataType.int8()).is_tensor_type() and not DataType.int8().is_tensor_type()
    assert DataType(float).is_floating_type() and DataType.from_numpy("uint8").is_integer_type()
    assert not DataType(object).is_numerical_type() and DataType.temporal("duration").is_temporal_type()
    assert DataType.infer_dtype(numpy.int8(1)) == DataType.from_numpy("int8") != DataType.int8()
    assert {DataType.int8(): 1}[DataType.int8()] == 1


def test_mistakes_are_told():
    with pytest.raises(TypeError, match="DataType\\(\\) takes a type of pyarrow or numpy"):
        DataType("int8")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="values say which type of columns this is"):
        DataType(list).to_arrow_dtype()
    with pytest.raises(ValueError, match="not 'moment'"):
        DataType.temporal("moment")
