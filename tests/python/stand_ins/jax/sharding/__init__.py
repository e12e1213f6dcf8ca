"""How arrays lie on devices."""


class Mesh:
    def __init__(self, devices, axis_names, axis_types=None):
        self.devices, self.axis_names = devices, axis_names


class PartitionSpec(tuple):
    __slots__ = ()

    def __new__(cls, *partitions):
        return super().__new__(cls, partitions)


class NamedSharding:
    def __init__(self, mesh, spec, *, memory_kind=None):
        self.mesh, self.spec = mesh, spec
