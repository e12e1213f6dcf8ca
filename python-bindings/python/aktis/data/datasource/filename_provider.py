"""Where Ray Data has names of files; :mod:`aktis.data.datasource` has them, too."""

from . import FilenameProvider

__all__ = ["FilenameProvider"]
