"""Fails when the module needs more crates, or is larger, than the budget says, or a crate would be compiled twice.

    python3 xtask/build/budget.py            part of `make lint`

The budget is raised on purpose, in `budget.toml`, with the reason in docs/building.md.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MODULE = ROOT / "python-bindings" / "python" / "aktis" / "_aktis.abi3.so"


def tree(edges: str, *chosen: str) -> dict[str, set[str]]:
    """Crates with their versions, and the features that each is compiled with; procedural macros and what they need apart."""
    command = ["cargo", "tree", "--locked", "--prefix", "none", "--edges", edges, "--format", "{p}|{f}", *chosen]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(ended.stderr)
    found: dict[str, set[str]] = {}
    for line in ended.stdout.splitlines():
        package, _, features = line.replace(" (*)", "").partition("|")
        # A crate may be there twice, for the build and for the module.
        found.setdefault(" ".join(package.split()[:2]), set()).add(features)
    return found


def core_packages() -> list[str]:
    """The crates that `make test` builds in one command: all but those that the Makefile keeps apart."""
    apart = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("APART := "))
    metadata = json.loads(
        subprocess.run(
            ["cargo", "metadata", "--no-deps", "--format-version", "1"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    names = [package["name"] for package in metadata["packages"] if package["name"] not in apart.split()[2:]]
    return [flag for name in names for flag in ("-p", name)]


def complaints(
    budget: dict, module_bytes: int | None, crates: dict[str, set[str]], tested: dict[str, set[str]]
) -> list[str]:
    """What is over the budget, one sentence each."""
    found = []
    if len(crates) > budget["crates"]:
        found.append(
            f"the module needs {len(crates)} crates, {len(crates) - budget['crates']} more than the budget of {budget['crates']}; "
            "`cargo tree -p aktis-python -i NAME` says who wants one"
        )
    if module_bytes is None:
        found.append("the module is not built: run `make build`")
    elif module_bytes > budget["module_bytes"]:
        found.append(
            f"the module has {module_bytes / 1e6:.1f} MB, and the budget is {budget['module_bytes'] / 1e6:.1f}; "
            "`make build-account` says what each dependency costs"
        )
    allowed = set(budget["other_features"])
    for name, features in sorted(crates.items()):
        more = tested.get(name, set()) - features
        if more and name.split()[0] not in allowed:
            found.append(
                f"{name} would be compiled twice: the module takes its features {sorted(features)}, the tests {sorted(more)}; "
                "keep what brings them apart (APART in the Makefile), or name the crate in python-bindings/Cargo.toml"
            )
    return found


def main() -> None:
    """Exit status 1 and a list, if anything is over."""
    budget = tomllib.loads((HERE / "budget.toml").read_text())
    size = MODULE.stat().st_size if MODULE.exists() else None
    crates = tree("normal,build", "-p", "aktis-python")
    found = complaints(budget, size, crates, tree("normal,build,dev", *core_packages()))
    for sentence in found:
        print(f"build budget: {sentence}", file=sys.stderr)
    if found:
        sys.exit("The budget is raised on purpose: xtask/build/budget.toml, with the reason in docs/building.md.")
    print(
        f"build budget: {len(crates)} of {budget['crates']} crates, {size / 1e6:.1f} of {budget['module_bytes'] / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    main()
