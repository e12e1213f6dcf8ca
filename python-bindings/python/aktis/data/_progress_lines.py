"""Progress as text: how far each stage of a run is, and lines that say so in any width. No terminal is touched here."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: A rate is that of the last so many seconds ...
WINDOW_S = 30.0
#: ... or, where rows come more seldom, of the time since the last but so many reports.
WINDOW_REPORTS = 3

_LEAST_NAME, _WISHED_NAME, _LEAST_BAR, _MOST_BAR = 12, 32, 5, 30
_GAP = 2
#: Below, lines say how a run ended, but not when.
_NARROW = 55
#: What lines say, in the order in which it gives way to the rest, the last first.
_PRECEDENCE = ("name", "state", "share", "bar", "rate", "rows", "workers")
#: What is left out before the names of functions are cut.
_BELOW_NAMES = ("rows", "workers")
_ORDER = ("name", "share", "bar", "rows", "rate", "workers", "state")


@dataclass(frozen=True)
class StageProgress:
    """How far a stage is."""

    name: str
    #: Rows that it has taken, and that it will have taken in the end: None if nobody knows yet.
    rows: int
    total_rows: int | None = None
    #: Between 0 and 1; None if nobody knows.
    share: float | None = None
    rows_per_s: float | None = None
    remaining_s: float | None = None
    workers: int | None = None
    is_starting: bool = False
    is_done: bool = False
    #: Why no worker of a kind works, for each such kind.
    waits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ending:
    """How a run ended: ``"done"``, ``"failed"``, ``"interrupted"`` or ``"stopped"`` (nobody wanted the rest)."""

    kind: str
    elapsed_s: float


class Tracker:
    """Makes of the statistics of one run, asked for now and then, how far and how fast it is.

    Rates are those of the last seconds, not of the whole time: the start of workers does not count, and a stage that has
    come to a halt slows down on the screen as well.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: list[_Window] = []

    def read(self, stats: Mapping[str, Any]) -> list[StageProgress]:
        """The stages in order, from :meth:`aktis.data.Dataset.get_stats_summary`."""
        now = self._clock()
        self._windows += [_Window() for _ in stats["stages"][len(self._windows) :]]
        shares: list[float | None] = []
        given: list[int] = []
        result = []
        for stage, window in zip(stats["stages"], self._windows, strict=True):
            operators = stage["operators"]
            rows = operators[0]["rows_out"] if operators else 0
            is_done = stage["is_done"]
            givers = stage["givers"]
            share: float | None
            if is_done:
                share = 1.0
            elif not givers:
                share = _share_of_source(rows, stats, stage)
            else:
                share = _share_of_given(
                    rows, [shares[giver] for giver in givers], sum(given[giver] for giver in givers)
                )
            workers = stage["workers"]
            is_starting = workers > 0 and workers == stage["starting"] and not rows
            window.add(now, rows, share, is_idle=is_starting)
            speed = window.per_s()
            result.append(
                StageProgress(
                    name=stage["name"],
                    rows=rows,
                    total_rows=max(rows, round(rows / share)) if rows and share else None,
                    share=share,
                    rows_per_s=speed[0] if speed else None,
                    remaining_s=(1 - share) / speed[1] if share is not None and speed and speed[1] else None,
                    workers=workers,
                    is_starting=is_starting,
                    is_done=is_done,
                    waits=tuple(kind["waits"] for kind in stage.get("kinds", ()) if kind["waits"]),
                )
            )
            shares.append(share)
            given.append(operators[-1]["rows_out"] if operators else 0)
        return result


def _share_of_given(rows: int, shares: Sequence[float | None], given: int) -> float | None:
    """It can be as far as the stages that give its rows, times what it has taken of these."""
    known = [share for share in shares if share is not None]
    if len(known) < len(shares):
        return None
    return min(known) * min(rows / given, 1.0) if given else 0.0


def _share_of_source(rows: int, stats: Mapping[str, Any], stage: Mapping[str, Any]) -> float | None:
    """By rows, and by parts that are used up: a filter that the source applies itself lets few rows through."""
    by_rows = rows / stats["source_rows"] if stats["source_rows"] else None
    by_parts = stage["inputs"] / stage["known_inputs"] if stage["known_inputs"] else None
    known = [share for share in (by_rows, by_parts) if share is not None]
    return min(max(known), 1.0) if known else None


class _Window:
    """Rows and share of one stage over the last while."""

    def __init__(self) -> None:
        #: When what was reported: the first is where the window begins, the last is now.
        self._reports: collections.deque[tuple[float, int, float | None]] = collections.deque()
        self._now: tuple[float, int, float | None] | None = None

    def add(self, at: float, rows: int, share: float | None, *, is_idle: bool) -> None:
        reports = self._reports
        if is_idle:
            reports.clear()
        if not reports or reports[-1][1] != rows:
            reports.append((at, rows, share))
        while len(reports) > WINDOW_REPORTS and at - reports[1][0] > WINDOW_S:
            reports.popleft()
        self._now = (at, rows, share)

    def per_s(self) -> tuple[float, float] | None:
        """Rows and share per second; None before the first row."""
        if self._now is None or len(self._reports) < 2:
            return None
        (began, first_rows, first_share), (now, rows, share) = self._reports[0], self._now
        elapsed = max(now - began, 1e-3)
        grown = (share or 0.0) - (first_share or 0.0) if share is not None else 0.0
        return (rows - first_rows) / elapsed, max(grown, 0.0) / elapsed


