"""The detector protocol and the registry of detectors by name."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from actfer_env.errors import DetectorError, short
from actfer_env.plugins import Registry

LANDMARKS: tuple[str, ...] = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
"""The five key points, in order; left and right are those of the picture, not of the person."""


@dataclass(frozen=True)
class Face:
    """One detected face.

    Coordinates are pixels of the image that was passed in, x to the right, y down, with the origin at the outer
    corner of the first pixel (so the image spans [0, width] x [0, height], and a pixel's centre is at +0.5).

    Attributes:
        box: (x1, y1, x2, y2), may reach beyond the image.
        landmarks: float array (5, 2), in the order of `LANDMARKS`, as the upright face shows them.
        score: Confidence in [0, 1].
        landmarks_106: float array (106, 2) in InsightFace's order, or None.
        meta: Anything else that the detector says, as JSON values; of a face that was found in a turned copy
            ``rotated``, and ``certain: false`` where its orientation stayed open.
    """

    box: tuple[float, float, float, float]
    landmarks: NDArray[np.float64]
    score: float
    landmarks_106: NDArray[np.float64] | None = None
    meta: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class Detector(Protocol):
    """Protocol of a face detector; `actfer_env.testing.check_detector` checks it.

    A detector that reads a sample's own annotations instead of its pixels may offer
    ``detect_sample(sample, image) -> list[Face]`` besides; where it does, episodes call that. One whose results depend
    on settings or weight files may offer ``settings() -> dict`` of JSON values, which tell kept detections apart. One
    with an attribute ``turns = True`` is shown turned copies where a face looks wrong (`actfer_env.tools.orientation`).
    One whose `detect` looks several times may offer ``look(image) -> list[Face]``, a single one, for these copies.
    """

    name: str

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        """Return the faces of an RGB image (H, W, 3), in any order; an empty list if there is none.

        The call must be deterministic and must not change the image.

        Args:
            image: RGB picture, uint8 (H, W, 3).

        Returns:
            The faces, with boxes and landmarks in pixels of the image.
        """
        ...


DetectorFactory = Callable[..., Detector]
DETECTORS: Registry[DetectorFactory] = Registry("detector", "actfer_env.detectors", DetectorError)
"""The detectors by name."""


def register_detector(name: str, factory: DetectorFactory, *, replace: bool = False) -> None:
    """Make a detector known by name to every front end, in this process and in workers that it starts.

    Args:
        name: The name, without a colon.
        factory: Called as ``factory()`` or, for the spec ``"name:argument"``, as ``factory(argument)``.
        replace: Allow a name that is taken.

    Raises:
        DetectorError: the name is taken or holds a colon.
    """
    DETECTORS.register(name, factory, replace=replace)


def registered_detectors() -> Mapping[str, DetectorFactory]:
    """Return the registered detectors by name, those of plug-ins among them."""
    return DETECTORS


def make_detector(spec: str | Detector, **kwargs: Any) -> Detector:
    """Build a detector from its spec.

    Args:
        spec: A registered name (``"mtcnn"``), a name with an argument (``"insightface:buffalo_l"``,
            ``"yunet:/models/yunet.onnx"``), or a detector, which is returned as it is.
        **kwargs: passed to the detector's factory.

    Returns:
        The detector.

    Raises:
        DetectorError: the name is unknown, or the detector lacks its extra or weights.
    """
    if not isinstance(spec, str):
        if not callable(getattr(spec, "detect", None)):
            raise DetectorError(
                f"{short(spec)} is no detector: give a spec such as 'mtcnn', or an object with detect()"
            )
        return spec
    name, _, argument = spec.partition(":")
    factory = DETECTORS.find(name)
    if argument and not _takes_argument(factory):
        raise DetectorError(f"detector {name!r} takes no argument: leave out {':' + argument!r}")
    return factory(*([argument] if argument else []), **kwargs)


def _takes_argument(factory: DetectorFactory) -> bool:
    try:
        inspect.signature(factory).bind("argument")
    except TypeError:
        return False
    except ValueError:  # a factory without a signature, such as one written in C
        return True
    return True


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a weight file.

    Args:
        path: The file.

    Returns:
        64 hexadecimal digits.
    """
    with path.open("rb") as handle:
        digest = hashlib.sha256()
        while block := handle.read(2**20):
            digest.update(block)
    return digest.hexdigest()
