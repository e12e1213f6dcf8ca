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
