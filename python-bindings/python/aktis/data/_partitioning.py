"""What the folders of files tell, as ``partitioning=`` of what reads files says it."""

from __future__ import annotations

import builtins
import enum
import os
import re
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dataset import Dataset


class PartitionStyle(str, enum.Enum):
    """How folders are named."""

    HIVE = "hive"
    DIRECTORY = "dir"


@dataclass(frozen=True)
class Partitioning:
    """Columns that the names of folders tell, and of which types.

    Attributes:
        style: ``"hive"``: folders like ``day=2024-01-01``; ``"dir"``: folders that are values only, which ``field_names`` names.
        base_dir: Where these folders begin; files elsewhere are in none of them. ``None``: with the first folder of a path.
        field_names: What the folders are, the outermost first; of ``"dir"`` a name may be ``None``, for a folder that tells nothing.
            For ``"hive"`` it says which there must be.
        field_types: What columns are made of the text: ``int``, ``float``, ``str``, ``bool`` or a type of pyarrow.
        filesystem: Ray's; only ``None``: what reads takes ``filesystem=``.

    >>> Partitioning("hive", field_types={"year": int}).field_types
    {'year': <class 'int'>}
    """

    style: PartitionStyle | str = PartitionStyle.HIVE
    base_dir: str | os.PathLike[str] | None = None
    field_names: Sequence[str | None] | None = None
    field_types: Mapping[str, Any] | None = None
    filesystem: None = None

    def __post_init__(self) -> None:
        if self.base_dir is not None:
            object.__setattr__(self, "base_dir", os.fspath(self.base_dir))


#: How Hive writes that there is no value.
_NULL = "__HIVE_DEFAULT_PARTITION__"


class PathPartitionParser:
    """What the folders of a path tell.

    Args:
        partitioning: How they are named.

    >>> PathPartitionParser(Partitioning("dir", base_dir="pets", field_names=["kind"]))("pets/dog/a.png")
    {'kind': 'dog'}
    """

    def __init__(self, partitioning: Partitioning) -> None:
        self._scheme = partitioning
        self._style = _style("PathPartitionParser", partitioning)
        self._types = _types("PathPartitionParser", partitioning)

    @staticmethod
    def of(
        style: PartitionStyle | str = PartitionStyle.HIVE,
        base_dir: str | os.PathLike[str] | None = None,
        field_names: Sequence[str | None] | None = None,
        field_types: Mapping[str, Any] | None = None,
        filesystem: None = None,
    ) -> PathPartitionParser:
        """A parser, by the attributes of its :class:`Partitioning`.

        Args:
            style: As there, and so are the others.
            base_dir: As there.
            field_names: As there.
            field_types: As there.
            filesystem: As there.

        Returns:
            The parser.

        >>> PathPartitionParser.of("hive", field_types={"day": int})("sales/day=3/a.csv")
        {'day': 3}
        """
        return PathPartitionParser(Partitioning(style, base_dir, field_names, field_types, filesystem))

    @property
    def scheme(self) -> Partitioning:
        """How folders are named.

        >>> PathPartitionParser.of("hive").scheme.style
        'hive'
        """
        return self._scheme

    def __call__(self, path: str) -> dict[str, Any]:
        """The columns and values of a file; none if it lies in no such folder."""
        base = _base_of(self._scheme.base_dir, [path])
        texts = _texts("PathPartitionParser", self._scheme, path, base)
        return {name: _converted(path, name, texts[name], self._types.get(name)) for name in texts}


