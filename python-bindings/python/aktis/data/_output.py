"""A job that writes files into a folder: whether it goes on with one that was left unfinished, and its run."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Literal

from . import _dead_letters, _folders, _going_on, _together
from ._formats.naming import Names, Style, namer
from ._save_mode import mode_in_words
from ._stores.writing import Far, NamingStore, far_folder, is_wanted, warn_of, workplace

#: What ``resume`` may be.
Resume = Literal["auto"] | bool


class Output:
    """What the methods that write say of their files, and where these go."""

    def __init__(
        self, function: str, path: Any, mode: Any, *, try_create_dir: bool, resume: Any, filename_provider: Any, style: Style,
        filesystem: Any = None, dead_letters: Any = None,
    ) -> None:  # fmt: skip
        if resume not in ("auto", True, False):
            raise ValueError(f"{function}(resume={resume!r}): it is 'auto', True or False")
        self._function = function
        self._path = path
        self._mode = mode
        self._try_create_dir = try_create_dir
        self._resume = resume
        self._provider = filename_provider
        self._style: Style = style
        self._filesystem = filesystem
        self._dead_letters = dead_letters

    def write(self, plan: Any, sink: dict[str, Any], keep: Callable[[Any], None], written_as: Any = None) -> None:
        """Runs the plan into the sink, or with others at the end of a block that it is in (:func:`aktis.data.run_together`).

        Args:
            keep: is given the execution as soon as there is one.
            written_as: what of the sink's settings only Python understands.
        """
        _together.write(lambda places: self._prepared(plan, sink, keep, written_as, places))

    def _prepared(
        self,
        plan: Any,
        sink: dict[str, Any],
        keep: Callable[[Any], None],
        written_as: Any,
        places: contextlib.ExitStack,
    ) -> _together.Write | None:
        sink = {
            **sink,
            "folder": "",
            "prefix": "",
            "mode": "append",
            "names": None,
            "identity": None,
            "takes_up": False,
            "together": None,
            "keeps_all": False,
        }
        if not isinstance(self._path, (str, os.PathLike)):
            raise TypeError(f"{self._function}() takes the path of a folder, not {type(self._path).__name__}")
        far = far_folder(self._function, self._path, self._filesystem)
        if far is not None:
            return self._far(plan, sink, keep, far, places)
        self._namer(uuid.uuid4().hex, adds_files=True)
        folder = _going_on.Folder(
            self._function, self._path, self._mode, self._resume, self._try_create_dir, written_as, self._namer
        )
        if not folder.look(is_alone=_together.current() is None):
            return None
        sink |= {"folder": folder.path, "mode": folder.mode}
        path, place = os.fspath(self._path), _folders.place_of(folder.path)
        letters = _folders.for_letters(self._function, self._dead_letters)
        called = f"{self._function}({path!r})"
        _folders.check_letters(called, letters, called, place, replaces=folder.mode == "overwrite")

        @contextlib.contextmanager
        def as_meant() -> Iterator[None]:
            try:
                yield
            except BaseException as error:
                if _going_on.is_kept(sink):
                    error.add_note(
                        f"{self._function}(): what is done so far is kept, hidden in {sink['folder']}: the same job goes on with it, and "
                        "resume=False begins anew"
                    )
                raise

        return _together.Write(self._function, path, place, plan, sink, letters, keep, as_meant, folder=folder)

    def _namer(self, prefix: str, *, adds_files: bool) -> Names | None:
        return namer(self._function, self._provider, prefix, self._style, adds_files=adds_files)

    def _far(
        self, plan: Any, sink: dict[str, Any], keep: Callable[[Any], None], far: Far, places: contextlib.ExitStack
    ) -> _together.Write | None:
        """Into a folder of a store."""
        _going_on.say_why_not(self._function, self._resume, "its folder is not local")
        if self._dead_letters is not None:
            raise NotImplementedError(
                f"{self._function}(dead_letters=...) is not there yet for folders that are not local: without it dead rows go into "
                f"{far.name}/{_dead_letters.FOLDER}, with the files"
            )
        wanted = mode_in_words(self._mode)
        if not self._try_create_dir and not far.there:
            raise FileNotFoundError(f"{self._function}({far.name!r}, try_create_dir=False): there is no such folder")
        if not is_wanted(self._function, far, wanted):
            return None
        warn_of(self._function, far, is_said=self._mode is not _folders.APPEND)
        folder = places.enter_context(workplace())
        prefix, replaces, store = uuid.uuid4().hex[:12], wanted == "overwrite", far.store
        names = namer(self._function, self._provider, prefix, self._style, adds_files=not replaces)
        if names is not None:
            store = NamingStore(store, self._function, prefix, names)
        place = (store.dumped(self._function), far.name, replaces, True)
        sink |= {"folder": folder, "prefix": prefix, "far": place}

        @contextlib.contextmanager
        def as_meant() -> Iterator[None]:
            try:
                yield
            except OSError as error:
                if names is not None and error.errno == errno.EINVAL:
                    # What a provider of names got wrong is no matter of the store's.
                    raise ValueError(error.strerror) from None
                raise

        return _together.Write(self._function, os.fspath(self._path), far.name, plan, sink, None, keep, as_meant)
