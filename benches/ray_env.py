"""Virtual environments for what is measured or drawn with, made on first use and kept outside the repository.

`AKTIS_BENCH_RAY_PYTHON` names an interpreter to use instead; then nothing is installed.
"""

import fcntl
import os
import pathlib
import subprocess
import sys

RAY_VERSION = "2.60.0"
CORE_PACKAGES = (f"ray[data]=={RAY_VERSION}", "pyarrow", "numpy", "pandas", "psutil", "aiohttp")
RELATIONAL_PACKAGES = ("duckdb", "datafusion", "tpchgen-cli", "pyarrow", "numpy")
DAFT_PACKAGES = ("daft==0.7.26", "pyarrow", "numpy")
MULTIMODAL_PACKAGES = (
    *CORE_PACKAGES, "daft==0.7.26", "pillow", "onnx", "onnxruntime", "tokenizers", "pypdfium2", "cloudpickle", "tqdm",
)  # fmt: skip
EMBED_PACKAGES = ("sentence-transformers", "torch", "onnxruntime", "tokenizers")

#: Settings that favour Ray: no token handshake, no usage report, no log lines repeated to the driver's terminal.
ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    folder = pathlib.Path(base) / "aktis-bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def venv_python(name, packages):
    """The interpreter of a virtual environment in the cache folder that has these packages, installed where missing."""
    venv = cache_folder() / name
    python, stamp = venv / "bin" / "python", venv / "installed-packages"
    with open(cache_folder() / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second benchmark waits instead of installing over this one
        installed = set(stamp.read_text().split()) if stamp.exists() else set()
        if not set(packages) <= installed:
            print(f"installing {' '.join(packages)} into {venv} (once)", file=sys.stderr, flush=True)
            subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
            stamp.write_text("\n".join(installed | set(packages)))
    return str(python)


def ray_python(*, embed=False):
    """The interpreter that has Ray, installed first where it is missing."""
    given = os.environ.get("AKTIS_BENCH_RAY_PYTHON")
    return given or venv_python("ray-venv", CORE_PACKAGES + (EMBED_PACKAGES if embed else ()))


def relational_python():
    """The interpreter that has the engines that queries are compared with, and the generator of their tables."""
    return venv_python("relational-venv", RELATIONAL_PACKAGES)


def daft_python():
    """The interpreter that has Daft."""
    return venv_python("daft-venv", DAFT_PACKAGES)


def multimodal_python():
    """The interpreter that has Ray, Daft, and what the pipelines over pictures, PDFs and texts compute with."""
    return venv_python("multimodal-venv", MULTIMODAL_PACKAGES)


def python_of(system, *, embed=False):
    """The interpreter of a system: this one for all but Ray."""
    return ray_python(embed=embed) if system == "ray" else sys.executable


def environment():
    """The environment of a measured process."""
    return {**os.environ, **ENVIRONMENT}
