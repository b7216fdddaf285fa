"""Face detectors: the protocol, the registry and those that come along.

Importing this package imports neither InsightFace nor ONNX Runtime.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actfer_env.errors import ActFERError, DetectorError
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


@dataclass(frozen=True)
class DetectorStatus:
    """What `available_detectors` says about one detector.

    Attributes:
        name: the registered name.
        ready: whether ``make_detector(name)`` works without a download.
        detail: one line: what is there, or what is missing and how to get it.
        packs: names of the InsightFace packs found; empty for other detectors.
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
        root: where InsightFace keeps its packs.
    """
    looks: dict[str, Callable[[], DetectorStatus]] = {
        "mtcnn": _mtcnn_status,
        "insightface": lambda: _insightface_status(expand(root)),
        "yunet": _yunet_status,
        "simulated": lambda: DetectorStatus("simulated", True, "drawn samples alone: the renderer's own landmarks"),
        "auto": lambda: DetectorStatus("auto", True, "simulated for drawn samples, mtcnn for photos"),
        "unturned": lambda: DetectorStatus("unturned", True, "unturned:DETECTOR tries no turned copies of a picture"),
        "cached": lambda: DetectorStatus("cached", False, f"needs a folder of detections: run: {_precompute()}"),
        "cached-only": lambda: DetectorStatus("cached-only", False, "as cached; refuses what the folder lacks"),
    }
    return [
        _look(name, looks[name])
        if _BUILT_IN.get(name) is factory
        else DetectorStatus(name, True, "registered by other code")
        for name, factory in sorted(registered_detectors().items())
    ]


def _look(name: str, look: Callable[[], DetectorStatus]) -> DetectorStatus:
    """Return a detector's status also where it cannot even be looked at, as without a home folder or OpenCV."""
    try:
        return look()
    except ActFERError as error:
        return DetectorStatus(name, False, str(error))
    except ImportError as error:
        return DetectorStatus(name, False, explain(error))


def _mtcnn_status() -> DetectorStatus:
    try:
        _mtcnn()
    except DetectorError as error:
        return DetectorStatus("mtcnn", False, str(error))
    return DetectorStatus("mtcnn", True, "weights of mtcnn 1.0.0 verified")


def _insightface_status(root: Path) -> DetectorStatus:
    from actfer_env.tools.detectors.insightface import INSTALL, OFFLINE

    files = root.glob("models/*/**/*.onnx")
    packs = tuple(sorted({path.relative_to(root / "models").parts[0] for path in files}))
    missing = [name for name in ("insightface", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        detail = f"{' and '.join(missing)} not installed: run: {INSTALL}"
        return DetectorStatus("insightface", False, detail, packs)
    if not packs:
        detail = f"no pack in {str(root / 'models')!r}: the first use downloads buffalo_l; {OFFLINE}"
        return DetectorStatus("insightface", False, detail)
    return DetectorStatus("insightface", "buffalo_l" in packs, f"installed; packs: {', '.join(packs)}", packs)


def _yunet_status() -> DetectorStatus:
    from actfer_env.tools.detectors.yunet import GET_WEIGHTS

    return DetectorStatus("yunet", False, f"needs the path of its weights: {GET_WEIGHTS}")


def _precompute() -> str:
    from actfer_env.tools.detectors.cached import PRECOMPUTE

    return PRECOMPUTE


_BUILT_IN: dict[str, DetectorFactory] = {
    "auto": _auto, "mtcnn": _mtcnn, "insightface": _insightface, "yunet": _yunet, "simulated": _simulated,
    "unturned": _unturned, "cached": _cached, "cached-only": _cached_only,
}  # fmt: skip
for _name, _factory in _BUILT_IN.items():
    register_detector(_name, _factory, replace=True)
DETECTORS.seal()
