"""Fails when the module needs more crates, or is larger, than the budget says, or a crate would be compiled twice.

    python3 xtask/build/budget.py            part of `make lint`

The budget is raised on purpose, in `budget.toml`, with the reason in docs/building.md.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MODULE = ROOT / "python-bindings" / "python" / "aktis" / "_aktis.abi3.so"


def tree(*chosen: str) -> dict[str, str]:
    """Crates with their versions, and the features that each is compiled with; procedural macros and what they need apart."""
    command = ["cargo", "tree", "--locked", "--prefix", "none", "--edges", "normal,build", "--format", "{p}|{f}", *chosen]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found: dict[str, str] = {}
    for line in text.splitlines():
        package, _, features = line.replace(" (*)", "").partition("|")
        name = " ".join(package.split()[:2])
        # A crate may be there for the build and for the module; the sets are put side by side.
        found[name] = ";".join(sorted({*found.get(name, "").split(";"), features} - {""}))
    return found


def complaints(budget: dict, module_bytes: int | None, crates: dict[str, str], workspace: dict[str, str]) -> list[str]:
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
        elsewhere = workspace.get(name, features)
        if elsewhere != features and name.split()[0] not in allowed:
            found.append(
                f"{name} would be compiled twice: the module alone takes its features {features!r}, the workspace {elsewhere!r}; "
                "name the crate in python-bindings/Cargo.toml, so that both are the same"
            )
    return found


def main() -> None:
    """Exit status 1 and a list, if anything is over."""
    budget = tomllib.loads((HERE / "budget.toml").read_text())
    size = MODULE.stat().st_size if MODULE.exists() else None
    crates, workspace = tree("-p", "aktis-python"), tree("--workspace")
    found = complaints(budget, size, crates, workspace)
    for sentence in found:
        print(f"build budget: {sentence}", file=sys.stderr)
    if found:
        sys.exit("The budget is raised on purpose: xtask/build/budget.toml, with the reason in docs/building.md.")
    print(f"build budget: {len(crates)} of {budget['crates']} crates, {size / 1e6:.1f} of {budget['module_bytes'] / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
