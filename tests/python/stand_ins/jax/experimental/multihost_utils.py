"""What processes tell each other: in place of this function a test says what the others have."""

import numpy

#: What the other processes give, call by call.
others: list[list[object]] = []


def process_allgather(in_tree, tiled=False):
    return numpy.stack([in_tree, *(numpy.asarray(one) for one in others.pop(0))])
