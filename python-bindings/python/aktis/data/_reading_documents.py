"""Where datasets begin in documents. A package that is missing is named with the command that installs it."""

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

_PDF_EXTENSIONS: Any = ("pdf",)


def read_pdfs(
    paths: Paths,
    *,
    by: Literal["page", "document"] = "page",
    dpi: float | None = None,
    mode: Literal["RGB", "L"] = "RGB",
    password: str | None = None,
    errors: Literal["raise", "ignore"] = "raise",
    include_paths: bool = True,
    file_extensions: list[str] | None = _PDF_EXTENSIONS,
    partitioning: Literal["hive"] | Partitioning | None = None,
    ignore_missing_paths: bool = False,
    shuffle: Literal["files"] | FileShuffleConfig | None = None,
    partition_filter: Callable[[list[str]], Iterable[str]] | None = None,
    arrow_open_stream_args: Mapping[str, Any] | None = None,
    **hints: Unpack[ReadHints],
) -> Dataset:
    """The pages of PDF documents: their text in the column ``text``, and what they look like in ``image`` if that is asked for. Needs
    pypdfium2.

    Pages that are pictures have no text: give ``dpi``, and read their images with a model. Large local files are read in parts.

    Args:
        paths: As for :func:`read_csv`, and so are the arguments that are not named here.
        by: ``"page"``: a row per page, with its number from 1 on in ``page_number``. ``"document"``: a row per file, with the text of
            all pages, between which there is a form feed, and how many they are in ``num_pages``.
        dpi: Pixels per inch of the images of pages, arrays of height, width and three colours; ``None``: there are none.
        mode: Of images: ``"RGB"``, or ``"L"``: grey, of height and width.
        password: Opens files that are locked.
        errors: ``"ignore"``: passes over files and pages that are broken; ``"raise"``: the job fails and names the file.
        include_paths: Adds the column ``path``.
        file_extensions: Endings of the files of a folder that are read; ``None``: all files.
        partitioning: As for :func:`read_csv`.
        ignore_missing_paths: As for :func:`read_csv`.
        shuffle: As for :func:`read_csv`.
        partition_filter: As for :func:`read_csv`.
        arrow_open_stream_args: As for :func:`read_csv`.
        hints: As for :func:`read_csv`.

    Returns:
        A dataset with a row per page, or per document.

    Raises:
        ImportError: pypdfium2 is not installed.
        FileNotFoundError: as for :func:`read_csv`.
        ValueError: an argument makes no sense.

    Example:
        >>> read_pdfs("papers/").take(1)  # doctest: +SKIP
        [{'text': 'On rays of light\\n...', 'page_number': 1, 'path': '/home/me/papers/rays.pdf'}]
    """
    for name, value, known in (
        ("by", by, ("page", "document")),
        ("mode", mode, ("RGB", "L")),
        ("errors", errors, ("raise", "ignore")),
    ):
        if value not in known:
            raise ValueError(f"read_pdfs(): {name} must be {known[0]!r} or {known[1]!r}, not {value!r}")
    if dpi is not None and not (isinstance(dpi, (int, float)) and 0 < dpi < float("inf")):
        raise ValueError(f"read_pdfs(): dpi must be None or a number above 0, such as 150, not {dpi!r}")
    if dpi is not None and by == "document":
        raise ValueError("read_pdfs(): images are those of pages, so dpi= goes with by='page'")
    needs("read_pdfs", "pypdfium2", "pypdfium2")
    from ._formats.pdfs import PDFs

    files = Files(
        paths, file_extensions, partitioning, include_paths, ignore_missing_paths, shuffle, partition_filter,
        arrow_open_stream_args, hints,
    )  # fmt: skip
    format = PDFs(
        by_document=by == "document", dpi=dpi, mode=mode, password=password, ignores_broken=errors == "ignore"
    )
    return files.dataset(format)
