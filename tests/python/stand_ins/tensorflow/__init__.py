"""The names of TensorFlow that are used here, with its signatures, over numpy."""

from . import data, dtypes, ragged
from ._tensors import RaggedTensor, RaggedTensorSpec, Tensor, TensorSpec, convert_to_tensor
from .dtypes import DType, bool, float32, float64, int32, int64, string, uint8

__all__ = [
    "DType",
    "RaggedTensor",
    "RaggedTensorSpec",
    "Tensor",
    "TensorSpec",
    "bool",
    "convert_to_tensor",
    "data",
    "dtypes",
    "float32",
    "float64",
    "int32",
    "int64",
    "ragged",
    "string",
    "uint8",
]
