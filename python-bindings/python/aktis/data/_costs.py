"""What a run of a dataset has cost: the time of its workers, and money.

>>> found = [{"operator": "Read", "cpus": 1.0, "gpus": 0.0, "useful_s": 1800.0, "idle_s": 1800.0, "lent_s": 900.0}]
>>> added = added_up([dict.fromkeys(SECONDS, 0.0) | one for one in found], PriceTable(cpu_hour=0.04))
>>> added["cpu_s"], added["useful_s"], round(added["money"], 3)
(3600.0, 1800.0, 0.04)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ._given_numbers import is_real

#: What workers were busy with while they had their CPUs.
_HELD = ("starting_s", "loading_s", "useful_s", "repeated_s", "idle_s")
#: What is told of an operator.
SECONDS = (*_HELD, "lent_s", "used_cpu_s")


@dataclasses.dataclass(frozen=True)
class PriceTable:
    """What an hour of a CPU and of a GPU costs, in whatever currency.

    Args:
        cpu_hour: of one CPU.
        gpu_hour: of one GPU.

    Raises:
        ValueError: a price is below 0.

    Example:
        >>> import aktis.data
        >>> prices = aktis.data.PriceTable(cpu_hour=0.04, gpu_hour=2.5)
        >>> ds = aktis.data.range(1000).map_batches(lambda batch: batch)
        >>> rows = ds.take_all()
        >>> 0 < ds.cost(prices)["money"] < 0.01
        True
    """

    cpu_hour: float = 0.0
    gpu_hour: float = 0.0

    def __post_init__(self) -> None:
        for name in ("cpu_hour", "gpu_hour"):
            price = getattr(self, name)
            if not is_real(price) or not 0 <= price < float("inf"):
                raise ValueError(f"PriceTable(): {name} is the price of an hour, a number of at least 0, not {price!r}")
            object.__setattr__(self, name, float(price))


def added_up(operators: Sequence[Mapping[str, Any]], prices: PriceTable) -> dict[str, Any]:
    """The whole of what operators have cost, and each of them."""
    if not isinstance(prices, PriceTable):
        raise TypeError(
            f"cost() takes prices as an aktis.data.PriceTable, as PriceTable(cpu_hour=0.04, gpu_hour=2.5), not {prices!r}"
        )
    told = [_of_operator(operator, prices) for operator in operators]
    names = (*SECONDS, "worker_s", "cpu_s", "gpu_s", "money")
    whole: dict[str, Any] = {name: sum(operator[name] for operator in told) for name in names}
    return whole | {"operators": told}


def _of_operator(operator: Mapping[str, Any], prices: PriceTable) -> dict[str, Any]:
    held = sum(operator[name] for name in _HELD)
    cpu_s, gpu_s = held * operator["cpus"], (held + operator["lent_s"]) * operator["gpus"]
    money = (cpu_s * prices.cpu_hour + gpu_s * prices.gpu_hour) / 3600
    return {**operator, "worker_s": held, "cpu_s": cpu_s, "gpu_s": gpu_s, "money": money}
