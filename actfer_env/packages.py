"""Optional packages: what brings them, and what to say where one is missing or cannot start."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from actfer_env.errors import ActFERError, DataError

PACKAGES = {
    "gymnasium": "core", "numpy": "core", "opencv-python": "core", "scikit-image": "core", "pillow": "core",
    "mcp": "mcp", "openenv": "openenv", "inspect-ai": "inspect", "verifiers": "verifiers", "trl": "trl", "peft": "trl",
    "trackio": "trackio",
    "mtcnn": "core", "insightface": "insightface", "onnxruntime": "insightface", "torch": "torch",
    "matplotlib": "torch", "tensorboard": "torch", "stable-baselines3": "sb3", "transformers": "vlm", "openai": "api",
    "pyarrow": "verl", "verl": "verl", "imagehash": "data", "datasets": "data",
    "scikit-learn": "tables", "pandas": "tables", "rouge-score": "tables", "pydantic": "data",
}  # fmt: skip
"""Distribution -> the extra that brings it."""

_MODULES = {"cv2": "opencv-python", "skimage": "scikit-image", "PIL": "pillow", "sklearn": "scikit-learn",
            "rouge_score": "rouge-score", "stable_baselines3": "stable-baselines3",
            "sb3_contrib": "sb3-contrib", "inspect_ai": "inspect-ai"}  # fmt: skip
_EXTRAS = {**PACKAGES, "sb3-contrib": "sb3", "onnx": "insightface"}
_OPENCV = {"libGL.": "libgl1", "libgthread-": "libglib2.0-0", "libglib-": "libglib2.0-0", "libSM.": "libsm6",
           "libXext.": "libxext6", "libXrender.": "libxrender1"}  # fmt: skip
"""Beginnings of the system libraries that OpenCV with windows loads -> Debian's package."""


@contextmanager
def needs(extra: str, kind: type[ActFERError] = DataError) -> Iterator[None]:
    """Turn an import that fails in the block into one line that names the package and the cure.

    Args:
        extra: Extra of this package, which brings what is imported.
        kind: The error's class.
    """
    try:
        yield
    except ImportError as error:
        raise kind(explain(error, extra)) from error


def explain(error: ImportError, extra: str | None = None) -> str:
    """Return what an import that failed lacks, and the cure, in one line.

    Args:
        error: Exception of the import.
        extra: The extra to install; the one that brings the package if left out.
    """
    library = re.search(r"(lib[\w.+-]+\.so[.\d]*): cannot open shared object", str(error))
    if library:
        return _library(library[1])
    package = _distribution(error)
    if package is None:
        return " ".join(str(error).split())
    extra = extra or _EXTRAS.get(package)
    what = "actfer-env" if extra == "core" else f"actfer-env[{extra}]" if extra else package
    if isinstance(error, ModuleNotFoundError):
        return f"{package} is missing: pip install '{what}'"
    return f"{package} cannot start ({' '.join(str(error).split())}): pip install --upgrade '{what}'"


def _library(name: str) -> str:
    for start, package in _OPENCV.items():
        if name.startswith(start):
            cure = "pip uninstall opencv-python && pip install opencv-python-headless"
            return f"OpenCV cannot start, the system has no {name}: apt-get install {package}, or: {cure}"
    return f"the system library {name} is missing: install it with the system's package manager"


def _distribution(error: ImportError) -> str | None:
    module = (error.name or "").partition(".")[0]
    return _MODULES.get(module, module) or None
