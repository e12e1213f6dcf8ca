"""Devices in an order."""

import numpy

import jax


def create_device_mesh(mesh_shape, devices=None, *, contiguous_submeshes=False, allow_split_physical_axes=False):
    return numpy.array(jax.devices()).reshape(mesh_shape)
