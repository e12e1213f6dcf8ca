"""Faults as processes meet them: which call, chosen by a seed; and what has been done so far, in files that all processes see.

```text
 <session>/chaos.json     the plan: seed, how many, how often; where the files are
 <folder>/calls           a byte for each call of a function: its length is the number of the call
 <folder>/kill-<i>        that a process has taken the i-th death upon itself
 <folder>/died-<key>      that a process has died over this work, which is then left alone
 <folder>/events          what was done, a line each
```
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

#: The plan, in the folder of the session.
FILE = "chaos.json"
#: A call that is slowed takes at most so much longer.
LONGEST_S = 0.2
#: The most failures of one request in a row: fewer than a request is tried.
_MOST_ERRORS = 2
#: Deaths come one to so many calls apart, where it is not known how many calls there will be.
_WIDEST_GAP = 3


class Faults:
    """The faults of one ``chaos()``."""

    def __init__(self, plan: dict[str, Any]):
        self.plan = plan
        self._seed: int = plan["seed"]
        self._folder: str = plan["folder"]
        self._deaths = deaths_of(plan)
        self._failed: dict[str, int] = {}
        self._asked: dict[str, int] = {}

    def number_of_call(self) -> int:
        """Counts a call of a function, over all processes: the first one is 1."""
        file = os.open(self._path("calls"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, b".")
            # Where this very byte ends.
            return os.lseek(file, 0, os.SEEK_CUR)
        finally:
            os.close(file)

    def death_for(self, number: int, name: str, key: Callable[[], str]) -> str | None:
        """Whether this call is to be the end of its process: ``"before"`` it or ``"after"`` it; ``None``: not."""
        due = [index for index, (after, _) in enumerate(self._deaths) if after <= number]
        index = next((index for index in due if not os.path.exists(self._path(f"kill-{index}"))), None)
        if index is None:
            return None
        told = hashlib.blake2b(f"{name} {key()}".encode(), digest_size=12).hexdigest()
        if not self._claim(f"died-{told}") or not self._claim(f"kill-{index}"):
            return None
        self.tell("kill", name, f"call {number}, {self._deaths[index][1]} it")
        return self._deaths[index][1]

    @staticmethod
    def die() -> None:
        """Ends this process as the kernel does when memory is short."""
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)  # the signal is on its way

    def slow_down(self, name: str, number: int) -> None:
        """Waits, if it is this call's turn."""
        if self._share("slow", name, number) < self.plan["slow"]:
            seconds = LONGEST_S * self._share("how long", name, number)
            self.tell("slow", name, f"call {number}, {seconds:.3f} s")
            time.sleep(seconds)

    def request(self, call: Callable[[], Any], doing: str) -> Callable[[], Any]:
        """A request to a store that may fail, before the store has heard of it or after it has answered."""

        def faulty() -> Any:
            number = self._asked[doing] = self._asked.get(doing, 0) + 1
            fails = self._share("error", doing, number) < self.plan["errors"]
            if not fails or self._failed.get(doing, 0) >= _MOST_ERRORS:
                self._failed[doing] = 0
                return call()
            self._failed[doing] = self._failed.get(doing, 0) + 1
            is_late = self._share("reply", doing, number) < 0.5
            self.tell("error", doing, "its answer was lost" if is_late else "not sent")
            if is_late:
                call()
            raise ConnectionResetError(f"connection reset by aktis.testing.chaos(seed={self._seed})")

        return faulty

    def tell(self, kind: str, name: str, what: str) -> None:
        """Notes what is done, before it is done."""
        line = json.dumps({"kind": kind, "name": name, "what": what, "pid": os.getpid()}) + "\n"
        file = os.open(self._path("events"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def _claim(self, name: str) -> bool:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._path(name), os.O_CREAT | os.O_EXCL, 0o600))
            return True
        return False

    def _share(self, *about: Any) -> float:
        """A number from 0 to 1 that the seed says."""
        return random.Random(repr((self._seed, *about))).random()

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)


def deaths_of(plan: dict[str, Any]) -> list[tuple[int, str]]:
    """After how many calls processes die, and whether before or after the work of the call.

    >>> deaths_of({"seed": 3, "kill_workers": 2, "calls": 100}) == deaths_of({"seed": 3, "kill_workers": 2, "calls": 100})
    True
    >>> [after <= 6 for after, _ in deaths_of({"seed": 3, "kill_workers": 2, "calls": None})]
    [True, True]
    """
    chance = random.Random(repr((plan["seed"], "deaths")))
    many, calls = plan["kill_workers"], plan["calls"]
    if calls is None:
        numbers = [0]
        for _ in range(many):
            numbers.append(numbers[-1] + chance.randint(1, _WIDEST_GAP))
        numbers = numbers[1:]
    else:
        numbers = sorted(chance.randint(1, max(1, calls)) for _ in range(many))
    return [(number, chance.choice(("before", "after"))) for number in numbers]


def of_session(session_dir: str) -> Faults | None:
    """The faults that are to be met in this session now."""
    try:
        with open(os.path.join(session_dir, FILE)) as file:
            return Faults(json.load(file))
    except (FileNotFoundError, ValueError):  # over, or just being written
        return None
