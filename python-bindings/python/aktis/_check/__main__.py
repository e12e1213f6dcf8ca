"""The command: ``aktis check script.py``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .reader import findings_in
from .scripts import Script, Unreadable, scripts_at

if TYPE_CHECKING:
    from .verdicts import Finding


def main(arguments: list[str] | None = None) -> int:
    """Checks scripts. Returns 0 when nothing is missing, 1 when something is, 2 when a script cannot be read."""
    parser = argparse.ArgumentParser(
        prog="aktis check",
        description="Say what a script for Ray uses that is the same in Aktis, different on purpose, or missing.",
        epilog="Exit status: 0 nothing is missing, 1 something is, 2 a script cannot be read.",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a script, a notebook, or a folder of them")
    parser.add_argument(
        "--json", action="store_true", help="print JSON: a list of findings, those that are the same too"
    )
    parser.add_argument("--all", action="store_true", help="print what is the same as well")
    options = parser.parse_args(arguments)
    checked: list[tuple[Script, list[Finding]]] = []
    failed = False
    for path in options.paths:
        try:
            for script in scripts_at(path):
                checked.append((script, _findings(script)))
        except Unreadable as error:
            failed = True
            print(f"error: {error}", file=sys.stderr)
    print(_as_json(checked) if options.json else _as_text(checked, options.all))
    if failed:
        return 2
    return int(any(finding.verdict.kind == "missing" for _, findings in checked for finding in findings))


def _findings(script: Script) -> list[Finding]:
    try:
        return findings_in(script.source)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        place = f"{script.name}:{line}" if line else script.name
        raise Unreadable(f"{place}: not Python: {getattr(error, 'msg', error)}") from error


def _as_json(checked: list[tuple[Script, list[Finding]]]) -> str:
    rows = [
        {
            "file": script.name,
            "line": finding.line,
            "column": finding.column,
            "kind": finding.verdict.kind,
            "text": finding.verdict.text,
        }
        for script, findings in checked
        for finding in findings
    ]
    return json.dumps(rows, indent=2)


def _as_text(checked: list[tuple[Script, list[Finding]]], shows_all: bool) -> str:
    lines = []
    for script, findings in checked:
        counts = {"same": 0, "different": 0, "missing": 0}
        told: set[str] = set()
        for finding in findings:
            verdict = finding.verdict
            counts[verdict.kind] += 1
            is_new = verdict.kind == "missing" or verdict.text not in told
            if is_new and (shows_all or verdict.kind != "same"):
                lines.append(f"{script.name}:{finding.line}:{finding.column}: {verdict.kind}: {verdict.text}")
            told.add(verdict.text)
        if not findings:
            lines.append(f"{script.name}: uses nothing of Ray")
            continue
        uses = f"{len(findings)} use" + ("s" if len(findings) > 1 else "")
        lines.append(
            f"{script.name}: {uses} of Ray: {counts['same']} the same, {counts['different']} different, {counts['missing']} missing"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
