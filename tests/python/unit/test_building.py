"""The scripts around the build: what is missing, how far it is, what it may cost."""

import importlib.util
import pathlib
import shutil
import sys
import tomllib

import pytest

SCRIPTS = pathlib.Path(__file__).resolve().parents[3] / "xtask" / "build"


def script(name):
    spec = importlib.util.spec_from_file_location(f"xtask_build_{name}", SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)  # pyright: ignore[reportArgumentType]
    spec.loader.exec_module(module)
    return module


progress, preflight, budget = script("progress"), script("preflight"), script("budget")


class TestProgress:
    def test_share_counts_cost_and_not_crates(self):
        work = progress.Work({"small": 1.0, "large": 9.0}, prior_pace=1.0)
        work.finish("small", is_fresh=False)
        assert work.share() == pytest.approx(0.1)
        work.finish("large", is_fresh=False)
        assert work.share() == 1.0

    def test_what_was_there_before_is_no_work(self):
        work = progress.Work({"there": 90.0, "new": 10.0}, prior_pace=2.0)
        work.finish("there", is_fresh=True)
        assert work.share() == 0.0
        assert "about 5 s left" in work.line()

    def test_line_names_the_crate_that_takes_longest_and_the_time_left(self, monkeypatch):
        work = progress.Work({"quick": 1.0, "slow": 119.0}, prior_pace=2.0)
        monkeypatch.setattr(progress.time, "monotonic", lambda: work.started)
        work.start("slow")
        work.start("quick")
        work.finish("quick", is_fresh=False)
        assert work.line() == "Building Aktis: crate 2 of 2 (slow), 1%, about 60 s left"

    def test_pace_of_this_run_replaces_the_last_ones(self, monkeypatch):
        work = progress.Work({"a": 50.0, "b": 50.0}, prior_pace=1.0)
        work.finish("a", is_fresh=False)
        monkeypatch.setattr(progress.time, "monotonic", lambda: work.started + 10.0)
        assert work.pace == pytest.approx(5.0)
        assert "about 10 s left" in work.line()

    def test_crate_that_takes_long_counts_while_it_is_compiled(self, monkeypatch):
        work = progress.Work({"there": 80.0, "large": 100.0}, prior_pace=1.0)
        work.finish("there", is_fresh=True)
        work.start("large")
        for later, told in [(60.0, "60%, about 40 s left"), (500.0, "95%, about 26 s left")]:
            monkeypatch.setattr(progress.time, "monotonic", lambda later=later: work.started + later)
            assert told in work.line()

    def test_unknown_crates_and_repeated_news_change_nothing(self):
        work = progress.Work({"a": 1.0}, prior_pace=1.0)
        work.finish("stranger", is_fresh=False)
        work.finish("a", is_fresh=False)
        work.finish("a", is_fresh=False)
        assert (work.built_count, work.share()) == (1, 1.0)

    @pytest.mark.parametrize(
        ("package_id", "name"),
        [
            ("registry+https://example.org/index#serde@1.0.0", "serde"),
            ("path+file:///home/me/aktis/common#aktis-common@0.1.0", "aktis-common"),
            ("path+file:///home/me/aktis/xtask#0.1.0", "xtask"),
        ],
    )
    def test_names_of_packages(self, package_id, name):
        assert progress.package_name(package_id) == name

    def test_exit_status_and_errors_of_the_command_pass_through(self, capfd, monkeypatch, tmp_path):
        monkeypatch.setenv("CARGO_TARGET_DIR", str(tmp_path))
        monkeypatch.setattr(progress, "crates_of", lambda command: {"a": 1.0})
        program = (
            "import sys; print('   Compiling a v1'); print('error: no such thing', file=sys.stderr); sys.exit(101)"
        )
        assert progress.run([sys.executable, "-c", program]) == 101
        assert "error: no such thing" in capfd.readouterr().err

    def test_pace_is_kept_for_the_next_run(self, monkeypatch, tmp_path):
        monkeypatch.setenv("CARGO_TARGET_DIR", str(tmp_path))
        monkeypatch.setattr(progress, "crates_of", lambda command: {"a": 1.0})
        message = '{"reason": "compiler-artifact", "package_id": "x#a@1", "target": {"kind": ["lib"]}, "fresh": false}'
        assert progress.run([sys.executable, "-c", f"print({message!r})"]) == 0
        assert progress.last_pace(progress.pace_file([])) > 0
        (tmp_path / "aktis-build-pace.json").write_text("torn")
        assert progress.last_pace(progress.pace_file([])) > 0


class TestPreflight:
    def test_machine_that_runs_the_tests_has_everything(self, tmp_path):
        (tmp_path / "release").mkdir()
        assert preflight.missing(str(tmp_path)) == []

    def test_everything_that_is_missing_is_named_at_once(self, monkeypatch, tmp_path):
        monkeypatch.setattr(preflight.shutil, "which", lambda name: None)
        monkeypatch.setattr(preflight, "has_venv", lambda: False)
        monkeypatch.setattr(preflight, "free_bytes", lambda folder: 1 << 20)
        monkeypatch.setattr(preflight, "memory_bytes", lambda: 1 << 30)
        found = "\n".join(preflight.missing(str(tmp_path)))
        for part in ("rustup.rs", "apt-get install gcc", "python3-venv", "CARGO_TARGET_DIR=", "CARGO_BUILD_JOBS=1"):
            assert part in found

    def test_free_disk_of_a_folder_that_is_not_there_yet(self, tmp_path):
        assert preflight.free_bytes(str(tmp_path / "a" / "b")) == pytest.approx(
            shutil.disk_usage(tmp_path).free, rel=0.1
        )


BUDGET = {"crates": 1, "module_bytes": 100, "other_features": []}


class TestBudget:
    def test_within(self):
        crates = {"a v1": {"std"}}
        assert budget.complaints(BUDGET, 100, crates, crates) == []

    def test_one_crate_too_many(self):
        crates = {"a v1": {""}, "b v1": {""}}
        assert "2 crates, 1 more" in budget.complaints(BUDGET, 1, crates, crates)[0]

    def test_module_too_large_or_not_there(self):
        assert "budget is" in budget.complaints(BUDGET, 101, {}, {})[0]
        assert "make build" in budget.complaints(BUDGET, None, {}, {})[0]

    def test_crate_with_other_features_in_the_workspace(self):
        (found,) = budget.complaints(BUDGET, 1, {"a v1": {"std"}}, {"a v1": {"std,extra"}})
        assert "compiled twice" in found and "extra" in found

    def test_module_of_this_build_is_within_its_budget(self):
        # The same check as `make lint`, for who only runs the tests.
        limit = tomllib.loads((SCRIPTS / "budget.toml").read_text())["module_bytes"]
        assert budget.MODULE.stat().st_size <= limit


def test_tests_of_every_crate_that_they_share_are_compiled_alike():
    root = SCRIPTS.parents[1]
    members = tomllib.loads((root / "Cargo.toml").read_text())["workspace"]["members"]
    crates = {tomllib.loads((root / member / "Cargo.toml").read_text())["package"]["name"] for member in members}
    # These have commands of their own.
    apart = {"aktis-candle", "aktis-operator", "xtask"}
    profile = tomllib.loads((SCRIPTS / "tests.toml").read_text())["profile"]["release"]["package"]
    assert set(profile) == crates - apart
    assert len({str(sorted(settings.items())) for settings in profile.values()}) == 1
