"""face-detect-align: find the face, bring it upright and to size, and name its four regions (ActFER 3.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from actfer_env.boxes import Box
from actfer_env.errors import DetectorError, ImageError, short
from actfer_env.images import RGB, ImageSource, load_image
from actfer_env.tools import geometry
from actfer_env.tools.detectors import Detector, Face, make_detector
from actfer_env.tools.orientation import find_faces
from actfer_env.tools.regions import region_boxes
from actfer_env.tools.sampling import sample_box
from actfer_env.tools.template import TEMPLATE, FaceTemplate

FaceChoice: TypeAlias = int | tuple[float, float] | Literal["largest"]
"""Choice of a face: the largest (near ties go to the one nearest the centre), an index in order of size, or the face
whose box holds, or else lies nearest to, a point (x, y) in pixels."""


DEFAULT_SIZE = 224
"""Side of the aligned face in pixels, for people and vision-language models (a usual input size of FER models)."""
TIE_SHARE = 0.95
"""Faces whose area is at least this share of the largest one's count as equally large (chosen here)."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """A detected face and the transform that aligns it.

    Attributes:
        transform: (2, 3), maps pixels of the original image into the aligned frame, the unit square.
        landmarks: (5, 2) in pixels of the original.
        box: The detector's box (x1, y1, x2, y2) in pixels of the original.
        score: The detector's confidence in [0, 1].
        faces: Number of faces that were found.
        index: Place of this one among them, in order of size from 0.
        image_size: (width, height) of the original.
        landmarks_106: (106, 2) in pixels of the original, or None.
        prealigned: The sample was an aligned face already, and nothing was detected.
        rotated: Degrees, clockwise, by which the picture was turned for the detector to find this face: 0, 90, 180
            or 270. All coordinates are those of the picture as it was given.
        certain: False where the aligned face does not look like an upright one, and no turned copy of the picture
            showed a better one: its landmarks and regions may be wrong.
        face: The aligned face, uint8 (size, size, 3), where one was drawn.
    """

    transform: NDArray[np.float64]
    landmarks: NDArray[np.float64]
    box: Box
    score: float
    faces: int
    index: int
    image_size: tuple[int, int]
    landmarks_106: NDArray[np.float64] | None = None
    prealigned: bool = False
    rotated: int = 0
    certain: bool = True
    face: RGB | None = field(default=None, repr=False)

    @cached_property
    def inverse(self) -> NDArray[np.float64]:
        """(2, 3), maps the aligned frame back to pixels of the original."""
        return geometry.invert(self.transform)

    @cached_property
    def scale(self) -> float:
        """Length of one pixel of the original in the aligned frame."""
        return geometry.scale_of(self.transform)

    @cached_property
    def roll(self) -> float:
        """Degrees in (-180, 180] by which the face is turned in the picture, clockwise; 0 is upright."""
        return float(np.degrees(np.arctan2(self.inverse[1, 0], self.inverse[0, 0])))

    @property
    def upright(self) -> bool | None:
        """True if the face stands nearer to upright than to lying on its side; None where that is not certain."""
        return abs(self.roll) < 45 if self.certain else None

    @cached_property
    def regions(self) -> dict[str, Box]:
        """The four regions as boxes in the aligned frame, each coordinate in [0, 1]."""
        dense = self.landmarks_106
        return region_boxes(
            geometry.apply(self.transform, self.landmarks),
            None if dense is None else geometry.apply(self.transform, dense),
        )

    @cached_property
    def region_corners(self) -> NDArray[np.float32]:
        """The boxes of `regions` as an array (4, 4), in their order."""
        return np.array(list(self.regions.values()), np.float32)

    @property
    def regions_original(self) -> dict[str, NDArray[np.float64]]:
        """The four regions as quadrilaterals (4, 2) in pixels of the original, clockwise from the top left."""
        return {name: self.to_original(box) for name, box in self.regions.items()}

    def to_original(self, box: Sequence[float]) -> NDArray[np.float64]:
        """Return the quadrilateral (4, 2) that a box of the aligned frame covers in the original.

        Args:
            box: Box (x1, y1, x2, y2) in the aligned frame, shares in [0, 1].

        Returns:
            The corners in pixels of the original, clockwise from the top left.
        """
        return geometry.apply(self.inverse, geometry.corners(box))

    def draw(self, image: RGB, size: int = DEFAULT_SIZE) -> RGB:
        """Return the aligned face, uint8 (size, size, 3), sampled once from the original image.

        Args:
            image: The original, RGB uint8 (H, W, 3).
            size: Side of the result, pixels.

        Returns:
            The face, RGB.
        """
        return sample_box(image, self.transform, (0.0, 0.0, 1.0, 1.0), (size, size))

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the pictures as JSON values; lists and dicts inside are shared between calls."""
        return dict(self._dict)

    @cached_property
    def _dict(self) -> dict[str, Any]:
        return {
            "faces": self.faces, "index": self.index, "score": round(float(self.score), 6),
            "box": [float(v) for v in self.box], "landmarks": self.landmarks.tolist(),
            "landmarks_106": None if self.landmarks_106 is None else self.landmarks_106.tolist(),
            "transform": self.transform.tolist(), "image_size": list(self.image_size),
            "prealigned": self.prealigned,
            "rotated": self.rotated, "roll": round(self.roll, 3), "upright": self.upright,
            "regions": {name: list(box) for name, box in self.regions.items()},
            "regions_original": {name: quad.tolist() for name, quad in self.regions_original.items()},
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Alignment:
        """Rebuild an alignment from `to_dict`.

        Args:
            data: JSON values that `to_dict` returned.

        Returns:
            The same alignment.
        """
        dense = data.get("landmarks_106")
        return cls(
            transform=np.array(data["transform"]), landmarks=np.array(data["landmarks"]), box=Box(*data["box"]),
            score=data["score"], faces=data["faces"], index=data["index"],
            image_size=(data["image_size"][0], data["image_size"][1]),
            landmarks_106=None if dense is None else np.array(dense), prealigned=data.get("prealigned", False),
            rotated=data.get("rotated", 0), certain=data.get("upright", True) is not None,
        )  # fmt: skip

    @classmethod
    def of_prealigned(cls, image_size: tuple[int, int], template: FaceTemplate = TEMPLATE) -> Alignment:
        """Return the alignment of a picture that is an aligned face: it fills the frame, regions are the template's.

        Args:
            image_size: Width and height of the picture, pixels.
            template: Positions of the five landmarks.
        """
        width, height = image_size
        scale = 1.0 / max(width, height)
        shift = ((1 - width * scale) / 2, (1 - height * scale) / 2)
        transform = np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])
        landmarks = geometry.apply(geometry.invert(transform), template.points)
        box = Box(0.0, 0.0, float(width), float(height))
        return cls(transform, landmarks, box, 1.0, 1, 0, image_size, prealigned=True)


