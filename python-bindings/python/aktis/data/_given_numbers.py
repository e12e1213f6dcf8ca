"""What users may give as a number: Python's and numpy's, and no truth value.

>>> import numpy
>>> is_whole(3), is_whole(numpy.int64(3)), is_whole(3.0), is_whole(True)
(True, True, False, False)
>>> is_real(2.5), is_real(numpy.float32(2.5)), is_real("2.5"), is_real(True)
(True, True, False, False)
"""

from __future__ import annotations

import numbers
from typing import Any


def is_whole(value: Any) -> bool:
    """Whether it is a whole number."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    """Whether it is a number that is greater or less than others."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
