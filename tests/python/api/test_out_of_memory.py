"""Memory that runs out for real: the kernel is to take the worker that ate it, and the session is to say so and live on."""

import pytest
from memory_group import limited_memory
from waiting import run


@pytest.fixture
def memory_group():
    with limited_memory() as group:
        yield group


@pytest.mark.parametrize("eater", ["task", "actor"])
def test_who_eats_all_memory_is_what_the_kernel_takes_and_the_error_says_so(memory_group, eater):
    output = run(
        f"""
        import os, pathlib
        pathlib.Path({str(memory_group / "cgroup.procs")!r}).write_text(str(os.getpid()))
        import aktis
        aktis.init(num_cpus=2, object_store_memory=32 << 20, log_to_driver=False)
        held = bytearray(b"x") * (250 << 20)  # more than any worker has when memory runs out

        def eat_all():
            eaten = []
            while True:
                eaten.append(bytearray(b"x") * (8 << 20))

        @aktis.remote(max_retries=0)
        def eat():
            eat_all()

        @aktis.remote
        class Actor:
            def pid(self): return os.getpid()
            def eat(self): eat_all()

        bystander, other = Actor.remote(), Actor.remote()
        before = aktis.get(bystander.pid.remote(), timeout=60)
        try:
            aktis.get(dict(task=eat, actor=other.eat)[{eater!r}].remote(), timeout=60)
        except aktis.exceptions.OutOfMemoryError as error:
            print("told:", error)
        assert aktis.get(bystander.pid.remote(), timeout=60) == before
        assert aktis.get(aktis.remote(len).remote("abc"), timeout=60) == 3
        print("lives", len(held))
        """
    )
    assert "memory ran out" in output, output
    assert "it held" in output, output
    assert "lives" in output
