"""The system under test, chosen by ``AKTIS_COMPAT_SYSTEM`` (``aktis`` by default, or ``ray``).

Every test file does ``from .system import ray`` and then reads like an ordinary Ray script, which is the point: these
files are the specification of what "an existing Ray script runs with ``import aktis as ray``" means.
"""

import importlib
import os
import pathlib

SYSTEM = os.environ.get("AKTIS_COMPAT_SYSTEM", "aktis")
IS_RAY = SYSTEM == "ray"

# Ray's own settings, harmless to any other system: no token file, no usage report, every line of output shown.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DEDUP_LOGS", "0")

# Workers import the test modules by name. Ray gives them the working directory, the script's folder and PYTHONPATH, but
# not the rest of the driver's `sys.path`; Aktis must do no less.
_import_root = str(pathlib.Path(__file__).resolve().parents[len(__package__.split("."))])
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_import_root, os.environ.get("PYTHONPATH")]))

ray = importlib.import_module(SYSTEM)
exceptions = importlib.import_module(f"{SYSTEM}.exceptions")

#: CPUs every shared session declares (logical: the machine may have fewer).
SESSION_CPUS = 4

#: Seconds any single ``get`` or ``wait`` of a test may take. Generous, because it is a deadline and not a measurement.
DEADLINE_S = 60


def session_arguments(**overrides):
    """Arguments of ``init`` for a small quiet session of either system."""
    arguments = {"num_cpus": SESSION_CPUS, "log_to_driver": False}
    if IS_RAY:
        arguments["include_dashboard"] = False
    arguments.update(overrides)
    return arguments
