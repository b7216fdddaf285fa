"""Face detectors: the protocol, the registry and those that come along.

Importing this package imports neither InsightFace nor ONNX Runtime.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from actfer_env.errors import ActFERError
from actfer_env.files import expand
from actfer_env.packages import explain
from actfer_env.tools.detectors.base import (
    DETECTORS,
    LANDMARKS,
    Detector,
    DetectorFactory,
    Face,
    make_detector,
    register_detector,
    registered_detectors,
)

__all__ = [
    "LANDMARKS",
    "Detector",
    "DetectorFactory",
    "DetectorStatus",
    "Face",
    "available_detectors",
    "make_detector",
    "register_detector",
    "registered_detectors",
]


_Found: TypeAlias = tuple[bool, str] | tuple[bool, str, tuple[str, ...]]


@dataclass(frozen=True)
class DetectorStatus:
    """State of one detector, as `available_detectors` lists it.

    Attributes:
        name: The registered name.
        ready: Whether ``make_detector(name)`` works without a download.
        detail: One line: what is there, or what is missing and how to get it.
        packs: Names of the InsightFace packs found; empty for other detectors.
    """

    name: str
    ready: bool
    detail: str
    packs: tuple[str, ...] = ()


def _mtcnn(**settings: Any) -> Detector:
    from actfer_env.tools.detectors.mtcnn import MTCNNDetector

    return MTCNNDetector(**settings)


def _insightface(pack: str = "buffalo_l", **settings: Any) -> Detector:
    from actfer_env.tools.detectors.insightface import InsightFaceDetector

    return InsightFaceDetector(pack, **settings)


def _yunet(weights: str | None = None, **settings: Any) -> Detector:
    from actfer_env.tools.detectors.yunet import YuNetDetector

    return YuNetDetector(weights, **settings)


def _simulated() -> Detector:
    from actfer_env.tools.detectors.simulated import SimulatedDetector

    return SimulatedDetector()


def _auto() -> Detector:
    from actfer_env.tools.detectors.simulated import AutoDetector

    return AutoDetector()


def _cached(folder: str = "") -> Detector:
    from actfer_env.tools.detectors.cached import CachedDetector

    return CachedDetector(folder)


def _cached_only(folder: str = "") -> Detector:
    from actfer_env.tools.detectors.cached import CachedDetector

    return CachedDetector(folder, miss="error")


def _unturned(detector: str = "") -> Detector:
    from actfer_env.tools.orientation import UnturnedDetector

    return UnturnedDetector(detector)


def available_detectors(root: str | Path = "~/.insightface") -> list[DetectorStatus]:
    """Return the status of every registered detector, sorted by name; nothing is downloaded.

    Args:
        root: Folder in which InsightFace keeps its packs.
    """
    found = []
    for name, factory in sorted(registered_detectors().items()):
        known = _BUILT_IN.get(name)
        if known is None or known.build is not factory:
            found.append(DetectorStatus(name, True, "registered by other code"))
        else:
            found.append(_look(name, known, Path(root)))
    return found


def _look(name: str, known: _BuiltIn, root: Path) -> DetectorStatus:
    """Return a detector's status also where it cannot even be looked at, as without a home folder or OpenCV."""
    try:
        return DetectorStatus(name, *known.look(root))
    except ActFERError as error:
        return DetectorStatus(name, False, str(error))
    except ImportError as error:
        return DetectorStatus(name, False, explain(error))


def _look_at_mtcnn(root: Path) -> _Found:
    _mtcnn()  # without its weights or packages it raises
    return True, "weights of mtcnn 1.0.0 verified"


def _look_at_insightface(root: Path) -> _Found:
    from actfer_env.tools.detectors.insightface import INSTALL, OFFLINE

    models = expand(root) / "models"
    packs = tuple(sorted({path.relative_to(models).parts[0] for path in models.glob("*/**/*.onnx")}))
    missing = [name for name in ("insightface", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        return False, f"{' and '.join(missing)} not installed: run: {INSTALL}", packs
    if not packs:
        return False, f"no pack in {str(models)!r}: the first use downloads buffalo_l; {OFFLINE}"
    return "buffalo_l" in packs, f"installed; packs: {', '.join(packs)}", packs


def _look_at_yunet(root: Path) -> _Found:
    from actfer_env.tools.detectors.yunet import GET_WEIGHTS

    return False, f"needs the path of its weights: {GET_WEIGHTS}"


def _look_at_cached(root: Path) -> _Found:
    from actfer_env.tools.detectors.cached import PRECOMPUTE

    return False, f"needs a folder of detections: run: {PRECOMPUTE}"


@dataclass(frozen=True)
class _BuiltIn:
    """All that is known of a detector that comes along.

    Attributes:
        build: Its factory.
        look: Called with the folder of InsightFace; returns whether it is ready and why, and the packs found.
    """

    build: DetectorFactory
    look: Callable[[Path], _Found]


_BUILT_IN: dict[str, _BuiltIn] = {
    "auto": _BuiltIn(_auto, lambda root: (True, "simulated for drawn samples, mtcnn for photos")),
    "mtcnn": _BuiltIn(_mtcnn, _look_at_mtcnn),
    "insightface": _BuiltIn(_insightface, _look_at_insightface),
    "yunet": _BuiltIn(_yunet, _look_at_yunet),
    "simulated": _BuiltIn(_simulated, lambda root: (True, "drawn samples alone: the renderer's own landmarks")),
    "unturned": _BuiltIn(_unturned, lambda root: (True, "unturned:DETECTOR tries no turned copies of a picture")),
    "cached": _BuiltIn(_cached, _look_at_cached),
    "cached-only": _BuiltIn(_cached_only, lambda root: (False, "as cached; refuses what the folder lacks")),
}
for _name, _known in _BUILT_IN.items():
    register_detector(_name, _known.build, replace=True)
DETECTORS.seal()
