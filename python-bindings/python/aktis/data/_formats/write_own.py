"""Files as a sink of the user's writes them, see :mod:`aktis.data.datasource`."""

from __future__ import annotations

import errno
import sys
import time
from typing import Any

import pyarrow
from pyarrow import fs

from aktis.data import _batches
from aktis.data._retrying import pause_after
from aktis.data.block import BlockAccessor

from .writing import FileSink

#: How often a file is written, as files are read: a folder may be a mount, and its server busy for a moment.
TRIES = 4
#: The longest pause before the second try; it doubles with each one.
FIRST_PAUSE_S = 0.1
#: What the system says where another try may do.
_MAY_PASS = frozenset({
    errno.EINTR, errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ENETDOWN, errno.ENETUNREACH, errno.ECONNRESET, errno.ETIMEDOUT,
    errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ESTALE,
})  # fmt: skip


class OwnSink(FileSink):
    """A file for each row, or for many."""

    function = "write_datasink"

    def __init__(self, datasink: Any) -> None:
        self._datasink = datasink

    def extension(self) -> str:
        return self._datasink.file_format or ""

    def is_row_a_file(self) -> bool:
        return bool(self._datasink.is_row_a_file)

    def open(self, path: str, schema: pyarrow.Schema) -> Any:
        return _File(path, self._datasink)


class _File:
    """All rows are at hand before the file is written."""

    def __init__(self, path: str, datasink: Any) -> None:
        self._path = path
        self._datasink = datasink
        self._batches: list[pyarrow.RecordBatch] = []

    def write(self, batch: pyarrow.RecordBatch) -> None:
        self._batches.append(batch)

    def close(self) -> None:
        table = pyarrow.Table.from_batches(self._batches)
        for number in range(1, TRIES + 1):
            try:
                return self._write(table)
            except OSError as error:
                if not may_pass(error) or number == TRIES:
                    raise self._named(error, number) from error
                pause = pause_after(number, FIRST_PAUSE_S)
                print(
                    f"write_datasink(): {self._path}: {error!s:.200}; written again in {pause:.1f} s", file=sys.stderr
                )
                time.sleep(pause)
        raise AssertionError("the last try has returned or raised")

    def abandon(self) -> None:
        """Nothing is open, and nobody wants the rows any more."""

    def _write(self, table: pyarrow.Table) -> None:
        """Writes the whole file, also over one that a failed try has left."""
        with fs.LocalFileSystem().open_output_stream(self._path, **self._datasink.open_stream_args) as file:
            if self._datasink.is_row_a_file:
                self._datasink.write_row_to_file(_batches.rows_of(_batches._one_batch(table))[0], file)
            else:
                self._datasink.write_block_to_file(BlockAccessor.for_block(table), file)

    def _named(self, error: OSError, tries: int) -> OSError:
        """The error with the file in it, and how often it was written."""
        again = f" (tried {tries} times)" if tries > 1 else ""
        said = f"write_datasink(): write {self._path}: {error.strerror or error}{again}"
        return OSError(error.errno, said) if error.errno is not None else type(error)(said)


def may_pass(error: OSError) -> bool:
    """Whether another try may do: a connection or a server that was away, and not a full disk or a missing right.

    >>> may_pass(OSError(errno.EIO, "input/output error")), may_pass(OSError(errno.ENOSPC, "no space left"))
    (True, False)
    >>> may_pass(ConnectionResetError("gone")), may_pass(FileNotFoundError("no such file"))
    (True, False)
    """
    return error.errno in _MAY_PASS or isinstance(error, (ConnectionError, TimeoutError))
