"""Fetches an object from another node, several times, and prints the seconds of each as JSON.

transfer_job.py ADDRESS MEGABYTES TIMES
"""

import json
import sys
import time

import aktis
import numpy


@aktis.remote(num_cpus=0, resources={"far": 0.001})
def make(megabytes, seed):
    return numpy.random.default_rng(seed).integers(0, 2**63, megabytes * 125_000, dtype=numpy.int64)


def main(address, megabytes, times):
    aktis.init(address=address, log_to_driver=False)
    # The first copy opens what later ones find open.
    aktis.get(make.remote(1, 0))
    seconds = []
    for seed in range(times):
        made = make.remote(megabytes, seed)
        aktis.wait([made], fetch_local=False)
        begin = time.perf_counter()
        array = aktis.get(made)
        seconds.append(time.perf_counter() - begin)
        expected = numpy.random.default_rng(seed).integers(0, 2**63, 1000, dtype=numpy.int64)
        assert array.nbytes == megabytes * 1_000_000
        assert (array[:1000] == expected).all()
        del array, made
        # The store takes its time to give the room back.
        time.sleep(0.5)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
