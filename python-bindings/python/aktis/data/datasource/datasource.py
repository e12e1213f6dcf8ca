"""Where Ray Data has sources; :mod:`aktis.data.datasource` has them, too."""

from . import Datasource, ReadTask

__all__ = ["Datasource", "ReadTask"]
