"""A cold process that says when it came where. Started by `account_job.py` with the time of its start.

    python start_job.py STARTED_NS

What is measured is the script of the core benchmark's `cold_process` row: import, init, one task, shutdown. Prints one JSON
object: nanoseconds of the monotonic clock by event, the marks of zygote and worker among them.
"""

import time

BEGUN = time.monotonic_ns()
EVENTS = {"begun": BEGUN}


def note(event):
    EVENTS[event] = time.monotonic_ns()


def noting(function, event):
    """The function, whose begin and end are noted."""

    def call(*args):
        note(f"{event} begins")
        result = function(*args)
        note(event)
        return result

    return call


def main():
    import aktis
    from aktis import _aktis as native

    note("imported")
    native.start_laptop = noting(native.start_laptop, "session")
    native.connect = noting(native.connect, "connected")
    aktis.init(num_cpus=2)
    note("init")

    @aktis.remote
    def task():
        at = time.monotonic_ns()
        from aktis import _aktis as native

        return at, native.take_stages()

    ref = task.remote()
    note("submitted")
    at, marks = aktis.get(ref)
    note("result")
    aktis.shutdown()
    note("shutdown")
    EVENTS.update({name: at for name, _, at in marks}, ran=at)


if __name__ == "__main__":
    main()
    print("{" + ", ".join(f'"{name}": {at}' for name, at in EVENTS.items()) + "}")
