"""What means something else than in Ray, on purpose: the rows of docs/differences.md that a name stands for."""

from __future__ import annotations

_OWN_FILES = (
    "files become visible together, when the job is whole; a class with write(), open_output_stream() or on_write_...() of its \
own is refused: they would not be called"
)
#: By the name as it is here; methods by their class.
DIFFERENT = {
    "aktis.cancel": "a task that sleeps, or waits in native code, is interrupted at once, not at its end",
    "aktis.shutdown": "in a task or actor it is a RuntimeError: the session is the driver's",
    "aktis.wait": "ready means made, not fetched: get() brings it here",
    "aktis.data.llm.HttpRequestProcessorConfig": "requests are sent side by side, and five times again where that may help, unless \
max_retries says otherwise; qps is shared by all workers",
    "aktis.data.llm.vLLMEngineProcessorConfig": "rows that fail are dead letters with should_continue_on_error; the GPUs of an engine are \
on one node",
    "aktis.data.read_csv": "large files are read in parts, by several workers; a type that changes is widened or an error",
    "aktis.data.read_json": "large files of lines are read in parts, by several workers; a type that changes is widened or an error",
    "aktis.data.BlockBasedFileDatasink": _OWN_FILES,
    "aktis.data.RowBasedFileDatasink": _OWN_FILES,
    "aktis.data.datasource.BlockBasedFileDatasink": _OWN_FILES,
    "aktis.data.datasource.RowBasedFileDatasink": _OWN_FILES,
    "Dataset.drop_columns": "without any column left the rows stay: count() is right, and writing them is refused",
    "Dataset.write_json": "dates are ISO 8601, floats have all their digits, NaN is null",
}

_WRITES = (
    "files become visible together, when the job is whole; mode='overwrite' swaps at the end; files that were there are named in "
    "a warning unless mode='append' is given"
)
#: Writers of files, which share a difference.
WRITERS = frozenset(
    {"write_arrow", "write_csv", "write_images", "write_json", "write_numpy", "write_orc", "write_parquet"}
)


def difference_of(name: str) -> str | None:
    """What is different about a name, if anything is.

    >>> difference_of("Dataset.count") is None
    True
    >>> difference_of("Dataset.write_parquet").partition(";")[0]
    'files become visible together, when the job is whole'
    """
    told = [DIFFERENT[name]] if name in DIFFERENT else []
    owner, _, method = name.rpartition(".")
    if method in WRITERS and owner == "Dataset":
        told.append(_WRITES)
    return "; ".join(told) or None
