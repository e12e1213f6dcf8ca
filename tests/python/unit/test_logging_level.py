"""The level that ``init`` gives the package's logger, before and after ``logging`` is imported."""

import logging
import subprocess
import sys

import pytest
from aktis._session.init_arguments import _LOGGING_LEVELS


def level_after(script):
    # Without `site`, whose environments may import logging; the package is found by the path of this process.
    path = f"import sys; sys.path[:] = {sys.path!r}\n"
    done = subprocess.run(
        [sys.executable, "-S", "-c", path + script], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("script", "level"),
    [
        ("keep(30); print('logging' in sys.modules, logger('aktis.data').getEffectiveLevel())", "False 30"),
        ("keep(30); import logging; logging.getLogger('aktis').setLevel(10); print(logger('aktis').level)", "10"),
        ("import logging; keep(30); print(logging.getLogger('aktis').level)", "30"),
        ("keep(30); logger('aktis'); keep(40); print(logger('aktis').level)", "40"),
    ],
)
def test_the_level_is_that_of_init_until_the_user_sets_another_one(script, level):
    assert level_after(f"from aktis._session.logging_level import keep, logger\n{script}") == level


def test_names_of_levels_are_those_of_logging():
    assert _LOGGING_LEVELS == logging.getLevelNamesMapping()
