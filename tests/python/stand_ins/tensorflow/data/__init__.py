"""Datasets of elements that a function makes."""

from types import SimpleNamespace

from . import experimental

__all__ = ["Dataset", "Options", "experimental"]


class Options:
    def __init__(self):
        self.experimental_distribute = SimpleNamespace(auto_shard_policy=experimental.AutoShardPolicy.AUTO)


class Dataset:
    def __init__(self, generator, output_signature, options=None):
        self._generator, self.element_spec, self._options = generator, output_signature, options

    @staticmethod
    def from_generator(generator, output_types=None, output_shapes=None, args=None, output_signature=None, name=None):
        return Dataset(generator, output_signature)

    @staticmethod
    def from_tensor_slices(tensors, name=None):
        rows = [dict(zip(tensors, row, strict=True)) for row in zip(*tensors.values(), strict=True)]
        return Dataset(lambda: iter(rows), None)

    def with_options(self, options, name=None):
        return Dataset(self._generator, self.element_spec, options)

    def options(self):
        return self._options

    def as_numpy_iterator(self):
        return iter(self._generator())

    def __iter__(self):
        for element in self._generator():
            _check(element, self.element_spec)
            yield element


def _check(element, spec):
    """As TensorFlow does: an element that is not as it was said to be is an error."""
    if isinstance(spec, tuple):
        assert isinstance(element, tuple) and len(element) == len(spec)
        for one, wanted in zip(element, spec, strict=True):
            _check(one, wanted)
    elif isinstance(spec, dict):
        assert element.keys() == spec.keys()
        for name, wanted in spec.items():
            _check(element[name], wanted)
    elif not spec.is_compatible_with(element):
        raise TypeError(f"`generator` yielded an element that did not match the expected structure: {vars(element)}")
