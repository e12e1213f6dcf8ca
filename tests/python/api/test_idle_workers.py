"""Worker processes after a burst."""

import os
import subprocess
import sys
import textwrap


def test_workers_of_a_deep_recursion_end_after_the_burst():
    script = """
        import aktis, os, time
        aktis.init(num_cpus=2, log_to_driver=False)

        @aktis.remote
        def nest(n):
            return [os.getpid()] + (aktis.get(nest.remote(n - 1)) if n else [])

        def is_alive(pid):
            try:
                with open(f"/proc/{pid}/stat") as stat:
                    return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
            except FileNotFoundError:
                return False

        pids = set(aktis.get(nest.remote(8), timeout=200))
        assert len(pids) > 5
        deadline = time.monotonic() + 120
        while sum(map(is_alive, pids)) > 3:
            assert time.monotonic() < deadline, "workers of a burst stay"
            time.sleep(0.2)
        aktis.shutdown()
    """
    environment = {**os.environ, "AKTIS_WORKER_IDLE": "2s"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=environment, check=True, timeout=400)
