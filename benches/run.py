#!/usr/bin/env python3
"""Runs one of the benchmarks and writes its result to `benches/results/`.

    python benches/run.py core [--rows tasks_sync,put_small] [--rounds 2] [--windows 3]
    python benches/run.py data_map | embed | footprint | growth | account | promises [...]
    python benches/run.py busy_starts [--load 2] [--turns 3] [--rounds 15]
    python benches/run.py builds OLD_PACKAGE [...]
    python benches/run.py transfer [...]           as root
    python benches/run.py relational [...]
    python benches/run.py files | multimodal | occupancy | resume [...]
    python benches/run.py all

`--help` after a name lists its options. What is compared with Ray makes Ray's virtual environment by itself on the
first run (see `ray_env.py`), outside this repository. Aktis is taken from the Python that runs this file.
"""

import importlib.util
import pathlib
import sys

BENCHES = pathlib.Path(__file__).resolve().parent
QUESTIONS = (
    "core",
    "data_map",
    "embed",
    "footprint",
    "growth",
    "account",
    "promises",
    "relational",
    "files",
    "multimodal",
    "occupancy",
    "resume",
)
#: Questions that need an argument, more rights or a machine that is busy, so that `all` leaves them out.
ASKED_FOR = ("builds", "busy_starts", "transfer")


def load(question, part="compare"):
    """The `compare.py` of a question, or another part of it, as a module."""
    spec = importlib.util.spec_from_file_location(f"{question}_{part}", BENCHES / question / f"{part}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in (*QUESTIONS, *ASKED_FOR, "all"):
        print(__doc__, file=sys.stderr)
        return 2
    sys.path.insert(0, str(BENCHES))
    chosen = QUESTIONS if sys.argv[1] == "all" else (sys.argv[1],)
    return max(load(question).main(sys.argv[2:]) for question in chosen)


if __name__ == "__main__":
    sys.exit(main())
