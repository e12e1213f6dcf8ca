"""Installs the wheel into an empty virtual environment without Rust in reach, and uses it as somebody does who got it.

python tests/wheel.py dist
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import venv

#: Seconds that the packages may take to come, the program to run, and the command to answer.
INSTALL_S, PROGRAM_S, COMMAND_S = 600, 120, 60
PROGRAM = f"""
import faulthandler
from importlib.metadata import entry_points

# What hangs says where.
faulthandler.dump_traceback_later({PROGRAM_S - 20}, exit=True)

import aktis

@aktis.remote
def square(x):
    return x * x

@aktis.remote
class Sum:
    def __init__(self):
        self.total = 0
    def add(self, x):
        self.total += x
        return self.total

aktis.init(num_cpus=2)
numbers = aktis.get([square.remote(i) for i in range(10)])
actor = Sum.remote()
assert aktis.get([actor.add.remote(x) for x in numbers])[-1] == 285
rows = aktis.data.range(100).filter(expr="id % 2 = 0").map_batches(lambda batch: {{"twice": batch["id"] * 2}})
assert sum(row["twice"] for row in rows.take_all()) == 4900
aktis.shutdown()
with aktis.testing.local():
    assert aktis.get(square.remote(4)) == 16
assert [plugin.value for plugin in entry_points(group="pytest11")] == ["aktis.testing.pytest_plugin"]
print("the wheel works:", aktis.__file__)
"""


def main(folder: str) -> None:
    """Fails with what pip, Python or the command said."""
    wheels = sorted(pathlib.Path(folder).glob("*.whl"))
    if len(wheels) != 1:
        sys.exit(f"{folder} has {len(wheels)} wheels; `make wheel` builds one")
    with tempfile.TemporaryDirectory(prefix="aktis-wheel-") as place:
        venv.create(place, with_pip=True)
        binaries = pathlib.Path(place, "bin")
        # No cargo, no rustc, nothing of the clone.
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CARGO", "RUST"))
        }
        environment["PATH"] = f"{binaries}:/usr/bin:/bin"

        def run(deadline_s: float, *command: str) -> None:
            print("runs", *command[:2], flush=True)
            subprocess.run(command, cwd=place, env=environment, check=True, timeout=deadline_s)

        run(INSTALL_S, str(binaries / "pip"), "install", "-q", f"{wheels[0].resolve()}[data]")
        run(PROGRAM_S, str(binaries / "python"), "-c", PROGRAM)
        run(COMMAND_S, str(binaries / "aktis"), "--version")


if __name__ == "__main__":
    main(sys.argv[1])
