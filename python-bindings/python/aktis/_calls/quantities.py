"""Quantities of resources: what numbers make sense."""

from __future__ import annotations

import math

# As type checkers know it: `init` waits for what is imported here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Resources with arguments of their own.
_RESERVED = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory", "object_store_memory": "object_store_memory"}


def check_quantity(name: str, quantity: Any) -> None:
    """Raises unless ``quantity`` is ``None`` or a number that can be an amount of something.

    >>> check_quantity("num_cpus", -1)
    Traceback (most recent call last):
    ...
    ValueError: num_cpus cannot be negative: got -1
    """
    if quantity is None:
        return
    if isinstance(quantity, bool) or not isinstance(quantity, (int, float)):
        if not hasattr(quantity, "__float__") or isinstance(quantity, (str, bytes)):
            raise TypeError(f"{name} must be a number: got {quantity!r} of type {type(quantity).__name__}")
        quantity = float(quantity)  # numpy's numbers
    if math.isnan(quantity) or math.isinf(quantity):
        raise ValueError(f"{name} must be a finite number: got {quantity}")
    if quantity < 0:
        raise ValueError(f"{name} cannot be negative: got {quantity}")


def check_gpus(quantity: Any) -> None:
    """Raises unless ``quantity`` is a fraction of one GPU, or a whole number of them.

    >>> check_gpus(0.5), check_gpus(2)
    (None, None)
    >>> check_gpus(1.5)
    Traceback (most recent call last):
    ...
    ValueError: num_gpus must be a fraction below 1 or a whole number: got 1.5
    """
    check_quantity("num_gpus", quantity)
    if quantity is not None and quantity > 1 and float(quantity) != int(quantity):
        raise ValueError(f"num_gpus must be a fraction below 1 or a whole number: got {quantity}")


def check_resources(resources: Any) -> None:
    """Raises unless ``resources`` is ``None`` or maps names of resources to quantities."""
    if resources is None:
        return
    if not isinstance(resources, dict):
        raise TypeError(f"resources must be a dictionary of quantities: got {resources!r}")
    for name, quantity in resources.items():
        if not isinstance(name, str) or not name:
            raise TypeError(f"the name of a resource must be a string: got {name!r}")
        if name in _RESERVED:
            raise ValueError(f"give {_RESERVED[name]}= instead of resources={{{name!r}: ...}}")
        check_quantity(f"resource {name!r}", quantity)
