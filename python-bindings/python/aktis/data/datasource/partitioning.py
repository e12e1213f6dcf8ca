"""Where Ray Data has what folders tell; :mod:`aktis.data.datasource` has it, too."""

from .._partitioning import Partitioning, PartitionStyle, PathPartitionFilter, PathPartitionParser

__all__ = ["PartitionStyle", "Partitioning", "PathPartitionFilter", "PathPartitionParser"]