class PathPartitionFilter:
    """Which files are read, by what their folders tell: for ``partition_filter=``.

    Args:
        path_partition_parser: Says what they tell.
        filter_fn: Gets columns and values of a file; ``{}`` for one that lies in no such folder.

    >>> recent = PathPartitionFilter.of(lambda told: told.get("day", 0) > 1, field_types={"day": int})
    >>> recent(["sales/day=1/a.csv", "sales/day=2/a.csv", "sales/b.csv"])
    ['sales/day=2/a.csv']
    """

    def __init__(self, path_partition_parser: PathPartitionParser, filter_fn: Callable[[dict[str, Any]], bool]) -> None:
        self._parser = path_partition_parser
        self._filter = filter_fn

    @staticmethod
    def of(
        filter_fn: Callable[[dict[str, Any]], bool],
        style: PartitionStyle | str = PartitionStyle.HIVE,
        base_dir: str | os.PathLike[str] | None = None,
        field_names: Sequence[str | None] | None = None,
        field_types: Mapping[str, Any] | None = None,
        filesystem: None = None,
    ) -> PathPartitionFilter:
        """A filter, by the attributes of a :class:`Partitioning`.

        Args:
            filter_fn: As for the class.
            style: As there, and so are the others.
            base_dir: As there.
            field_names: As there.
            field_types: As there.
            filesystem: As there.

        Returns:
            The filter.

        >>> PathPartitionFilter.of(bool)(["a.csv", "day=1/a.csv"])
        ['day=1/a.csv']
        """
        return PathPartitionFilter(
            PathPartitionParser.of(style, base_dir, field_names, field_types, filesystem), filter_fn
        )

    @property
    def parser(self) -> PathPartitionParser:
        """What says what folders tell.

        >>> PathPartitionFilter.of(bool).parser("day=1/a.csv")
        {'day': '1'}
        """
        return self._parser

    def apply(self, path: str) -> bool:
        """Whether a file is read.

        Args:
            path: Its path.

        Returns:
            What the function says.

        >>> PathPartitionFilter.of(bool).apply("a.csv")
        False
        """
        return bool(self._filter(self._parser(path)))

    def __call__(self, paths: list[str]) -> list[str]:
        """Those of the files that are read."""
        return [path for path in paths if self.apply(path)]


def is_hive(function: str, partitioning: Any) -> bool:
    """Whether the names of folders tell columns by themselves; ``partitioning`` may be an object of Ray's shape."""
    return partitioning is not None and _style(function, partitioning) == "hive"


def needs_paths(partitioning: Any) -> bool:
    """Whether more is asked for than that folders name columns, so that paths must be looked at."""
    is_plain = getattr(partitioning, "base_dir", None) or getattr(partitioning, "field_names", None)
    return partitioning is not None and (bool(is_plain) or not is_hive("", partitioning))


def needs_path_column(partitioning: Any) -> bool:
    """Whether columns are made of the column ``path``."""
    return partitioning is not None and not is_hive("", partitioning)


def applied(function: str, dataset: Dataset, partitioning: Any, paths: list[str], *, include_paths: bool) -> Dataset:
    """The dataset with the columns that its folders tell, of the types that were asked for. `paths`: of its files, if they
    :func:`needs_paths`."""
    from .expressions import col

    types = _types(function, partitioning)
    if needs_path_column(partitioning):
        dataset = dataset.with_columns(_of_folders(function, partitioning, paths))
        dataset = dataset if include_paths else dataset.drop_columns(["path"])
    elif needs_paths(partitioning) and (above := _above(function, partitioning, paths)):
        dataset = dataset.drop_columns(above)
    return dataset.with_columns({name: col(name).cast(kind) for name, kind in types.items()}) if types else dataset


def _of_folders(function: str, partitioning: Any, paths: list[str]) -> dict[str, Any]:
    """Expressions over ``path`` for folders that are values only."""
    from ._expr import call
    from .expressions import col, lit

    base = _base_of(partitioning.base_dir, paths)
    told = [_texts(function, partitioning, path, base) for path in paths]
    if not any(told):
        raise ValueError(f"{function}(): no file lies in folders below base_dir={partitioning.base_dir!r}")
    names = list(partitioning.field_names)
    begin = re.escape(f"{base}/") if base else "([A-Za-z][A-Za-z0-9+.-]*://)?/*"
    pattern = "^" + begin + "([^/]+)/" * len(names) + "[^/]*$"
    folders = call("regexp_match", col("path"), lit(pattern))
    # The first group is then what a URL begins with.
    numbered = [(number, name) for number, name in enumerate(names, start=1 if base else 2) if name is not None]
    return {name: call("array_element", folders, lit(number)) for number, name in numbered}


