"""Workers find modules in the pages of the zygote that they would otherwise import."""

import sys
import time

import aktis
import numpy  # noqa: F401 - the driver has it when its session begins

DEADLINE_S = 30


@aktis.remote(num_cpus=0)
class Looker:
    def has_numpy(self):
        return "numpy" in sys.modules


def test_workers_soon_share_what_the_driver_has_imported(no_session):
    aktis.init(num_cpus=2, log_to_driver=False)
    end = time.monotonic() + DEADLINE_S
    # Each actor is a new process; the zygote imports when it has been idle for a moment.
    while not aktis.get(Looker.remote().has_numpy.remote(), timeout=DEADLINE_S):
        assert time.monotonic() < end, "workers still begin without numpy"
        time.sleep(0.3)
