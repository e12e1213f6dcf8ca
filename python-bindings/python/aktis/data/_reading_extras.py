"""Where datasets begin in files of more formats, some of which need a package of their own.

A package that is missing is named with the command that installs it; nothing else here needs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ._chosen_files import Files
from ._packages import needs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal, Unpack

    from ._chosen_files import FileShuffleConfig
    from ._partitioning import Partitioning
    from ._typed import ReadHints
    from .dataset import Dataset

    Paths = str | os.PathLike[str] | list[str | os.PathLike[str]]

_ARROW_EXTENSIONS: Any = ("arrow", "arrows", "feather", "ipc")
_AVRO_EXTENSIONS: Any = ("avro",)
_MCAP_EXTENSIONS: Any = ("mcap",)
_TFRECORD_EXTENSIONS: Any = ("tfrecords", "tfrecords.gz", "tfrecord", "tfrecord.gz")
_AUDIO_EXTENSIONS: Any = ("mp3", "wav", "flac", "ogg", "opus", "aiff", "au", "caf", "rf64", "w64")
_VIDEO_EXTENSIONS: Any = (
    "mp4", "mkv", "mov", "avi", "wmv", "flv", "webm", "m4v", "3gp", "mpeg", "mpg",
)  # fmt: skip


def read_arrow(
    paths: Paths,
    *,
    file_extensions: list[str] | None = _ARROW_EXTENSIONS,
    partitioning: Literal["hive"] | Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: Literal["files"] | FileShuffleConfig | None = None,
    partition_filter: Callable[[list[str]], Iterable[str]] | None = None,
    arrow_open_stream_args: Mapping[str, Any] | None = None,
    **hints: Unpack[ReadHints],
) -> Dataset:
    """The rows of files and streams of Arrow's IPC format; Feather files (version 2) are such files.

    Args:
        paths: As for :func:`read_csv`, and so are the arguments that are not named here.
        file_extensions: Endings of the files of a folder that are read; ``None``: all files.
        partitioning: As for :func:`read_csv`.
        include_paths: As for :func:`read_csv`.
        ignore_missing_paths: As for :func:`read_csv`.
        shuffle: As for :func:`read_csv`.
        partition_filter: As for :func:`read_csv`.
        arrow_open_stream_args: As for :func:`read_csv`.
        hints: As for :func:`read_csv`.

    Returns:
        A dataset with the columns of the files.

    Raises:
        FileNotFoundError: as for :func:`read_csv`.
        ValueError: as for :func:`read_csv`; a file is cut off, or of another format.

    Example:
        >>> import os, pyarrow, tempfile
        >>> from pyarrow import feather
        >>> path = os.path.join(tempfile.mkdtemp(), "a.feather")
        >>> feather.write_feather(pyarrow.table({"id": [1, 2]}), path)
        >>> read_arrow(path).take_all()
        [{'id': 1}, {'id': 2}]
    """
    from ._formats.arrow import Arrow

    files = Files(
        paths, file_extensions, partitioning, include_paths, ignore_missing_paths, shuffle, partition_filter,
        arrow_open_stream_args, hints,
    )  # fmt: skip
    return files.dataset(Arrow())


def read_avro(
    paths: Paths,
    *,
    file_extensions: list[str] | None = _AVRO_EXTENSIONS,
    partitioning: Literal["hive"] | Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: Literal["files"] | FileShuffleConfig | None = None,
    partition_filter: Callable[[list[str]], Iterable[str]] | None = None,
    arrow_open_stream_args: Mapping[str, Any] | None = None,
    **hints: Unpack[ReadHints],
) -> Dataset:
    """The records of Avro files. Needs fastavro.

    Args:
        paths: As for :func:`read_csv`, and so are the arguments that are not named here.
        file_extensions: Endings of the files of a folder that are read; ``None``: all files.
        partitioning: As for :func:`read_csv`.
        include_paths: As for :func:`read_csv`.
        ignore_missing_paths: As for :func:`read_csv`.
        shuffle: As for :func:`read_csv`.
        partition_filter: As for :func:`read_csv`.
        arrow_open_stream_args: As for :func:`read_csv`.
        hints: As for :func:`read_csv`.

    Returns:
        A dataset with the fields of the records as columns.

    Raises:
        ImportError: fastavro is not installed.
        FileNotFoundError: as for :func:`read_csv`.

    Example:
        >>> read_avro("logs/").take(1)  # doctest: +SKIP
        [{'at': 1, 'text': 'started'}]
    """
    needs("read_avro", "fastavro", "fastavro")
    from ._formats.avro import Avro

    files = Files(
        paths, file_extensions, partitioning, include_paths, ignore_missing_paths, shuffle, partition_filter,
        arrow_open_stream_args, hints,
    )  # fmt: skip
    return files.dataset(Avro())


def read_mcap(
    paths: Paths,
    *,
    topics: Iterable[str] | None = None,
    time_range: Any = None,
    message_types: Iterable[str] | None = None,
    include_metadata: bool = True,
    file_extensions: list[str] | None = _MCAP_EXTENSIONS,
    partitioning: Literal["hive"] | Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: Literal["files"] | FileShuffleConfig | None = None,
    partition_filter: Callable[[list[str]], Iterable[str]] | None = None,
    arrow_open_stream_args: Mapping[str, Any] | None = None,
    **hints: Unpack[ReadHints],
) -> Dataset:
    """The messages of MCAP files, in the order of their times. Needs mcap.

    Args:
        paths: As for :func:`read_csv`, and so are the arguments that are not named here.
        topics: Whose messages are read; ``None``: all.
        time_range: Two times of messages in nanoseconds, the first of which counts and the second does not.
        message_types: Names of schemas whose messages are read; ``None``: all.
        include_metadata: Adds ``channel_id``, ``message_encoding``, ``schema_name``, ``schema_encoding`` and ``schema_data``.
        file_extensions: Endings of the files of a folder that are read; ``None``: all files.
        partitioning: As for :func:`read_csv`.
        include_paths: As for :func:`read_csv`.
        ignore_missing_paths: As for :func:`read_csv`.
        shuffle: As for :func:`read_csv`.
        partition_filter: As for :func:`read_csv`.
        arrow_open_stream_args: As for :func:`read_csv`.
        hints: As for :func:`read_csv`.

    Returns:
        A dataset of ``data``, decoded where it is JSON and bytes elsewhere, ``topic``, ``log_time`` and ``publish_time`` in nanoseconds, and
        ``sequence``. Messages of several kinds have no type in common: choose topics.

    Raises:
        ImportError: mcap is not installed.
        FileNotFoundError: as for :func:`read_csv`.
        ValueError: as for :func:`read_csv`; the times make no sense.

    Example:
        >>> read_mcap("drives/", topics=["/imu"], include_metadata=False).columns()  # doctest: +SKIP
        ['data', 'topic', 'log_time', 'publish_time', 'sequence']
    """
    needs("read_mcap", "mcap.reader", "mcap")
    from ._formats.mcap import MCAP

    times: Any = None
    if time_range is not None:
        times = (
            tuple(getattr(time_range, name) for name in ("start_time", "end_time"))
            if hasattr(time_range, "start_time")
            else tuple(time_range)
        )
        if len(times) != 2 or not 0 <= times[0] < times[1]:
            raise ValueError(
                f"read_mcap(time_range={time_range!r}): it is two times in nanoseconds, the earlier one first"
            )
    for name, names in (("topics", topics), ("message_types", message_types)):
        if isinstance(names, str):
            raise TypeError(f"read_mcap({name}=...) takes a list of names: give [{names!r}]")
    format = MCAP(
        None if topics is None else frozenset(topics), times, None if message_types is None else frozenset(message_types),
        has_metadata=include_metadata,
    )  # fmt: skip

    files = Files(
        paths, file_extensions, partitioning, include_paths, ignore_missing_paths, shuffle, partition_filter,
        arrow_open_stream_args, hints,
    )  # fmt: skip
    return files.dataset(format)


def read_tfrecords(
    paths: Paths,
    *,
    file_extensions: list[str] | None = _TFRECORD_EXTENSIONS,
    partitioning: Literal["hive"] | Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: Literal["files"] | FileShuffleConfig | None = None,
    partition_filter: Callable[[list[str]], Iterable[str]] | None = None,
    arrow_open_stream_args: Mapping[str, Any] | None = None,
    **hints: Unpack[ReadHints],
) -> Dataset:
    """The records of TFRecord files of ``tf.train.Example``. Needs no TensorFlow.

    Args:
        paths: As for :func:`read_csv`, and so are the arguments that are not named here.
        file_extensions: Endings of the files of a folder that are read; ``None``: all files.
        partitioning: As for :func:`read_csv`.
        include_paths: As for :func:`read_csv`.
        ignore_missing_paths: As for :func:`read_csv`.
        shuffle: As for :func:`read_csv`.
        partition_filter: As for :func:`read_csv`.
        arrow_open_stream_args: As for :func:`read_csv`.
        hints: As for :func:`read_csv`.

    Returns:
        A dataset with a column per feature: of values where no record of a file has several, else of lists.

    Raises:
        FileNotFoundError: as for :func:`read_csv`.
        ValueError: as for :func:`read_csv`; a file is cut off, or holds other messages.

    Example:
        >>> read_tfrecords("records/").schema().names  # doctest: +SKIP
        ['image', 'label']
    """
    from ._formats.tfrecords import TFRecords

    files = Files(
        paths, file_extensions, partitioning, include_paths, ignore_missing_paths, shuffle, partition_filter,
        arrow_open_stream_args, hints,
    )  # fmt: skip
    return files.dataset(TFRecords())


def read_audio(
    paths: Paths,
    *,
    file_extensions: list[str] | None = _AUDIO_EXTENSIONS,
    partitioning: Literal["hive"] | Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: Literal["files"] | FileShuffleConfig | None = None,
    partition_filter: Callable[[list[str]], Iterable[str]] | None = None,
    **hints: Unpack[ReadHints],
) -> Dataset:
    """The samples of sound files in the column ``amplitude``, arrays of channels and times, and their ``sample_rate``. Needs
    soundfile.

    Args:
        paths: As for :func:`read_csv`, and so are the arguments that are not named here.
        file_extensions: Endings of the files of a folder that are read; ``None``: all files.
        partitioning: As for :func:`read_csv`.
        include_paths: As for :func:`read_csv`.
        ignore_missing_paths: As for :func:`read_csv`.
        shuffle: As for :func:`read_csv`.
        partition_filter: As for :func:`read_csv`.
        hints: As for :func:`read_csv`.

    Returns:
        A dataset with a row per file.

    Raises:
        ImportError: soundfile is not installed.
        FileNotFoundError: as for :func:`read_csv`.

    Example:
        >>> read_audio("speech/").schema().names  # doctest: +SKIP
        ['amplitude', 'sample_rate']
    """
    needs("read_audio", "soundfile", "soundfile")
    from ._formats.audio import Audio

    files = Files(
        paths, file_extensions, partitioning, include_paths, ignore_missing_paths, shuffle, partition_filter, {}, hints
    )  # fmt: skip
    return files.dataset(Audio())


def read_videos(
    paths: Paths,
    *,
    include_timestamps: bool = False,
    file_extensions: list[str] | None = _VIDEO_EXTENSIONS,
    partitioning: Literal["hive"] | Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: Literal["files"] | FileShuffleConfig | None = None,
    partition_filter: Callable[[list[str]], Iterable[str]] | None = None,
    **hints: Unpack[ReadHints],
) -> Dataset:
    """The frames of films in the column ``frame``, arrays of height, width and three colours, numbered by ``frame_index``. Needs
    PyAV.

    Args:
        paths: As for :func:`read_csv`, and so are the arguments that are not named here.
        include_timestamps: Adds ``frame_timestamp``, in seconds.
        file_extensions: Endings of the files of a folder that are read; ``None``: all files.
        partitioning: As for :func:`read_csv`.
        include_paths: As for :func:`read_csv`.
        ignore_missing_paths: As for :func:`read_csv`.
        shuffle: As for :func:`read_csv`.
        partition_filter: As for :func:`read_csv`.
        hints: As for :func:`read_csv`.

    Returns:
        A dataset with a row per frame.

    Raises:
        ImportError: PyAV is not installed.
        FileNotFoundError: as for :func:`read_csv`.

    Example:
        >>> read_videos("films/").schema().names  # doctest: +SKIP
        ['frame', 'frame_index']
    """
    needs("read_videos", "av", "av")
    from ._formats.videos import Videos

    files = Files(
        paths, file_extensions, partitioning, include_paths, ignore_missing_paths, shuffle, partition_filter, {}, hints
    )  # fmt: skip
    return files.dataset(Videos(has_timestamps=include_timestamps))