def lines(
    stages: Sequence[StageProgress], width: int, *, ending: Ending | None = None, is_ascii: bool = False
) -> list[str]:
    """One line per stage, none longer than ``width``. What has no place is left out, the least important first.

    >>> stage = StageProgress("Read->MapBatches(Embed)->Write", 450, 1000, 0.45, 50.0, 11.0, 2)
    >>> for width in (40, 60, 80):
    ...     print(lines([stage], width, is_ascii=True)[0])
    MapBatches(Embed)   45%  ##---  ETA 0:11
    MapBatches(Embed)->Write   45%  ##---  50 rows/s  ETA 0:11
    MapBatches(Embed)     45%  ##---  450/1,000 rows  50 rows/s  2 workers  ETA 0:11
    """
    rows = [_cells(stage, ending, is_narrow=width < _NARROW) for stage in stages]
    widths = {name: max((len(row[name]) for row in rows), default=0) for name in _ORDER}
    longest, widths["name"], widths["bar"] = widths["name"], min(widths["name"], _LEAST_NAME), _LEAST_BAR
    if all(stage.share is None for stage in stages):
        widths["bar"] = 0
    functions = max((len(_functions(stage.name)) for stage in stages), default=0)
    wished_name = max(widths["name"], min(functions, _WISHED_NAME))
    shown: list[str] = []
    for name in _PRECEDENCE:
        wished = {**widths, "name": wished_name} if name in _BELOW_NAMES else widths
        if widths[name] and _length(wished, [*shown, name]) <= width:
            shown.append(name)
            widths = wished
    widths["name"] = min(longest, widths["name"] + max(width - _length(widths, shown), 0))
    if "bar" in shown:
        widths["bar"] = min(_MOST_BAR, widths["bar"] + max(width - _length(widths, shown), 0))
    order = [name for name in _ORDER if name in shown]
    result = []
    for stage, row in zip(stages, rows, strict=True):
        row["name"] = _shortened(stage.name, widths["name"], is_ascii)
        row["bar"] = _bar(_share(stage, ending), widths["bar"], is_ascii)
        cells = (
            row[name].ljust(widths[name]) if name in ("name", "bar") else row[name].rjust(widths[name])
            for name in order
        )
        result.append((" " * _GAP).join(cells)[:width].rstrip())
    return result


def _length(widths: Mapping[str, int], names: Sequence[str]) -> int:
    return sum(widths[name] for name in names) + _GAP * max(len(names) - 1, 0)


def _share(stage: StageProgress, ending: Ending | None) -> float | None:
    if stage.is_done or (ending is not None and ending.kind == "done"):
        return 1.0
    # All rows are in, but what becomes of them is still to come.
    return None if stage.share is None else min(stage.share, 0.99)


def _cells(stage: StageProgress, ending: Ending | None, *, is_narrow: bool) -> dict[str, str]:
    share = _share(stage, ending)
    is_whole = share == 1.0
    rows = f"{stage.rows:,} rows"
    if stage.total_rows is not None and not is_whole:
        rows = f"{stage.rows:,}/{stage.total_rows:,} rows"
    rate, workers = stage.rows_per_s, stage.workers
    if ending is not None:
        rate, workers = stage.rows / max(ending.elapsed_s, 1e-3), None
    return {
        "name": stage.name,
        "share": "" if share is None else f"{int(share * 100):3}%",
        "bar": "",
        "rows": rows,
        "rate": "" if rate is None else f"{_rate(rate)} rows/s",
        "workers": "" if workers is None else _workers(workers, len(stage.waits)),
        "state": _state(stage, ending, is_narrow=is_narrow),
    }


def _workers(count: int, waiting_kinds: int) -> str:
    """
    >>> _workers(2, 0), _workers(1, 1)
    ('2 workers', '1 worker, 1 kind waits')
    """
    text = f"{count} worker{'' if count == 1 else 's'}"
    waits = f"{waiting_kinds} kind waits" if waiting_kinds == 1 else f"{waiting_kinds} kinds wait"
    return f"{text}, {waits}" if waiting_kinds else text


def _state(stage: StageProgress, ending: Ending | None, *, is_narrow: bool) -> str:
    if ending is not None and (ending.kind == "done" or not stage.is_done):
        how_long = f" {'in' if ending.kind == 'done' else 'after'} {_seconds(ending.elapsed_s)}"
        return ending.kind if is_narrow else ending.kind + how_long
    if stage.is_done:
        return "done"
    if stage.is_starting:
        return "starting"
    return "ETA ?" if stage.remaining_s is None else f"ETA {_clock(stage.remaining_s)}"


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 10 else f"{per_s:.1f}" if per_s >= 1 else f"{per_s:.2f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else _clock(seconds)


def _clock(seconds: float) -> str:
    """
    >>> _clock(11), _clock(3 * 3600 + 62), _clock(200 * 24 * 3600)
    ('0:11', '3:01:02', '200 days')
    """
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 100:
        return f"{hours // 24} days"
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"


def _bar(share: float | None, width: int, is_ascii: bool) -> str:
    full, empty = ("#", "-") if is_ascii else ("█", "░")
    if share is None:
        return " " * width
    filled = int(share * width)
    return full * filled + empty * (width - filled)


def _shortened(name: str, width: int, is_ascii: bool) -> str:
    """The name of a stage in so many characters: functions matter more than that rows are read and written.

    >>> [_shortened("Read->MapBatches(Embed)->Write", width, True) for width in (30, 26, 20, 12)]
    ['Read->MapBatches(Embed)->Write', 'MapBatches(Embed)->Write', 'MapBatches(Embed)', 'MapBatche...']
    """
    for shorter in (name, name.removeprefix("Read->"), _functions(name)):
        if len(shorter) <= width:
            return shorter
    name = _functions(name)
    mark = "..." if is_ascii else "…"
    return name[: max(width - len(mark), 0)] + mark[:width]


def _functions(name: str) -> str:
    """The name of a stage without its reading and writing."""
    return name.removeprefix("Read->").removesuffix("->Write")
