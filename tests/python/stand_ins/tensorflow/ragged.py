"""Tensors whose rows are not of one length."""

from ._tensors import RaggedTensor


def constant(pylist, dtype=None, ragged_rank=None, inner_shape=None, name=None, row_splits_dtype=None):
    """One of lists."""
    return RaggedTensor(pylist, dtype)
