"""Runs cargo with one line that tells what is being built, how far it is, and how long it takes yet.

    python3 xtask/build/progress.py -- cargo build --release -p aktis-python

How far: by the CPU seconds of each crate (`costs.json`, written by `account.py`), not by their number, since a few crates
take most of the time. How long yet: by the pace of this run, before that by the pace of the last one in the same build
folder, before that by the number of processors. On a terminal the line changes in place; elsewhere a line is printed every
half minute. Warnings and errors of the compiler pass through.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
COSTS = HERE / "costs.json"
# A crate that the table does not know.
UNKNOWN_CPU_SECONDS = 2.0
# A crate that is being compiled counts for its time, and never as done.
UNDER_WAY_SHARE = 0.95
# Before this share of the work is done, the pace of this run says little.
SURE_SHARE = 0.04
TERMINAL_SECONDS, LOG_SECONDS = 0.2, 30.0
STARTED = re.compile(r"^\s*(?:Compiling|Checking) (\S+) v")
BUSY = re.compile(r"^\s*(Updating|Downloading|Downloaded|Locking|Blocking) ?(.*)")
SILENT = re.compile(
    r"^\s*(?:Compiling|Checking|Fresh|Finished|Adding|Updating|Downloading|Downloaded|Locking|Blocking) ?"
)


class Work:
    """What is to be built, what is done, and the pace."""

    def __init__(self, crates: dict[str, float], prior_pace: float) -> None:
        self.left = dict(crates)
        self.total = sum(crates.values())
        self.count = len(crates)
        self.built = 0.0
        self.built_count = 0
        self.fresh = 0.0
        self.prior_pace = prior_pace
        self.running: dict[str, float] = {}
        self.phase = ""
        self.started = time.monotonic()

    def start(self, crate: str) -> None:
        """`crate` is being compiled."""
        self.phase = ""
        self.running.setdefault(crate, time.monotonic())

    def finish(self, crate: str, is_fresh: bool) -> None:
        """`crate` is there; `is_fresh` if it was there before."""
        self.running.pop(crate, None)
        cost = self.left.pop(crate, None)
        if cost is None:
            return
        if is_fresh:
            self.fresh += cost
        else:
            self.built += cost
            self.built_count += 1

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def done(self) -> float:
        """CPU seconds of the table that this run has worked off, those of crates under way included: one second each in a second."""
        now = time.monotonic()
        under_way = (
            min(now - since, UNDER_WAY_SHARE * self.left[crate])
            for crate, since in self.running.items()
            if crate in self.left
        )
        return self.built + sum(under_way)

    @property
    def pace(self) -> float:
        """CPU seconds of the table per second of this run."""
        to_build = self.total - self.fresh
        done = self.done
        if self.elapsed < 1.0 or done < SURE_SHARE * to_build:
            return self.prior_pace
        return done / self.elapsed

    def share(self) -> float:
        """Part of the work of this run that is done, 0 to 1."""
        to_build = self.total - self.fresh
        return self.done / to_build if to_build > 0 else 1.0

    def line(self) -> str:
        """One line for a person."""
        if self.phase:
            return f"Building Aktis: {self.phase}"
        longest = min(self.running, key=self.running.__getitem__, default="")
        name = f" ({longest})" if longest else ""
        left = self.total - self.fresh - self.done
        done = self.count - len(self.left)
        return (
            f"Building Aktis: crate {min(done + 1, self.count)} of {self.count}{name}, "
            f"{self.share():.0%}, about {minutes(left / self.pace)} left"
        )


def minutes(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min"


def crates_of(command: list[str]) -> dict[str, float]:
    """CPU seconds of every crate that `command` needs, by name."""
    packages = [part for index, part in enumerate(command) if command[index - 1] == "-p"]
    excluded = [part for index, part in enumerate(command) if command[index - 1] == "--exclude"]
    chosen = [flag for name in packages for flag in ("-p", name)] or [
        "--workspace",
        *(flag for name in excluded for flag in ("--exclude", name)),
    ]
    # Locked, as the build is: it would write the lock file anew before the build can say that it has to be.
    tree = ["cargo", "tree", "--locked", "--prefix", "none", "--edges", "normal,build", "--format", "{p}", *chosen]
    listed = subprocess.run(tree, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        return {}  # cargo itself says why in a moment
    costs = json.loads(COSTS.read_text())["cpu_seconds"] if COSTS.exists() else {}
    names = {line.split()[0] for line in listed.stdout.splitlines() if line.strip()}
    return {name: costs.get(name, UNKNOWN_CPU_SECONDS) for name in names}


def pace_file(command: list[str]) -> pathlib.Path:
    """Where the pace of the last run is kept: beside what it built."""
    folder = os.environ.get("CARGO_TARGET_DIR") or "target"
    return pathlib.Path(folder) / "aktis-build-pace.json"


def last_pace(path: pathlib.Path) -> float:
    """The pace of the last run here, else one CPU second per processor and second, less a little for waiting."""
    try:
        return float(json.loads(path.read_text())["cpu_seconds_per_second"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.8 * len(os.sched_getaffinity(0))


class Display:
    """Shows the line: in place on a terminal, now and then elsewhere."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.is_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, name="build-progress", daemon=True)

    def _run(self) -> None:
        while not self.ended.wait(TERMINAL_SECONDS if self.is_terminal else LOG_SECONDS):
            with self.lock:
                self._show(self.work.line())

    def _show(self, line: str) -> None:
        if self.is_terminal:
            width = shutil.get_terminal_size().columns
            sys.stderr.write("\r\x1b[K" + line[: max(width - 1, 1)])
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def note(self, text: str) -> None:
        """Passes a line of the compiler on."""
        with self.lock:
            sys.stderr.write(("\r\x1b[K" if self.is_terminal else "") + text)

    def end(self) -> None:
        """Takes the line away."""
        self.ended.set()
        self.thread.join()
        if self.is_terminal:
            sys.stderr.write("\r\x1b[K")


