"""The names of JAX that are used here, with its signatures, over numpy. ``jax.PROCESSES`` and ``jax.DEVICES`` say what there is."""

from types import SimpleNamespace

import numpy

config = SimpleNamespace(jax_enable_x64=False)
PROCESSES = 1
#: Of each process.
DEVICES = 1


def process_count(backend=None):
    return PROCESSES


def local_device_count(backend=None):
    return DEVICES


def device_count(backend=None):
    return DEVICES * PROCESSES


def devices(backend=None):
    return [f"device {place}" for place in range(device_count())]


class Array:
    """The rows of this process, and the shape of the whole."""

    def __init__(self, local, shape, sharding):
        self.local, self.shape, self.sharding, self.dtype = local, shape, sharding, local.dtype

    def astype(self, dtype):
        return Array(self.local.astype(dtype), self.shape, self.sharding)


def make_array_from_process_local_data(sharding, local_data, global_shape=None, *, dtype=None):
    if local_data.dtype.kind in "OUSmM":
        raise TypeError(f"Dtype {local_data.dtype} is not a valid JAX array type.")
    if len(local_data) % DEVICES:
        raise ValueError(f"One of the sharded dimensions, {len(local_data)}, is not divisible by {DEVICES}")
    assert sharding.mesh.devices.shape == (device_count(),) and sharding.spec == ("data",)
    if local_data.dtype.itemsize == 8 and not config.jax_enable_x64:
        local_data = local_data.astype(f"{local_data.dtype.name[:-2]}32")
    return Array(numpy.array(local_data), global_shape, sharding)