def detect_align(
    image: ImageSource,
    detector: str | Detector = "mtcnn",
    *,
    size: int = DEFAULT_SIZE,
    face: FaceChoice = "largest",
    template: FaceTemplate = TEMPLATE,
) -> Alignment | None:
    """Detect the faces of an image and align one of them.

    Args:
        image: Path, bytes, PIL image or array; see `load_image`.
        detector: A detector, or the spec of one (``"mtcnn"``, ``"insightface:buffalo_l"``, ``"yunet:FILE"``).
        size: Side of the aligned face in pixels, 16 to 4096.
        face: Choice of the face; see `FaceChoice`.
        template: Positions of the five points in the aligned face.

    Returns:
        The alignment with its `face` drawn, or None if no face was found.

    Raises:
        ImageError: the image cannot be read.
        DetectorError: the detector is unknown, lacks its weights, or the face asked for does not exist.

    Example:
        >>> from skimage.data import astronaut
        >>> aligned = detect_align(astronaut())
        >>> aligned.face.shape, list(aligned.regions)[0]
        ((224, 224, 3), 'forehead-eyebrow')
    """
    check_size(size)
    pixels = load_image(image)
    alignment = align(find_faces(make_detector(detector), pixels), _size(pixels), face=face, template=template)
    return None if alignment is None else replace(alignment, face=alignment.draw(pixels, size))


