"""Where Ray Data has sinks; :mod:`aktis.data.datasource` has them, too."""

from . import Datasink, WriteResult, WriteReturnType

__all__ = ["Datasink", "WriteResult", "WriteReturnType"]
