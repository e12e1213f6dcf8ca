"""Whether a job that writes files goes on with one that was left unfinished: all of its outputs, or none."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from . import _folders, _identities, _native
from ._context import DataContext
from ._formats.naming import Names
from ._save_mode import mode_in_words

if TYPE_CHECKING:
    from ._together import Write


class Namer(Protocol):
    """Gives what names files, which have this prefix in common."""

    def __call__(self, prefix: str, *, adds_files: bool) -> Names | None: ...


class Folder:
    """A local folder that a write makes files in. What is there is looked at once: where the write stands, or, if what an unfinished job
    has left is there, when it is known what job this one is."""

    def __init__(
        self, function: str, path: Any, mode: Any, resume: Any, try_create_dir: bool, written_as: Any, namer: Namer
    ) -> None:  # fmt: skip
        self.function = function
        self._given = path
        self._mode = mode
        self.resume = resume
        self._try_create_dir = try_create_dir
        self.written_as = written_as
        self._namer = namer
        self.mode = mode_in_words(mode)
        #: Its absolute path, and whether an unfinished job has left something there.
        self.path, self._has_unfinished = _native.jobs().has_unfinished(os.fspath(path))
        self._found: _folders.Prepared | None = None
        self.is_looked_at = False

    def look(self, *, is_alone: bool) -> bool:
        """Where the write stands: whether there may be something to write."""
        if not is_alone and self.resume is not True and not self._has_unfinished:
            self.prepare(None, False)
        return self.is_wanted

    def prepare(self, traits: _identities.Traits | None, resume: Any) -> None:
        """Looks at what is there."""
        self.is_looked_at = True
        self._found = _folders.prepared(
            self.function, self._given, self._mode, try_create_dir=self._try_create_dir, identity=traits, resume=resume
        )

    @property
    def is_wanted(self) -> bool:
        """Whether there may be something to write, as far as it was looked at."""
        return not self.is_looked_at or self._found is not None

    @property
    def takes_up(self) -> str | None:
        """The prefix of the unfinished job that is gone on with."""
        return None if self._found is None else self._found.takes_up

    def begin(self, sink: dict[str, Any], prefix: str) -> None:
        """From here on it is known what the names of its files have in common."""
        names = self._namer(prefix, adds_files=self.mode != "overwrite")
        sink |= {"prefix": prefix, "names": names}

    def __str__(self) -> str:
        return f"{self.function}({os.fspath(self._given)!r}, resume={self.resume!r})"


def settled(writes: list[Write]) -> list[Write]:
    """Decides whether the job that has these outputs goes on with an unfinished one, which it says, and gives them what they need for
    that. Returns those that have something to write."""
    folders = [write.folder for write in writes if write.folder is not None]
    if not folders:
        return writes
    resume = _wanted(folders)
    traits, why = (None, "") if resume is False else _identity_of(writes)
    for folder in folders:
        say_why_not(folder.function, folder.resume, why)
    takes_up = _taken_up(folders, traits, resume)
    wanted = [write for write in writes if write.folder is None or write.folder.is_wanted]
    if len(wanted) < len(writes):
        # It is another job than it seemed.
        return settled(wanted)
    # All outputs of one that goes on have one.
    prefix = takes_up or uuid.uuid4().hex[:12]
    for place, write in enumerate(writes):
        if write.folder is not None:
            write.folder.begin(write.sink, uuid.uuid4().hex[:12] if traits is None else prefix)
            together = (place, [folder.path for folder in folders]) if traits is not None and len(writes) > 1 else None
            write.sink.update(
                {
                    "identity": traits,
                    "takes_up": takes_up is not None,
                    "together": together,
                    "keeps_all": _identities.keeps_all(),
                }
            )
    return writes


def _wanted(folders: Sequence[Folder]) -> Any:
    """What all of them together say of ``resume``."""
    decided = [folder for folder in folders if folder.resume != "auto"]
    for other in decided[1:]:
        if other.resume is not decided[0].resume:
            raise ValueError(
                f"run_together(): {decided[0]} and {other} are outputs of one job, which goes on in all of them or in none: say the same "
                "for both"
            )
    return decided[0].resume if decided else "auto"


def _taken_up(folders: Sequence[Folder], traits: _identities.Traits | None, resume: Any) -> str | None:
    """The prefix of the unfinished job that is gone on with, if there is one. What is done of it lies with the first output."""
    first, *others = folders
    if not first.is_looked_at:
        first.prepare(traits, resume)
    elif resume is True:
        raise ValueError(
            f"run_together(): resume=True: there is no unfinished job in {first.path}, where the first output goes; "
            'resume="auto" begins anew where there is nothing to go on with'
        )
    if first.takes_up is None:
        for other in others:
            if not other.is_looked_at:
                other.prepare(None, False)
    return first.takes_up


def _identity_of(writes: Sequence[Write]) -> tuple[_identities.Traits | None, str]:
    """What the job is; or ``None``, and why it is not gone on with."""
    for write in writes:
        if write.folder is None:
            return None, f"it runs together with {write}, which is no folder here"
    outputs = [_identities.Written(write.plan, write.sink, write.folder.written_as) for write in writes if write.folder]
    traits, why = _identities.identity_of(outputs)
    if traits is None:
        return None, why
    first, *others = (write.place for write in writes)
    for number, place in enumerate(others, 2):
        traits.append((f"the folder of output {number}", os.path.relpath(place, first)))
    return traits, ""


def is_kept(sink: dict[str, Any]) -> bool:
    """Whether what is done of the job is kept in the folder of the sink."""
    is_first = sink["together"] is None or sink["together"][0] == 0
    ledger = os.path.join(sink["folder"], "_aktis", f"{sink['prefix']}.ledger")
    return sink["identity"] is not None and is_first and os.path.exists(ledger)


def say_why_not(function: str, resume: Any, why: str) -> None:
    """Says that a job will not go on where it is left; raises if it must."""
    if not why:
        return
    if resume is True:
        raise ValueError(
            f'{function}(resume=True): this job cannot be taken up where it was left, because {why}; resume="auto" runs it '
            "as a whole"
        )
    if DataContext.get_current().checkpoint_config is not None:
        from aktis._messages.user_warning import warn

        warn(
            f"{function}(): DataContext.checkpoint_config is set, but this job will begin anew if it does not end, because {why}",
            UserWarning,
        )
