"""What workers print, where it is kept, and what is left of a worker that dies."""

import os
import subprocess
import sys
import textwrap

import pytest

SESSION = "import aktis, os, signal, subprocess, sys, time\n"


def run(script, state, **variables):
    """Runs a driver whose workers' output is kept below ``state``."""
    environment = {**os.environ, "XDG_STATE_HOME": str(state), **variables}
    done = subprocess.run(
        [sys.executable, "-c", SESSION + textwrap.dedent(script)],
        env=environment,
        check=False,
        text=True,
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done
    return done


def kept_files(state):
    return [path for path in state.rglob("worker-*") if path.is_file()]


def test_last_words_of_a_killed_worker_are_printed_and_part_of_its_error(tmp_path):
    script = """
        aktis.init(num_cpus=1)
        @aktis.remote(max_retries=0)
        def die(n):
            print(f"words {n}", end="")
            os.kill(os.getpid(), signal.SIGKILL)
        for n in range(5):
            try:
                aktis.get(die.remote(n), timeout=60)
            except aktis.exceptions.WorkerCrashedError as error:
                # At once: `print` writes piece by piece, and lines of workers may come between.
                sys.stdout.write(f"ERROR {n} {error}".replace(chr(10), " | ") + chr(10))
        aktis.shutdown()
    """
    done = run(script, tmp_path)
    errors = [line for line in done.stdout.splitlines() if line.startswith("ERROR")]
    assert len(errors) == 5, done
    for n, error in enumerate(errors):
        assert "SIGKILL" in error and f"words {n}" in error, error
        path = error.split("last lines of ")[1].split(": |")[0]
        assert os.path.exists(path), f"output outlives the session: {path}"
        assert any(line.startswith("(die pid=") and line.endswith(f"words {n}") for line in done.stdout.splitlines()), (
            done
        )


def test_work_goes_on_where_its_output_finds_no_room_and_what_was_left_out_is_said(tmp_path):
    done = run(
        """
        aktis.init(num_cpus=1)
        @aktis.remote(max_calls=1)
        def full():
            import resource
            none, most = resource.getrlimit(resource.RLIMIT_FSIZE)
            print("before")
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))
            for _ in range(10_000):
                print("there is no room for this")
            resource.setrlimit(resource.RLIMIT_FSIZE, (none, most))
            print("after")
            return 1
        @aktis.remote(max_calls=1)
        def closed():
            os.close(1), os.close(2)
            print("nowhere"), print("nowhere", file=sys.stderr)
            return 2
        print(aktis.get([full.remote(), closed.remote()], timeout=60))
        aktis.shutdown()
        """,
        tmp_path,
    )
    assert "[1, 2]" in done.stdout
    assert "before" in done.stdout and "after" in done.stdout
    assert "were left out: File too large" in done.stdout


def test_dead_actor_is_explained_by_its_last_words(tmp_path):
    script = """
        aktis.init(num_cpus=1)
        @aktis.remote
        class Model:
            def crash(self):
                print("loading shard 7", file=sys.stderr)
                os._exit(3)
        model = Model.remote()
        try:
            aktis.get(model.crash.remote(), timeout=60)
        except aktis.exceptions.ActorDiedError as error:
            print("ERROR", str(error).replace(chr(10), " | "))
        aktis.shutdown()
    """
    done = run(script, tmp_path)
    (error,) = [line for line in done.stdout.splitlines() if line.startswith("ERROR")]
    assert "exited with code 3" in error and "loading shard 7" in error, error


def test_session_that_prints_nothing_leaves_nothing(tmp_path):
    script = """
        aktis.init(num_cpus=1)
        @aktis.remote
        def f(): return 1
        assert aktis.get(f.remote(), timeout=60) == 1
        aktis.shutdown()
    """
    run(script, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_flood_of_lines_holds_up_nothing_and_stays_small(tmp_path):
    script = """
        import resource
        aktis.init(num_cpus=2, log_to_driver=False)
        @aktis.remote
        def flood(): subprocess.run("yes | head -c 400000000", shell=True)
        @aktis.remote
        def quick(): return 1
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        flooding = flood.remote()
        while not aktis.wait([flooding], timeout=0)[0]:
            assert aktis.get(quick.remote(), timeout=60) == 1
            assert aktis.nodes()[0]["Alive"]
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print("GROWN", grown // 1024)
        aktis.shutdown()
    """
    done = run(script, tmp_path, AKTIS_LOG_FILE_BYTES="8MiB")
    assert int(done.stdout.split("GROWN")[1]) < 200, done
    assert sum(path.stat().st_size for path in kept_files(tmp_path)) < 32 << 20


def test_lines_of_an_actor_carry_its_name_also_on_a_used_worker(tmp_path):
    script = """
        aktis.init(num_cpus=1)
        @aktis.remote
        def preprocess(): print("from task")
        @aktis.remote
        class Model:
            def __init__(self, name): self.name = name; print("constructing")
            def __repr__(self): return f"Model({self.name})"
            def run(self): print("from actor")
        aktis.get(preprocess.remote(), timeout=60)
        aktis.get(Model.remote("m7").run.remote(), timeout=60)
        aktis.shutdown()
    """
    done = run(script, tmp_path)
    heads = {line.split(") ")[1]: line.split(" pid=")[0] for line in done.stdout.splitlines() if " pid=" in line}
    assert heads["from task"] == "(preprocess"
    assert heads["constructing"] == "(Model"
    head = next(line for line in done.stdout.splitlines() if line.endswith("from actor"))
    assert head.startswith("(Model(m7) pid="), head


def test_bar_is_shown_in_its_states_and_a_fragment_hides_no_mark(tmp_path):
    script = """
        aktis.init(num_cpus=1)
        STATE = os.environ["XDG_STATE_HOME"]
        class Noting:
            # Leaves a file for each state that the driver has shown.
            def __init__(self, stream): self.stream = stream
            def __getattr__(self, name): return getattr(self.stream, name)
            def write(self, text):
                for percent in (10, 20):
                    if f"{percent} %" in text: open(f"{STATE}/shown-{percent}", "w").close()
                return self.stream.write(text)
        sys.stderr = Noting(sys.stderr)
        @aktis.remote
        def bar():
            for percent in (10, 20):
                print(f"\\r{percent} %", end="", file=sys.stderr, flush=True)
                end = time.monotonic() + 60
                while not os.path.exists(f"{STATE}/shown-{percent}") and time.monotonic() < end: time.sleep(0.01)
            print(f"\\r100 %", file=sys.stderr)
        @aktis.remote
        def fragment(): subprocess.run(["printf", "fragment"])
        @aktis.remote
        def after(): print("after")
        aktis.get(bar.remote(), timeout=60)
        aktis.get(fragment.remote(), timeout=60)
        aktis.get(after.remote(), timeout=60)
        aktis.shutdown()
    """
    done = run(script, tmp_path)
    bars = [line.rsplit(") ", 1)[1] for line in done.stderr.splitlines() if line.startswith("(bar")]
    assert bars == ["10 %", "20 %", "100 %"], done
    lines = [line for line in done.stdout.splitlines() if " pid=" in line]
    assert any(line.endswith(") fragment") for line in lines), done
    assert any(line.startswith("(after") and line.endswith(") after") for line in lines), done


def test_session_starts_in_a_folder_that_is_deleted(tmp_path):
    script = """
        import pathlib
        folder = pathlib.Path(os.environ["GONE"])
        folder.mkdir()
        os.chdir(folder)
        folder.rmdir()
        aktis.init(num_cpus=1)
        @aktis.remote
        def f(): return 1
        assert aktis.get(f.remote(), timeout=60) == 1
        aktis.shutdown()
    """
    run(script, tmp_path, GONE=str(tmp_path / "gone"))


@pytest.mark.parametrize("way", ["kill", "crash", "drop"])
def test_process_in_a_session_of_its_own_ends_with_its_worker(session, way):
    import time

    import aktis

    @aktis.remote
    class Starter:
        def detach(self):
            child = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, start_new_session=True)
            return child.pid

        def crash(self):
            os._exit(1)

    actor = Starter.remote()
    pid = aktis.get(actor.detach.remote(), timeout=60)
    if way == "kill":
        aktis.kill(actor)
    elif way == "crash":
        actor.crash.remote()
    else:
        del actor
    deadline = time.monotonic() + 60
    while is_alive(pid):
        assert time.monotonic() < deadline, f"{pid} outlived its worker"
        time.sleep(0.05)


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_actor_whose_log_cannot_be_made_is_named_and_the_others_live(tmp_path):
    script = """
        import pathlib, shutil
        aktis.init(num_cpus=4)
        @aktis.remote
        class A:
            def pid(self): return os.getpid()
        living = [A.remote() for _ in range(3)]
        pids = aktis.get([a.pid.remote() for a in living], timeout=60)
        (folder,) = pathlib.Path(os.environ["XDG_STATE_HOME"]).glob("aktis/logs/*/n*")
        time.sleep(2)
        shutil.rmtree(folder)
        failed = []
        for _ in range(8):
            actor = A.options(num_cpus=0).remote()
            try:
                aktis.get(actor.pid.remote(), timeout=60)
                living.append(actor)
            except aktis.exceptions.AktisError as error:
                failed.append(str(error))
                break
        assert failed and "cannot open" in failed[0] and str(folder) in failed[0], failed
        assert aktis.get([a.pid.remote() for a in living[:3]], timeout=60) == pids
        aktis.shutdown()
    """
    run(script, tmp_path)


def test_a_worker_that_hangs_says_where_when_it_is_asked(tmp_path):
    script = """
        import pathlib
        aktis.init(num_cpus=1)
        STATE = pathlib.Path(os.environ["XDG_STATE_HOME"])
        @aktis.remote
        class Slow:
            def pid(self):
                return os.getpid()
            def hang_here(self):
                while not (STATE / "go-on").exists():
                    time.sleep(0.05)
                return "went on"
        slow = Slow.remote()
        pid = aktis.get(slow.pid.remote())
        waits = slow.hang_here.remote()
        deadline = time.monotonic() + 60
        has_said = lambda: any("in hang_here" in path.read_text() for path in STATE.rglob("worker-*") if path.is_file())
        while not has_said() and time.monotonic() < deadline:
            os.kill(pid, signal.SIGUSR1)
            time.sleep(0.2)
        (STATE / "go-on").touch()
        sys.stdout.write(aktis.get(waits, timeout=60) + chr(10))
        aktis.shutdown()
    """
    done = run(script, tmp_path)
    assert "went on" in done.stdout
    assert "in hang_here" in done.stderr and "(Slow pid=" in done.stderr
