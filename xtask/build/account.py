"""Accounts for a build from nothing: who takes how much CPU, who wants it, and what it would cost to do without.

    make build-account            builds the module and the floor in empty folders, writes docs/building.md and costs.json

The floor is a crate without a line of code that has the same DataFusion, parquet, tonic, pyo3, tokenizers and ort, with the
same profile, built in the same hour.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import os
import pathlib
import re
import resource
import shutil
import subprocess
import tempfile
import time
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PAGE = ROOT / "docs" / "building.md"
MODULE_CRATE = "aktis-python"
# Crates that the floor has: what no system of this kind can do without.
FLOOR = ["parquet", "tonic", "tonic-prost", "pyo3", "tokenizers", "ort"]
ROWS_OF_CRATES = 30


class Built:
    """One build from nothing."""

    def __init__(self, notes: list[dict], cpu_seconds: float, wall_seconds: float) -> None:
        self.crates: dict[str, float] = collections.defaultdict(float)
        self.peak_mb = max((note["peak_mb"] for note in notes), default=0)
        for note in notes:
            self.crates[note["package"] or note["crate"]] += note["cpu_seconds"]
        self.cpu_seconds = cpu_seconds
        self.wall_seconds = wall_seconds

    @property
    def beside_rustc(self) -> float:
        """CPU of build scripts, the C code they compile, the linker, and cargo itself."""
        return max(self.cpu_seconds - sum(self.crates.values()), 0.0)


def build(command: list[str], folder: pathlib.Path, target: pathlib.Path) -> Built:
    """Runs `command` in `folder` with an empty target folder."""
    notes = target / "rustc-cpu.jsonl"
    target.mkdir(parents=True)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = {
        **os.environ,
        "CARGO_TARGET_DIR": str(target),
        "RUSTC_WRAPPER": str(HERE / "rustc_cpu.py"),
        "AKTIS_RUSTC_CPU": str(notes),
    }
    subprocess.run(command, cwd=folder, env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    lines = [json.loads(line) for line in notes.read_text().splitlines()]
    return Built(lines, cpu, time.monotonic() - started)


def write_floor(folder: pathlib.Path) -> None:
    """The floor's manifest, from the workspace's: the same versions, features and profile."""
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    wanted = manifest["workspace"]["dependencies"]
    names = FLOOR + sorted(name for name in wanted if name.startswith("datafusion"))
    lines = ['[package]\nname = "floor"\nversion = "0.0.0"\nedition = "2024"\n\n[workspace]\n\n[dependencies]']
    for name in names:
        entry = wanted[name]
        if isinstance(entry, str):
            entry = {"version": entry}
        parts = [f'version = "{entry["version"]}"']
        if "default-features" in entry:
            parts.append(f"default-features = {str(entry['default-features']).lower()}")
        features = list(entry.get("features", []))
        if features:
            parts.append(f"features = {json.dumps(features)}")
        lines.append(f"{name} = {{ {', '.join(parts)} }}")
    text = (ROOT / "Cargo.toml").read_text()
    profile = text[text.index("[profile.release]") :]
    # Settings of our own crates mean nothing here, and cargo would warn.
    profile = re.sub(r"\[profile\.release\.package\.aktis-[^\[]*", "", profile)
    (folder / "src").mkdir(parents=True)
    (folder / "Cargo.toml").write_text("\n".join(lines) + "\n\n" + profile)
    shutil.copy(HERE / "floor" / "src" / "lib.rs", folder / "src" / "lib.rs")
    shutil.copy(ROOT / "Cargo.lock", folder / "Cargo.lock")
    shutil.copy(ROOT / "rust-toolchain.toml", folder / "rust-toolchain.toml")


class Graph:
    """Which crate wants which, as cargo resolves them for the module: no tests, no benches."""

    def __init__(self) -> None:
        command = ["cargo", "metadata", "--format-version", "1", "--filter-platform", host()]
        metadata = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
        self.names = {package["id"]: package["name"] for package in metadata["packages"]}
        self.ours = set(metadata["workspace_members"])
        self.edges: dict[str, set[str]] = {}
        for node in metadata["resolve"]["nodes"]:
            wanted = {
                dependency["pkg"]
                for dependency in node["deps"]
                if any(kind["kind"] != "dev" for kind in dependency["dep_kinds"])
            }
            self.edges[node["id"]] = wanted
        self.root = next(package for package in self.ours if self.names[package] == MODULE_CRATE)

    def reached(self, without: str | None = None) -> set[str]:
        """Names of all crates that the module needs, if nobody of us asked for `without`."""
        seen, waiting = set(), [self.root]
        while waiting:
            package = waiting.pop()
            if package in seen:
                continue
            seen.add(package)
            for dependency in self.edges[package]:
                if package in self.ours and self.names[dependency] == without:
                    continue
                waiting.append(dependency)
        return {self.names[package] for package in seen}

    def direct(self) -> dict[str, set[str]]:
        """Crates of others that ours name, with those of ours that do."""
        found: dict[str, set[str]] = collections.defaultdict(set)
        members = self.reached()
        for package in self.ours:
            if self.names[package] in members:
                for dependency in self.edges[package] - self.ours:
                    found[self.names[dependency]].add(self.names[package])
        return found

    def wanted_by(self) -> dict[str, list[str]]:
        """For each crate those that name it."""
        found: dict[str, set[str]] = collections.defaultdict(set)
        members = self.reached()
        for package, dependencies in self.edges.items():
            if self.names[package] in members:
                for dependency in dependencies:
                    found[self.names[dependency]].add(self.names[package])
        return {name: sorted(wanting) for name, wanting in found.items()}


def host() -> str:
    """The target triple of this machine."""
    text = subprocess.run(["rustc", "-vV"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return next(line.split()[1] for line in text.splitlines() if line.startswith("host:"))


def alone(graph: Graph, crates: dict[str, float]) -> list[tuple[str, float, set[str]]]:
    """What would go if a direct dependency went: (name, CPU seconds, who of us names it), the dearest first."""
    members = graph.reached()
    rows = []
    for name, wanting in graph.direct().items():
        gone = members - graph.reached(without=name)
        rows.append((name, sum(crates.get(crate, 0.0) for crate in gone), wanting))
    return sorted(rows, key=lambda row: -row[1])


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table of Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def page(ours: Built, floor: Built, graph: Graph, module_bytes: int) -> str:
    """The measured part of docs/building.md."""
    reasons = tomllib.loads((HERE / "reasons.toml").read_text())
    cores = len(os.sched_getaffinity(0))
    day = datetime.date.today().isoformat()
    parts = [
        f"Made by `make build-account` on {day}, {cores} processors, {machine()}.",
        table(
            ["build from nothing", "CPU", "wall", "crates", "largest rustc"],
            [
                [
                    f"`{label}`",
                    f"{built.cpu_seconds / 60:.1f} min",
                    f"{built.wall_seconds / 60:.1f} min",
                    str(len(built.crates)),
                    f"{built.peak_mb} MB",
                ]
                for label, built in (("make build", ours), ("the floor", floor))
            ],
        ),
        (
            f"The module takes {ours.cpu_seconds / floor.cpu_seconds:.2f} times the CPU of the floor, and is "
            f"{module_bytes / 1e6:.1f} MB, stripped of names for debuggers."
        ),
        (
            "### What each dependency costs\n\nCPU seconds that a build would be shorter if none of our crates named it: its own, and those "
            "of what only it brings."
        ),
        table(
            ["dependency", "CPU s", "wanted by", "gives", "without it"],
            [
                [name, f"{cost:.0f}", ", ".join(sorted(wanting)), *reason(reasons, name)]
                for name, cost, wanting in alone(graph, ours.crates)
                if cost >= 2.0
            ],
        ),
        "### The dearest crates\n\nThe rest is in `xtask/build/costs.json`.",
        table(
            ["crate", "CPU s", "wanted by"],
            [
                [name, f"{cost:.0f}", shortened(graph.wanted_by().get(name, []))]
                for name, cost in sorted(ours.crates.items(), key=lambda item: -item[1])[:ROWS_OF_CRATES]
            ]
            + [["build scripts, their C code, linking, cargo", f"{ours.beside_rustc:.0f}", ""]],
        ),
    ]
    return "\n\n".join(parts)


def reason(reasons: dict, name: str) -> list[str]:
    """What a dependency gives, and what would be without it, as somebody wrote it down."""
    for pattern, entry in reasons.items():
        if name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])):
            return [entry["gives"], entry["without"]]
    return ["", ""]


def shortened(names: list[str]) -> str:
    """The first few names."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def machine() -> str:
    """The processor's name."""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "an unknown processor"


