"""The detector protocol and the registry of detectors by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from actfer_env.errors import DetectorError

LANDMARKS: tuple[str, ...] = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
"""The five key points, in order; left and right are those of the picture, not of the person."""


@dataclass(frozen=True)
class Face:
    """One detected face.

    Coordinates are pixels of the image that was passed in, x to the right, y down, with the origin at the outer
    corner of the first pixel (so the image spans [0, width] x [0, height], and a pixel's centre is at +0.5).

    Attributes:
        box: (x1, y1, x2, y2), may reach beyond the image.
        landmarks: float array (5, 2), in the order of `LANDMARKS`.
        score: confidence in [0, 1].
        landmarks_106: float array (106, 2) in InsightFace's order, or None.
        meta: anything else that the detector says, as JSON values.
    """

    box: tuple[float, float, float, float]
    landmarks: NDArray[np.float64]
    score: float
    landmarks_106: NDArray[np.float64] | None = None
    meta: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class Detector(Protocol):
    """What a face detector must offer; `actfer_env.testing.check_detector` checks it.

    A detector that reads a sample's own annotations instead of its pixels may offer
    ``detect_sample(sample, image) -> list[Face]`` besides; where it does, episodes call that.
    """

    name: str

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        """Return the faces of an RGB image (H, W, 3), in any order; an empty list if there is none.

        The call must be deterministic and must not change the image.
        """
        ...


DetectorFactory = Callable[..., Detector]
_FACTORIES: dict[str, DetectorFactory] = {}


def register_detector(name: str, factory: DetectorFactory, *, replace: bool = False) -> None:
    """Make a detector known by name to every front end.

    Args:
        name: the name, without a colon.
        factory: called as ``factory()`` or, for the spec ``"name:argument"``, as ``factory(argument)``.
        replace: allow a name that is taken.

    Raises:
        DetectorError: the name is taken or holds a colon.
    """
    if ":" in name:
        raise DetectorError(f"detector name {name!r} holds a colon, which separates name and argument")
    if name in _FACTORIES and not replace:
        raise DetectorError(f"detector {name!r} is registered already: pass replace=True to replace it")
    _FACTORIES[name] = factory


def registered_detectors() -> Mapping[str, DetectorFactory]:
    """Return the registered detectors by name."""
    return dict(_FACTORIES)


def make_detector(spec: str | Detector, **kwargs: Any) -> Detector:
    """Build a detector from its spec.

    Args:
        spec: a registered name (``"mtcnn"``), a name with an argument (``"insightface:buffalo_l"``,
            ``"yunet:/models/yunet.onnx"``), or a detector, which is returned as it is.
        **kwargs: passed to the detector's factory.

    Raises:
        DetectorError: the name is unknown, or the detector lacks its extra or weights.
    """
    if not isinstance(spec, str):
        return spec
    name, _, argument = spec.partition(":")
    if name not in _FACTORIES:
        raise DetectorError(f"unknown detector {name!r}: use one of {', '.join(sorted(_FACTORIES))}")
    return _FACTORIES[name](*([argument] if argument else []), **kwargs)
