"""Tables on the terminal and JSON files in `benches/results/`, alike for all questions."""

import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess

BENCHES = pathlib.Path(__file__).resolve().parent


def median(values):
    return statistics.median(values) if values else None


def spread(values):
    """How far the windows lie apart, as half the range over the median: a reader's hint of noise."""
    middle = median(values)
    return (max(values) - min(values)) / 2 / middle if middle else None


def number(value, unit=""):
    """Three significant figures, with `k` and `M` for large ones and small times in ms."""
    if value is None:
        return "-"
    if unit == "s" and value < 1:
        return f"{value * 1000:.3g} ms"
    for factor, prefix in ((1e6, " M"), (1e3, " k"), (1, " ")):
        if value >= 0.9995 * factor or factor == 1:
            return f"{value / factor:.3g}{prefix}{unit}".strip()
    raise AssertionError("the last factor always applies")


def judge(reached):
    return "ok" if reached else "MISSED"


def table(header, rows):
    """Aligned columns: the first to the left, the others to the right."""
    cells = [[str(cell) for cell in line] for line in (header, *rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]

    def render(line):
        first, *rest = line
        return "  ".join(
            [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        )

    return "\n".join([render(cells[0]), "-" * (sum(widths) + 2 * (len(widths) - 1)), *map(render, cells[1:])])


def machine():
    """Facts without which the figures mean nothing."""
    model = "unknown"
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as info:
            model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), model)
    commit = subprocess.run(
        ["git", "-C", str(BENCHES), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_at_start": os.getloadavg()[0],
        "commit": commit.stdout.strip() or None,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def version_of(python, system):
    """The installed version of a system, without importing it."""
    code = f"import importlib.metadata as m; print(m.version({system!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def write(question, result):
    """Writes `results/<question>-<time>.json`, and `results/<question>.json` as the newest. Returns the former."""
    folder = BENCHES / "results"
    folder.mkdir(exist_ok=True)
    text = json.dumps(result, indent=2) + "\n"
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    path = folder / f"{question}-{stamp}.json"
    path.write_text(text)
    (folder / f"{question}.json").write_text(text)
    return path
