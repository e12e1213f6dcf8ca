"""The system under test, chosen by ``AKTIS_COMPAT_SYSTEM`` (``aktis`` by default, or ``ray``).

Every test file does ``from system import ray`` and then reads like an ordinary Ray script, which is the point: these
files are the specification of what "an existing Ray script runs with ``import aktis as ray``" means.
"""

import importlib
import os

SYSTEM = os.environ.get("AKTIS_COMPAT_SYSTEM", "aktis")
IS_RAY = SYSTEM == "ray"

ray = importlib.import_module(SYSTEM)
exceptions = importlib.import_module(f"{SYSTEM}.exceptions")

#: CPUs every shared session declares (logical: the machine may have fewer).
SESSION_CPUS = 4

#: Seconds any single ``get`` or ``wait`` of a test may take. Generous, because it is a deadline and not a measurement.
DEADLINE_S = 60