def follow_messages(stream, work: Work) -> None:
    """Reads what cargo says about finished crates."""
    for line in stream:
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if message.get("reason") != "compiler-artifact" or "custom-build" in message["target"]["kind"]:
            continue
        work.finish(package_name(message["package_id"]), message.get("fresh", False))


def package_name(package_id: str) -> str:
    """`path+file:///…/common#aktis-common@0.1.0`, `registry+…#serde@1.0.0` or `path+file:///…/xtask#0.1.0`."""
    source, _, end = package_id.rpartition("#")
    return end.split("@")[0] if "@" in end else source.rstrip("/").rsplit("/", 1)[-1]


def follow_status(stream, work: Work, display: Display) -> None:
    """Reads what cargo is doing, and passes on what the compiler says."""
    for line in stream:
        if match := STARTED.match(line):
            work.start(match[1])
        elif match := BUSY.match(line):
            work.phase = "waiting for another cargo" if match[1] == "Blocking" else "fetching the sources of crates"
        elif line.strip() and not SILENT.match(line):
            display.note(line)


def run(command: list[str]) -> int:
    """Runs `command` with the line; its exit status."""
    memory = pace_file(command)
    work = Work(crates_of(command), last_pace(memory))
    display = Display(work)
    process = subprocess.Popen(
        [*command, "--message-format=json-render-diagnostics"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "CARGO_TERM_PROGRESS_WHEN": "never"},
    )
    status = threading.Thread(target=follow_status, args=(process.stderr, work, display), name="cargo-status")
    status.start()
    display.thread.start()
    try:
        follow_messages(process.stdout, work)
        code = process.wait()
        status.join()
    finally:
        display.end()
    if code == 0 and work.built_count:
        print(f"Built {work.built_count} crates in {minutes(work.elapsed)}.", file=sys.stderr)
        if work.share() > 0.9 and work.built > SURE_SHARE * work.total:
            memory.write_text(json.dumps({"cpu_seconds_per_second": work.built / work.elapsed}))
    return code


def main() -> None:
    """Everything after `--` is the command."""
    if "--" not in sys.argv[1:]:
        sys.exit("usage: progress.py -- cargo build ...")
    command = sys.argv[sys.argv.index("--") + 1 :]
    try:
        sys.exit(run(command))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
