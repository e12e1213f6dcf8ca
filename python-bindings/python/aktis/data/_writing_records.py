"""Where datasets end in files of records: TFRecords and webdatasets."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import _folders
from ._keywords import Keywords, Refused

if TYPE_CHECKING:
    from typing import Unpack

    from ._typed import WriteFileArgs
    from ._writing_files import Mode


class WritingRecords:
    """The methods of a dataset that write its rows as records of others' libraries."""

    _write: Callable[..., None]

    def write_tfrecords(
        self,
        path: str | os.PathLike[str],
        *,
        tf_schema: None = None,
        mode: Mode = _folders.APPEND,
        min_rows_per_file: int | None = None,
        concurrency: int | None = None,
        try_create_dir: bool = True,
        arrow_open_stream_args: Mapping[str, Any] | None = None,
        **options: Unpack[WriteFileArgs],
    ) -> None:
        """Writes TFRecord files of ``tf.train.Example`` into a folder. They become visible together, as those of
        :meth:`write_parquet`. Needs no TensorFlow.

        Args:
            path: As for :meth:`write_parquet`, and so are the arguments that are not named here.
            tf_schema: Ray's; refused.
            mode: As for :meth:`write_parquet`.
            min_rows_per_file: As for :meth:`write_csv`.
            concurrency: As for :meth:`write_parquet`.
            try_create_dir: As for :meth:`write_parquet`.
            arrow_open_stream_args: As for :meth:`write_csv`.
            options: As for :meth:`write_parquet`.

        Raises:
            ValueError: as for :meth:`write_parquet`.
            TaskError: as for :meth:`take`; also if a column is not of whole numbers, floats, text, bytes or lists of one of these.

        Example:
            >>> import tempfile, aktis.data
            >>> folder = tempfile.mkdtemp()
            >>> aktis.data.from_items([{"id": 1, "name": b"x"}]).write_tfrecords(folder)
            >>> aktis.data.read_tfrecords(folder).take_all()
            [{'id': 1, 'name': b'x'}]
        """
        from ._formats import lines
        from ._formats.write_tfrecords import TFRecordsSink

        refused = {"tf_schema": Refused("columns have types: cast them with with_column()")}
        Keywords("write_tfrecords", refused=refused).check({"tf_schema": tf_schema})
        compression = lines.compression_said("write_tfrecords", arrow_open_stream_args)
        sink = TFRecordsSink(None if compression == "detect" else compression)
        self._write(sink, path, mode, min_rows_per_file, concurrency, try_create_dir, options)

    def write_webdataset(
        self,
        path: str | os.PathLike[str],
        *,
        encoder: Any = True,
        mode: Mode = _folders.APPEND,
        min_rows_per_file: int | None = None,
        concurrency: int | None = None,
        try_create_dir: bool = True,
        arrow_open_stream_args: Mapping[str, Any] | None = None,
        **options: Unpack[WriteFileArgs],
    ) -> None:
        """Writes tar files of samples into a folder: a member per value, called after the row's ``__key__`` and the column. They become
        visible together, as those of :meth:`write_parquet`.

        Args:
            path: As for :meth:`write_parquet`, and so are the arguments that are not named here.
            encoder: ``True``: values become what the names of columns say (``txt``, ``cls``, ``json``, ``npy``, ``png``, ``jpg``, ...);
                a function from a sample to one of bytes and text; ``None``: they are bytes and text; or a list of these.
            mode: As for :meth:`write_parquet`.
            min_rows_per_file: As for :meth:`write_csv`.
            concurrency: As for :meth:`write_parquet`.
            try_create_dir: As for :meth:`write_parquet`.
            arrow_open_stream_args: As for :meth:`write_csv`.
            options: As for :meth:`write_parquet`.

        Raises:
            TypeError: the encoder is none.
            ValueError: as for :meth:`write_parquet`.
            TaskError: as for :meth:`take`; also for values that are no bytes, and keys that are none.

        Example:
            >>> import tempfile, aktis.data
            >>> folder = tempfile.mkdtemp()
            >>> aktis.data.from_items([{"__key__": "a", "txt": "one", "cls": 1}]).write_webdataset(folder)
            >>> aktis.data.read_webdataset(folder).take_all()[0]["txt"]
            'one'
        """
        from ._formats import lines
        from ._formats.write_webdataset import WebDatasetSink, encoded

        chosen: list[Any] = []
        for one in encoder if isinstance(encoder, (list, tuple)) else [encoder]:
            if one is True or callable(one):
                chosen.append(encoded if one is True else one)
            elif one is not None and one is not False:
                raise TypeError(
                    f"write_webdataset(encoder=...) takes True, a function, None, or a list of these, not {one!r}"
                )
        compression = lines.compression_said("write_webdataset", arrow_open_stream_args)
        sink = WebDatasetSink(chosen, None if compression == "detect" else compression)
        self._write(sink, path, mode, min_rows_per_file, concurrency, try_create_dir, options)