def _above(function: str, partitioning: Any, paths: list[str]) -> list[str]:
    """Columns that only folders above ``base_dir`` name."""
    base = _base_of(partitioning.base_dir, paths)
    below = {name for path in paths for name in _texts(function, partitioning, path, base)}
    whole = Partitioning("hive")
    above: set[str] = set()
    for path in paths:
        texts = _texts(function, partitioning, path, base)
        for name, text in _texts(function, whole, path, "").items():
            if name in texts and texts[name] != text:
                raise ValueError(
                    f"{function}(): {path} has {name!r} above and below base_dir; rename one of the folders"
                )
            above |= {name} - texts.keys()
    if mixed := above & below:
        raise ValueError(
            f"{function}(): {min(mixed)!r} is above base_dir={partitioning.base_dir!r} of some files and below it of others"
        )
    return sorted(above)


def _style(function: str, partitioning: Any) -> str:
    style = getattr(partitioning, "style", partitioning)
    style = getattr(style, "value", style)
    if style not in ("hive", "dir") or getattr(partitioning, "filesystem", None) is not None:
        raise ValueError(
            f"{function}(partitioning={partitioning!r}): it is 'hive', for folders like day=2024-01-01, a Partitioning('hive' or 'dir', "
            "...) without filesystem, or None"
        )
    if style == "dir" and not getattr(partitioning, "field_names", None):
        raise ValueError(
            f"{function}(): folders that are values only need names: Partitioning('dir', field_names=[...], base_dir=...)"
        )
    return style


def _base_of(base_dir: str | os.PathLike[str] | None, paths: list[str]) -> str:
    """``base_dir`` as the paths have it."""
    if not base_dir:
        return ""
    plain = os.fspath(base_dir).rstrip("/")
    named = [plain, plain.partition("://")[2] or plain]
    if "://" not in plain or plain.startswith("file://"):
        named.append(os.path.abspath(plain.removeprefix("file://")))
    return next((base for base in named if any(path.startswith(f"{base}/") for path in paths)), plain)


def _texts(function: str, partitioning: Any, path: str, base: str) -> dict[str, str | None]:
    """What the folders of a path tell, as text; ``None`` is null, as Hive writes it."""
    if base and not path.startswith(f"{base}/"):
        return {}
    below = path[len(base) :] if base else path.partition("://")[2] or path
    folders = [folder for folder in below.split("/")[:-1] if folder]
    names = list(getattr(partitioning, "field_names", None) or [])
    if _style(function, partitioning) == "dir":
        if folders and len(folders) != len(names):
            where = f"below {base}" if base else "in its path; base_dir= says where they begin"
            raise ValueError(
                f"{function}(): field_names has {len(names)} names, and {path} lies in {len(folders)} folders {where}"
            )
        return {name: folder for name, folder in zip(names, folders, strict=False) if name is not None}
    pairs = [folder.split("=", 1) for folder in folders if folder.find("=") > 0]
    if names and pairs and [name for name, _ in pairs] != names:
        raise ValueError(
            f"{function}(): field_names says {', '.join(map(str, names))}, and the folders of {path} are {', '.join(name for name, _ in pairs)}"
        )
    return {name: None if text == _NULL else urllib.parse.unquote(text) for name, text in pairs}


def _converted(path: str, name: str, text: str | None, kind: Any) -> Any:
    """A value of the type that was asked for."""
    import pyarrow

    if text is None or kind is None or kind == pyarrow.string():
        return text
    try:
        return pyarrow.scalar(text).cast(kind).as_py()
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path}: the folder says {name}={text}, which is no {kind}: change field_types") from error


def _types(function: str, partitioning: Any) -> dict[str, Any]:
    import pyarrow

    known: dict[Any, Any] = {
        builtins.int: pyarrow.int64(), builtins.float: pyarrow.float64(), str: pyarrow.string(), bool: pyarrow.bool_(),
    }  # fmt: skip
    found: dict[str, Any] = {}
    for name, kind in (getattr(partitioning, "field_types", None) or {}).items():
        arrow = kind if isinstance(kind, pyarrow.DataType) else known.get(kind)
        if arrow is None:
            raise ValueError(
                f"{function}(): field_types has {kind!r} for {name!r}; give int, float, str, bool or a type of pyarrow"
            )
        found[name] = arrow
    return found
