"""What a run did, as a table: a row for each operator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: What is told of an operator's time: its part of that of its stage's workers.
_SECONDS = ("starting_s", "loading_s", "useful_s", "repeated_s", "idle_s", "lent_s", "used_cpu_s")


def table_of(summary: Mapping[str, Any], costs: Sequence[Mapping[str, Any]]) -> Any:
    """A ``pyarrow.Table`` of the statistics of a run."""
    import pyarrow

    texts = [("stage_name", pyarrow.string()), ("operator", pyarrow.string()), ("worker", pyarrow.string())]
    counts = ("rows_in", "rows_out", "rows_failed", "bytes_out", "batches_out")
    of_stage = ("workers", "worker_deaths", "rows_repeated", "blocks", "block_bytes", "inputs")
    expectations = [
        ("expectation", pyarrow.string()), ("violations", pyarrow.int64()), ("verdict", pyarrow.string()),
    ]  # fmt: skip
    schema = pyarrow.schema([
        ("stage", pyarrow.int64()), *texts, *((name, pyarrow.int64()) for name in counts), ("wall_s", pyarrow.float64()),
        ("cpu_s", pyarrow.float64()), ("cpus", pyarrow.float64()), ("gpus", pyarrow.float64()),
        *((name, pyarrow.float64()) for name in _SECONDS), *((f"stage_{name}", pyarrow.int64()) for name in of_stage), *expectations,
    ])  # fmt: skip
    return pyarrow.Table.from_pylist(list(_rows(summary, costs)), schema=schema)


def _rows(summary: Mapping[str, Any], costs: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    of_operators = iter(costs)
    for number, stage in enumerate(summary.get("stages", [])):
        time = stage["time"]
        whole = {**stage, "workers": time["workers"], "rows_repeated": time["rows_repeated"]}
        names = ("workers", "worker_deaths", "rows_repeated", "blocks", "block_bytes", "inputs")
        # Workers of each kind have rows of their own.
        for operator in (operator for part in stage["kinds"] or [stage] for operator in part["operators"]):
            cost = next(of_operators)
            expectation = operator.get("expectation", {})
            yield {
                **{name: cost[name] for name in ("worker", "cpus", "gpus", *_SECONDS)},
                **{name: value for name, value in operator.items() if name != "expectation"},
                **{f"stage_{name}": whole[name] for name in names},
                "stage": number,
                "stage_name": stage["name"],
                "operator": operator["name"],
                "expectation": expectation.get("name"),
                "violations": expectation.get("violations"),
                "verdict": expectation.get("verdict"),
            }
