"""Pictures that lie on their side or upside down, for every detector that asks for it.

Detectors are trained on upright faces. In other pictures they miss the face, or draw an upright one's landmarks over
it with scores up to 0.99: neither the score nor the landmarks' geometry tells. `find_faces` looks at the pixels below
the landmarks instead. Where they do not look like a face, or where no face is found, turned copies of the picture are
tried, and one of them is taken where its face looks better by a margin. `benchmarks/orientation.py` measures it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from actfer_env.bounds import bounded, check_fields
from actfer_env.errors import DetectorError
from actfer_env.tools import geometry
from actfer_env.tools.detectors.base import Detector, Face, make_detector
from actfer_env.tools.detectors.common import BORDERS, GREY, map_face, resize_long_side
from actfer_env.tools.sampling import sample_box
from actfer_env.tools.template import TEMPLATE

if TYPE_CHECKING:
    from actfer_env.sample import Sample

TURNS = (90, 180, 270)
"""Degrees, clockwise, by which copies of a picture are turned."""

_WINDOW = (0.25, 0.25, 0.75, 0.79)  # of the aligned face: from the middle of the forehead to below the mouth
_HALF = np.array([
    [-0.4, 0.1, 0.6, 0.9, 1.0, 1.1],
    [-0.2, 0.2, 0.3, 0.4, 0.7, 1.0],
    [-0.1, -0.2, -0.5, -0.7, -0.3, 0.6],
    [-0.1, -0.2, -0.8, -1.0, -0.6, 0.4],
    [0.1, 0.2, 0.2, 0.2, 0.2, 0.6],
    [0.2, 0.5, 0.7, 0.7, 0.5, 0.7],
    [0.0, 0.3, 0.6, 0.6, 0.4, 0.6],
    [0.0, 0.0, 0.1, 0.0, -0.2, -0.3],
    [-0.2, -0.1, -0.2, -0.1, -0.3, -0.4],
    [-0.3, -0.2, -0.3, -0.6, -0.8, -0.7],
    [-0.5, -0.4, -0.3, -0.3, -0.4, -0.5],
    [-0.6, -0.6, -0.5, -0.4, -0.2, 0.1],
])  # fmt: skip
"""Brightness of an upright face in rough steps, left half: forehead, bridge of the nose and cheeks light, eyes and
mouth dark. Chosen here; faces of many people and drawn ones share it."""
_FLAT = 2.0  # grey levels: a patch with less contrast is taken for flat


@dataclass(frozen=True)
class OrientationConfig:
    """Conditions under which turned copies are tried, and one is taken; chosen here on turned photos and other ones.

    Attributes:
        sure: Likeness from which a face is taken as it is, without a further look.
        sideways: Likeness below which copies on both sides are tried, not only the one that is upside down.
        least: Likeness that a face of a turned copy must have.
        margin: Margin by which it must be better, likeness and score together.
        tilt: Likeness that a face loses by a roll of 90 degrees.
        score_weight: Worth of a score of 1, in likeness.
        long_side: Longest side of the turned copies, pixels.
        version: Raised where results change; it tells kept detections apart.
    """

    sure: float = bounded(0.5, ge=-1, le=1)
    sideways: float = bounded(0.45, ge=-1, le=1)
    least: float = bounded(0.05, ge=-1, le=1)
    margin: float = bounded(0.1, ge=0)
    tilt: float = bounded(0.5, ge=0)
    score_weight: float = bounded(3.0, ge=0)
    long_side: int = bounded(640, ge=16)
    version: int = bounded(1, ge=1)

    def __post_init__(self) -> None:
        check_fields(self)


ORIENTATION = OrientationConfig()


def _without_light(patch: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take away what the direction of the light does: differences between the sides, and a slope from top to bottom."""
    both = (patch + patch[:, ::-1]) / 2
    height = np.arange(len(patch)) - (len(patch) - 1) / 2
    slope = height @ both.mean(axis=1) / (height @ height)
    return both - both.mean() - slope * height[:, None]


_PATTERN = _without_light(np.hstack([_HALF, _HALF[:, ::-1]]))
_PATTERN = _PATTERN / _PATTERN.std()


def find_faces(detector: Detector, image: NDArray[np.uint8], config: OrientationConfig = ORIENTATION) -> list[Face]:
    """Return the faces of a picture, whichever way up it lies.

    The detector looks at the picture as it is. Only where nothing is found, or where the largest face does not look
    like an upright one, it looks at copies turned by `TURNS` as well.

    Args:
        detector: The detector; only one with an attribute ``turns = True`` is shown turned copies.
        image: RGB uint8 (H, W, 3).
        config: Conditions of turned copies.

    Returns:
        The detector's faces, in coordinates of `image`. The `meta` of those that come from a turned copy says
        ``rotated``: the degrees, clockwise, by which the copy was turned. It says ``certain: false`` where a copy's
        face was as good or better, but not by the margin: which way up the face is stayed open.
    """
    faces = detector.detect(image)
    if not getattr(detector, "turns", False):
        return faces
    seen = likeness(image, faces, config)
    if seen >= config.sure:
        return faces
    small, scale = resize_long_side(image, min(config.long_side, max(image.shape[:2])))
    mine = _merit(faces, seen, config)
    turns = TURNS if seen < config.sideways else (180,)
    # A face that fills the picture is found in copies with a border, at the first look; see `detectors.common.BORDERS`.
    filled = bool(faces) and _area(max(faces, key=_area)) > 0.25 * image.shape[0] * image.shape[1]
    border = round(BORDERS[0] * max(small.shape[:2])) if filled else 0
    look = getattr(detector, "look", detector.detect) if faces else detector.detect
    bordered = np.pad(small, ((border, border), (border, border), (0, 0)), constant_values=GREY)
    turned = [_look(look, bordered, turn, config) for turn in turns]
    merit, turn, found = max(turned, key=lambda one: one[0])
    if merit == -np.inf:
        return faces
    if merit >= mine + config.margin:
        return [map_face(_turn_back(face, turn, bordered.shape), scale, border) for face in found]
    if merit >= mine:
        return [replace(face, meta={**face.meta, "certain": False}) for face in faces]
    return faces


