"""Where datasets begin in files that are not Parquet.

A format is a module of `_formats`, and a function here that says what of it users can choose.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._chosen_files import Files, FileShuffleConfig

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal, Unpack

    from pyarrow import csv as arrow_csv
    from pyarrow import json as arrow_json

    from ._partitioning import Partitioning
    from ._typed import ReadHints
    from .dataset import Dataset

    Paths = str | os.PathLike[str] | list[str | os.PathLike[str]]

_JSON_EXTENSIONS: Any = tuple(
    f"{name}{end}" for name in ("json", "jsonl") for end in ("", ".gz", ".br", ".zst", ".lz4", ".bz2", ".xz", ".snappy")
)
_NUMPY_EXTENSIONS: Any = ("npy",)
_ORC_EXTENSIONS: Any = ("orc",)
_TAR_EXTENSIONS: Any = ("tar", "tar.gz", "tgz", "tar.bz2", "tar.zst", "tar.xz")
_IMAGE_EXTENSIONS: Any = ("png", "jpg", "jpeg", "tif", "tiff", "bmp", "gif")


def read_csv(
    paths: Paths,
    *,
    read_options: arrow_csv.ReadOptions | None = None,
    parse_options: arrow_csv.ParseOptions | None = None,
    convert_options: arrow_csv.ConvertOptions | None = None,
    file_extensions: list[str] | None = None,
    partitioning: Literal["hive"] | Partitioning | None = "hive",
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: Literal["files"] | FileShuffleConfig | None = None,
    partition_filter: Callable[[list[str]], Iterable[str]] | None = None,
    arrow_open_stream_args: Mapping[str, Any] | None = None,
    **hints: Unpack[ReadHints],
) -> Dataset:
    """The rows of CSV files, also compressed ones (``.gz``, ``.zst``, ``.bz2``, ``.br``, ``.lz4``).

    The first line of a file names its columns. Their types are those of its first block (1 MiB, unless ``read_options`` say
    otherwise); a later value that does not fit is an error that names its line. Columns of several files go together by name,
    as those of :func:`read_parquet` do. Large files are read in parts, unless values have lines in them.

    Args:
        paths: A file, a folder (which is searched through), a pattern with ``*``, ``?`` or ``**``, or a list of these; here or
            elsewhere (``s3://``, ``gs://``, ``abfs://``, ``https://``, ...: see `docs/data/reading.md`).
        read_options: ``pyarrow.csv.ReadOptions``: names of columns, lines to skip, encoding, size of a block.
        parse_options: ``pyarrow.csv.ParseOptions``: delimiter, quotes; ``newlines_in_values=True`` reads each file as a whole.
        convert_options: ``pyarrow.csv.ConvertOptions``: types of columns, what null looks like, which columns to read.
        file_extensions: Endings of the files of a folder that are read; ``None``: all files.
        partitioning: ``"hive"``: folders like ``day=2024-01-01`` add a column of text; ``None``: they do not; a
            ``datasource.Partitioning`` says more.
        include_paths: Adds the column ``path``.
        ignore_missing_paths: Passes over paths that are not there, as long as there is another.
        shuffle: ``"files"``: reads the files in an order by chance; a ``FileShuffleConfig(seed=...)``: in the same one every time.
        partition_filter: Gets all paths and returns those that are read.
        arrow_open_stream_args: ``{"compression": "gzip"}`` for files whose names do not tell; ``None`` in it: they are not.
        hints: ``filesystem``: one of ``pyarrow.fs`` or fsspec that the paths lie in. ``override_num_blocks``: how many parts to
            read in. Other arguments of Ray are refused by name.

    Returns:
        A dataset, of which nothing was read but the names of files and the beginnings of large ones.

    Raises:
        FileNotFoundError: there is no such file, or no file in the folder.
        ValueError: an argument makes no sense. A line that is broken is an error of the run, as for :meth:`Dataset.take`.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "a.csv")
        >>> _ = open(path, "w").write("id,word\\n1,one\\n2,two\\n")
        >>> read_csv(path).take_all()
        [{'id': 1, 'word': 'one'}, {'id': 2, 'word': 'two'}]
    """
    from ._formats.csv import CSV

    files = Files(
        paths, file_extensions, partitioning, include_paths, ignore_missing_paths, shuffle, partition_filter,
        arrow_open_stream_args, hints,
    )  # fmt: skip
    return files.dataset(CSV(read_options, parse_options, convert_options))


def read_json(
    paths: Paths,
    *,
    lines: bool = False,
    read_options: arrow_json.ReadOptions | None = None,
    parse_options: arrow_json.ParseOptions | None = None,
    file_extensions: list[str] | None = _JSON_EXTENSIONS,
    partitioning: Literal["hive"] | Partitioning | None = "hive",
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: Literal["files"] | FileShuffleConfig | None = None,
    partition_filter: Callable[[list[str]], Iterable[str]] | None = None,
    arrow_open_stream_args: Mapping[str, Any] | None = None,
    **hints: Unpack[ReadHints],
) -> Dataset:
    """The rows of JSON files: an object per line, a list of objects, or objects over several lines; also compressed.

    Files of lines are read in blocks, and large ones in parts; other files as a whole.

    Args:
        paths: As for :func:`read_csv`, and so are the arguments that are not named here.
        lines: There is an object in every line; nothing else is tried.
        read_options: ``pyarrow.json.ReadOptions``: the size of a block.
        parse_options: ``pyarrow.json.ParseOptions``: types of columns, as ``explicit_schema``.
        file_extensions: Endings of the files of a folder that are read; ``None``: all files.
        partitioning: As for :func:`read_csv`.
        include_paths: As for :func:`read_csv`.
        ignore_missing_paths: As for :func:`read_csv`.
        shuffle: As for :func:`read_csv`.
        partition_filter: As for :func:`read_csv`.
        arrow_open_stream_args: As for :func:`read_csv`.
        hints: As for :func:`read_csv`.

    Returns:
        A dataset.

    Raises:
        FileNotFoundError: as for :func:`read_csv`.
        ValueError: as for :func:`read_csv`.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "a.jsonl")
        >>> _ = open(path, "w").write('{"id": 1, "tags": ["x"]}\\n{"id": 2, "tags": []}\\n')
        >>> read_json(path).take_all()
        [{'id': 1, 'tags': ['x']}, {'id': 2, 'tags': []}]
    """
    from ._formats.json import JSON

    files = Files(
        paths, file_extensions, partitioning, include_paths, ignore_missing_paths, shuffle, partition_filter,
        arrow_open_stream_args, hints,
    )  # fmt: skip
    return files.dataset(JSON(read_options, parse_options, is_lines=lines))


def read_text(
    paths: Paths,
    *,
    encoding: str = "utf-8",
    drop_empty_lines: bool = True,
    file_extensions: list[str] | None = None,
    partitioning: Literal["hive"] | Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: Literal["files"] | FileShuffleConfig | None = None,
    partition_filter: Callable[[list[str]], Iterable[str]] | None = None,
    arrow_open_stream_args: Mapping[str, Any] | None = None,
    **hints: Unpack[ReadHints],
) -> Dataset:
    """The lines of text files in the column ``text``, also of compressed ones.

    Args:
        paths: As for :func:`read_csv`, and so are the arguments that are not named here.
        encoding: What the files are written in.
        drop_empty_lines: Leaves out lines of nothing but blanks.
        file_extensions: As for :func:`read_csv`.
        partitioning: As for :func:`read_csv`.
        include_paths: As for :func:`read_csv`.
        ignore_missing_paths: As for :func:`read_csv`.
        shuffle: As for :func:`read_csv`.
        partition_filter: As for :func:`read_csv`.
        arrow_open_stream_args: As for :func:`read_csv`.
        hints: As for :func:`read_csv`.

    Returns:
        A dataset of one column.

    Raises:
        FileNotFoundError: as for :func:`read_csv`.
        LookupError: there is no such encoding.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "a.txt")
        >>> _ = open(path, "w").write("one\\n\\ntwo")
        >>> read_text(path).take_all()
        [{'text': 'one'}, {'text': 'two'}]
    """
    from ._formats.text import Text

    files = Files(
        paths, file_extensions, partitioning, include_paths, ignore_missing_paths, shuffle, partition_filter,
        arrow_open_stream_args, hints,
    )  # fmt: skip
    return files.dataset(Text(encoding, drop_empty_lines=drop_empty_lines))


def read_binary_files(
    paths: Paths,
    *,
    include_paths: bool = False,
    file_extensions: list[str] | None = None,
    partitioning: Literal["hive"] | Partitioning | None = None,
    ignore_missing_paths: bool = False,
    shuffle: Literal["files"] | FileShuffleConfig | None = None,
    partition_filter: Callable[[list[str]], Iterable[str]] | None = None,
    arrow_open_stream_args: Mapping[str, Any] | None = None,
    **hints: Unpack[ReadHints],
) -> Dataset:
    """The bytes of files in the column ``bytes``, a row per file; those of compressed files as they were before.

    Args:
        paths: As for :func:`read_csv`, and so are the arguments that are not named here.
        include_paths: Adds the column ``path``.
        file_extensions: As for :func:`read_csv`.
        partitioning: As for :func:`read_csv`.
        ignore_missing_paths: As for :func:`read_csv`.
        shuffle: As for :func:`read_csv`.
        partition_filter: As for :func:`read_csv`.
        arrow_open_stream_args: As for :func:`read_csv`; ``{"compression": None}`` leaves compressed files as they are.
        hints: As for :func:`read_csv`.

    Returns:
        A dataset; how many rows it has is known without reading.

    Raises:
        FileNotFoundError: as for :func:`read_csv`.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "a.bin")
        >>> _ = open(path, "wb").write(b"abc")
        >>> read_binary_files(path).take_all()
        [{'bytes': b'abc'}]
    """
    from ._formats.binary import Binary

    files = Files(
        paths, file_extensions, partitioning, include_paths, ignore_missing_paths, shuffle, partition_filter,
        arrow_open_stream_args, hints,
    )  # fmt: skip
    return files.dataset(Binary())


def read_images(
    paths: Paths,
    *,
    size: tuple[int, int] | None = None,
    mode: str | None = None,
    errors: Literal["raise", "ignore"] = "raise",
    include_paths: bool = False,
    file_extensions: list[str] | None = _IMAGE_EXTENSIONS,
    partitioning: Literal["hive"] | Partitioning | None = None,
    ignore_missing_paths: bool = False,
    shuffle: Literal["files"] | FileShuffleConfig | None = None,
    partition_filter: Callable[[list[str]], Iterable[str]] | None = None,
    arrow_open_file_args: Mapping[str, Any] | None = None,
    **hints: Unpack[ReadHints],
) -> Dataset:
    """The pixels of image files in the column ``image``, as arrays of height, width and channels. Needs Pillow.

    Args:
        paths: As for :func:`read_csv`, and so are the arguments that are not named here.
        size: Height and width that all images are brought to. With a mode besides, all arrays have one shape.
        mode: ``"RGB"``, ``"L"`` and so on: what all images are converted to; see Pillow's modes.
        errors: ``"ignore"``: passes over files that are broken or no images; ``"raise"``: the job fails and names the file.
        include_paths: Adds the column ``path``.
        file_extensions: Endings of the files of a folder that are read; ``None``: all files.
        partitioning: As for :func:`read_csv`.
        ignore_missing_paths: As for :func:`read_csv`.
        shuffle: As for :func:`read_csv`.
        partition_filter: As for :func:`read_csv`.
        arrow_open_file_args: As ``arrow_open_stream_args`` for :func:`read_csv`.
        hints: As for :func:`read_csv`.

    Returns:
        A dataset with a row per image.

    Raises:
        ImportError: Pillow is not installed.
        FileNotFoundError: as for :func:`read_csv`.
        ValueError: size or mode make no sense.

    Example:
        >>> import os, tempfile
        >>> from PIL import Image  # doctest: +SKIP
        >>> path = os.path.join(tempfile.mkdtemp(), "a.png")
        >>> Image.new("RGB", (6, 4)).save(path)  # doctest: +SKIP
        >>> read_images(path).take_all()[0]["image"].shape  # doctest: +SKIP
        (4, 6, 3)
    """
    sides = size if isinstance(size, (tuple, list)) else ()
    if size is not None and (len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides)):
        raise ValueError(f"read_images(): size must be height and width, two numbers of at least 1, not {size!r}")
    if errors not in ("raise", "ignore"):
        raise ValueError(f"read_images(): errors must be 'raise' or 'ignore', not {errors!r}")
    try:
        from PIL import Image  # pyright: ignore[reportMissingImports] - it need not be there
    except ImportError as error:
        raise ImportError("read_images() needs Pillow: pip install pillow") from error
    if mode is not None:
        try:
            Image.new(mode, (1, 1))
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"read_images(): mode={mode!r} is none of Pillow's modes, such as 'RGB' and 'L'"
            ) from error
    from ._formats.images import Images

    files = Files(
        paths, file_extensions, partitioning, include_paths, ignore_missing_paths, shuffle, partition_filter,
        arrow_open_file_args, hints,
    )  # fmt: skip
    return files.dataset(Images(size, mode, ignores_broken=errors == "ignore"))


def read_numpy(
    paths: Paths,
    *,
    allow_pickle: bool = False,
    file_extensions: list[str] | None = _NUMPY_EXTENSIONS,
    partitioning: Literal["hive"] | Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: Literal["files"] | FileShuffleConfig | None = None,
    partition_filter: Callable[[list[str]], Iterable[str]] | None = None,
    arrow_open_stream_args: Mapping[str, Any] | None = None,
    **hints: Unpack[ReadHints],
) -> Dataset:
    """The rows of arrays that ``numpy.save`` wrote, in the column ``data``: one per first index.

    Args:
        paths: As for :func:`read_csv`, and so are the arguments that are not named here.
        allow_pickle: Reads arrays of objects, which may run code: only for files that you trust.
        file_extensions: Endings of the files of a folder that are read; ``None``: all files.
        partitioning: As for :func:`read_csv`.
        include_paths: As for :func:`read_csv`.
        ignore_missing_paths: As for :func:`read_csv`.
        shuffle: As for :func:`read_csv`.
        partition_filter: As for :func:`read_csv`.
        arrow_open_stream_args: As for :func:`read_csv`.
        hints: As for :func:`read_csv`.

    Returns:
        A dataset with the column ``data``.

    Raises:
        FileNotFoundError: as for :func:`read_csv`.

    Example:
        >>> import numpy, os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "a.npy")
        >>> numpy.save(path, numpy.arange(6).reshape(3, 2))
        >>> read_numpy(path).count()
        3
    """
    from ._formats.arrays import Arrays

    files = Files(
        paths, file_extensions, partitioning, include_paths, ignore_missing_paths, shuffle, partition_filter,
        arrow_open_stream_args, hints,
    )  # fmt: skip
    return files.dataset(Arrays(allow_pickle=allow_pickle))


def read_orc(
    paths: Paths,
    *,
    file_extensions: list[str] | None = _ORC_EXTENSIONS,
    partitioning: Literal["hive"] | Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: Literal["files"] | FileShuffleConfig | None = None,
    partition_filter: Callable[[list[str]], Iterable[str]] | None = None,
    **hints: Unpack[ReadHints],
) -> Dataset:
    """The rows of ORC files.

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
        A dataset with the columns of the files.

    Raises:
        FileNotFoundError: as for :func:`read_csv`.

    Example:
        >>> import os, pyarrow, tempfile
        >>> from pyarrow import orc
        >>> path = os.path.join(tempfile.mkdtemp(), "a.orc")
        >>> orc.write_table(pyarrow.table({"id": [1, 2]}), path)
        >>> read_orc(path).take_all()
        [{'id': 1}, {'id': 2}]
    """
    from ._formats.orc import ORC

    files = Files(
        paths, file_extensions, partitioning, include_paths, ignore_missing_paths, shuffle, partition_filter, {}, hints
    )  # fmt: skip
    return files.dataset(ORC())


def read_webdataset(
    paths: Paths,
    *,
    decoder: bool | Callable[[dict[str, Any]], dict[str, Any]] | list[Any] | None = True,
    fileselect: Sequence[str] | Callable[[str], bool] | None = None,
    suffixes: Sequence[str] | Callable[[str], bool] | None = None,
    expand_json: bool = False,
    include_paths: bool = False,
    file_extensions: list[str] | None = _TAR_EXTENSIONS,
    ignore_missing_paths: bool = False,
    shuffle: Literal["files"] | FileShuffleConfig | None = None,
    partition_filter: Callable[[list[str]], Iterable[str]] | None = None,
    arrow_open_stream_args: Mapping[str, Any] | None = None,
    **hints: Unpack[ReadHints],
) -> Dataset:
    """The samples of webdatasets: tar files whose members ``0001.jpg``, ``0001.txt`` are a row of the columns ``jpg`` and ``txt``.

    Args:
        paths: As for :func:`read_csv`, and so are the arguments that are not named here.
        decoder: ``True``: text, numbers, JSON, arrays and images are made of members by their endings; ``None``: they stay bytes.
            A function gets a row of bytes as a dict and returns the row; of a list, one after another.
        fileselect: Which members are read: patterns, or a function of the name.
        suffixes: Which endings are columns.
        expand_json: The keys of the member ``json`` are columns.
        include_paths: Adds the column ``path``; ``__url__`` is the same.
        file_extensions: Endings of the files of a folder that are read; ``None``: all files.
        ignore_missing_paths: As for :func:`read_csv`.
        shuffle: As for :func:`read_csv`.
        partition_filter: As for :func:`read_csv`.
        arrow_open_stream_args: As for :func:`read_csv`.
        hints: As for :func:`read_csv`.

    Returns:
        A dataset with the columns ``__key__``, ``__url__`` and those of the endings.

    Raises:
        FileNotFoundError: as for :func:`read_csv`.
        ValueError: the decoder is none.

    Example:
        >>> import io, os, tarfile, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "a.tar")
        >>> with tarfile.open(path, "w") as archive:
        ...     for name, data in (("1.txt", b"one"), ("1.cls", b"7")):
        ...         member = tarfile.TarInfo(name)
        ...         member.size = len(data)
        ...         archive.addfile(member, io.BytesIO(data))
        >>> read_webdataset(path).select_columns(["__key__", "txt", "cls"]).take_all()
        [{'__key__': '1', 'txt': 'one', 'cls': 7}]
    """
    from ._formats.webdataset import WebDataset, decoded

    given: list[Any] = (
        decoder if isinstance(decoder, list) else [decoder] if callable(decoder) else [decoded] if decoder else []
    )
    if isinstance(decoder, str) or not all(map(callable, given)):
        raise ValueError(
            f"read_webdataset(): decoder must be True, None, a function or a list of functions, not {decoder!r}"
        )
    files = Files(
        paths, file_extensions, None, include_paths, ignore_missing_paths, shuffle, partition_filter,
        arrow_open_stream_args, hints,
    )  # fmt: skip
    return files.dataset(WebDataset(given, fileselect, suffixes, expand_json=expand_json))