def detect_align_batch(
    images: Iterable[ImageSource],
    detector: str | Detector = "mtcnn",
    *,
    on_error: Literal["raise", "return"] = "raise",
    **options: Any,
) -> list[Alignment | ImageError | None]:
    """Apply `detect_align` to many images with one detector.

    Args:
        images: Images that `detect_align` takes.
        detector: A detector or its spec; built once.
        on_error: "return" puts an unreadable image's `ImageError` into the list instead of raising it.
        **options: passed to `detect_align`.

    Returns:
        One entry an image, in order.
    """
    built = make_detector(detector)
    results: list[Alignment | ImageError | None] = []
    for image in images:
        try:
            results.append(detect_align(image, built, **options))
        except ImageError as error:
            if on_error == "raise":
                raise
            results.append(error)
    return results


def align(
    faces: Sequence[Face],
    image_size: tuple[int, int],
    *,
    face: FaceChoice = "largest",
    template: FaceTemplate = TEMPLATE,
) -> Alignment | None:
    """Choose one of the detected faces and return its alignment.

    Args:
        faces: Faces that a detector returned for the image.
        image_size: (width, height) in pixels.
        face: Choice of the face.
        template: Positions of the five points in the aligned face.

    Returns:
        The alignment without a drawn face, or None for an empty list.

    Raises:
        DetectorError: the index is beyond the number of faces, or the chosen face's points are degenerate.
    """
    if not faces:
        return None
    ordered = sorted(faces, key=lambda f: -_area(f))
    index = _choose(ordered, image_size, face)
    chosen = ordered[index]
    try:
        # Sums depend on the memory's layout in their last bit; landmarks that were stored come back in C order.
        points = np.ascontiguousarray(chosen.landmarks, np.float64)
        transform = geometry.similarity(points, template.points)
    except ValueError as error:
        raise DetectorError(f"the detector's landmarks cannot be aligned: {error}") from error
    return Alignment(
        transform=transform, landmarks=points,
        box=Box(*map(float, chosen.box)), score=float(chosen.score), faces=len(faces), index=index,
        image_size=image_size, landmarks_106=chosen.landmarks_106,
        rotated=chosen.meta.get("rotated", 0), certain=chosen.meta.get("certain", True),
    )  # fmt: skip


def check_size(size: int, name: str = "size") -> None:
    """Refuse a picture side outside 16 to 4096 pixels with a `ValueError`.

    Args:
        size: Side, pixels.
        name: Name of the argument in the message.

    Raises:
        ValueError: it lies outside.
    """
    if not isinstance(size, Integral) or not 16 <= size <= 4096:
        raise ValueError(f"{name} is {short(size)}; it must be a whole number between 16 and 4096 pixels")


def _size(image: RGB) -> tuple[int, int]:
    return image.shape[1], image.shape[0]


def _area(face: Face) -> float:
    x1, y1, x2, y2 = face.box
    return max(x2 - x1, 0.0) * max(y2 - y1, 0.0)


def _choose(ordered: list[Face], image_size: tuple[int, int], choice: FaceChoice) -> int:
    if isinstance(choice, int | np.integer):
        if not 0 <= choice < len(ordered):
            raise DetectorError(f"face {choice} was asked for, but {len(ordered)} found: use 0 to {len(ordered) - 1}")
        return int(choice)
    if isinstance(choice, str) and choice == "largest":
        candidates = [i for i, f in enumerate(ordered) if _area(f) >= TIE_SHARE * _area(ordered[0])]
        return min(candidates, key=lambda i: _distance(ordered[i], (image_size[0] / 2, image_size[1] / 2)))
    if isinstance(choice, str) or not hasattr(choice, "__len__") or len(choice) != 2:
        raise DetectorError(f"unknown face {short(choice)}: use 'largest', an index, or a point (x, y) in pixels")
    point = choice
    holds = [f.box[0] <= point[0] <= f.box[2] and f.box[1] <= point[1] <= f.box[3] for f in ordered]
    return min(range(len(ordered)), key=lambda i: (not holds[i], _distance(ordered[i], point)))


def _distance(face: Face, point: tuple[float, float]) -> float:
    centre = ((face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2)
    return float(np.hypot(centre[0] - point[0], centre[1] - point[1]))