def replace_measured(text: str, measured: str) -> str:
    """The page with its measured part made anew."""
    begin, end = "<!-- measured: begin -->", "<!-- measured: end -->"
    before, _, rest = text.partition(begin)
    return before + begin + "\n" + measured + "\n" + end + rest.partition(end)[2]


def main() -> None:
    """Builds both, writes the page and the costs."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--keep", type=pathlib.Path, help="build in this folder, and leave it")
    chosen = options.parse_args()
    folder = chosen.keep or pathlib.Path(tempfile.mkdtemp(prefix="aktis-build-account-"))
    try:
        write_floor(folder / "floor")
        # Sources are fetched before, so that no figure holds the network.
        for place in (ROOT, folder / "floor"):
            subprocess.run(["cargo", "fetch"], cwd=place, check=True)
        command = ["cargo", "build", "--release", "--timings"]
        ours = build([*command, "--locked", "-p", MODULE_CRATE], ROOT, folder / "module-target")
        floor = build(command, folder / "floor", folder / "floor-target")
        library = folder / "module-target" / "release" / "lib_aktis.so"
        stripped = folder / "stripped.so"
        # As `make build` does.
        strip = ["strip", "--strip-unneeded", "--wildcard", "--keep-symbol=*aktis*"]
        subprocess.run([*strip, "-o", stripped, library], check=True)
        measured = page(ours, floor, Graph(), stripped.stat().st_size)
        PAGE.write_text(replace_measured(PAGE.read_text(), measured))
        costs = dict(sorted(ours.crates.items(), key=lambda item: -item[1]))
        (HERE / "costs.json").write_text(json.dumps({"cpu_seconds": costs}, indent=1) + "\n")
        print(measured)
    finally:
        if not chosen.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