def detect_in(detector: Detector, sample: Sample, image: NDArray[np.uint8]) -> list[Face]:
    """Return the faces of a sample's picture.

    They come from its annotations where the detector reads those, else from the pixels, whichever way up the picture
    lies (see `find_faces`).

    Args:
        detector: The detector.
        sample: The sample.
        image: Its picture, RGB uint8 (H, W, 3).

    Returns:
        The faces, in pixels of the image.
    """
    annotated = getattr(detector, "detect_sample", None)
    found: list[Face] = annotated(sample, image) if annotated else find_faces(detector, image)
    return found


def settings_of(detector: Detector) -> dict[str, Any]:
    """Return JSON values that tell a detector from others: its name, its way with turned pictures, its `settings`."""
    turns = {"orientation": asdict(ORIENTATION)} if getattr(detector, "turns", False) else {}
    own = getattr(detector, "settings", None)
    settings = {"name": detector.name, **turns, **(own() if callable(own) else {})}
    found: dict[str, Any] = json.loads(json.dumps(settings))
    return found


def likeness(image: NDArray[np.uint8], faces: Sequence[Face], config: OrientationConfig = ORIENTATION) -> float:
    """Return how much the largest face looks like an upright one, its landmarks taken as true.

    It is the correlation, in [-1, 1], of the aligned face with the brightness that upright faces have in common, less
    `OrientationConfig.tilt` for its roll; -1 where there is no face, or its landmarks cannot be aligned.

    Args:
        image: RGB picture, uint8 (H, W, 3).
        faces: Faces in it.
        config: Settings.
    """
    if not faces:
        return -1.0
    face = max(faces, key=_area)
    try:
        transform = geometry.similarity(face.landmarks, TEMPLATE.points)
    except ValueError:
        return -1.0
    if not 1e-9 < geometry.scale_of(transform) < 1e9:
        return -1.0
    side = len(_PATTERN)
    drawn = cv2.cvtColor(sample_box(image, transform, _WINDOW, (side, side)), cv2.COLOR_RGB2GRAY)
    patch = _without_light(drawn.astype(np.float64))
    roll = abs(np.arctan2(transform[1, 0], transform[0, 0])) / (np.pi / 2)
    return float((patch * _PATTERN).mean() / max(float(patch.std()), _FLAT) - config.tilt * roll)


class UnturnedDetector:
    """A detector that sees each picture as it is alone, known by name as "unturned:DETECTOR".

    Args:
        detector: The detector or its spec.

    Raises:
        DetectorError: no detector is named, it is unknown, or it lacks its extra or weights.
    """

    turns = False

    def __init__(self, detector: str | Detector = "") -> None:
        if not detector:
            raise DetectorError("detector 'unturned' needs another one behind a colon, such as 'unturned:mtcnn'")
        self.inner = make_detector(detector)
        self.name = f"unturned:{self.inner.name}"

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        """Return the detector's faces of an RGB image (H, W, 3)."""
        return self.inner.detect(image)

    def detect_sample(self, sample: Sample, image: NDArray[np.uint8]) -> list[Face]:
        """Return the faces of a sample, from the drawing where it is drawn and the detector reads that."""
        annotated = None if sample.annotate is None else getattr(self.inner, "detect_sample", None)
        found: list[Face] = annotated(sample, image) if annotated else self.inner.detect(image)
        return found

    def settings(self) -> dict[str, Any]:
        """Return those of the detector, as JSON values."""
        return {"unturned": {**settings_of(self.inner), "orientation": None}}


def _look(
    look: Callable[[NDArray[np.uint8]], list[Face]], small: NDArray[np.uint8], turn: int, config: OrientationConfig
) -> tuple[float, int, list[Face]]:
    """Detect in a turned copy; the merit is -inf where no face in it looks like one."""
    copy = np.ascontiguousarray(np.rot90(small, -turn // 90))
    faces = look(copy)
    seen = likeness(copy, faces, config)
    return (_merit(faces, seen, config) if seen >= config.least else -np.inf), turn, faces


def _merit(faces: Sequence[Face], seen: float, config: OrientationConfig) -> float:
    return seen + config.score_weight * max(faces, key=_area).score if faces else -np.inf


def _turn_back(face: Face, turn: int, shape: tuple[int, ...]) -> Face:
    """Return a face of a turned copy in coordinates of the picture of this shape that was turned."""
    height, width = shape[:2]
    back = np.array({
        90: [[0, 1, 0], [-1, 0, height]],
        180: [[-1, 0, width], [0, -1, height]],
        270: [[0, -1, width], [1, 0, 0]],
    }[turn], np.float64)  # fmt: skip
    corners = geometry.apply(back, np.reshape(face.box, (2, 2)))
    (x1, y1), (x2, y2) = corners.min(0).tolist(), corners.max(0).tolist()
    dense = None if face.landmarks_106 is None else geometry.apply(back, face.landmarks_106)
    return replace(
        face, box=(x1, y1, x2, y2), landmarks=geometry.apply(back, face.landmarks), landmarks_106=dense,
        meta={**face.meta, "rotated": turn},
    )  # fmt: skip


def _area(face: Face) -> float:
    x1, y1, x2, y2 = face.box
    return max(x2 - x1, 0.0) * max(y2 - y1, 0.0)
