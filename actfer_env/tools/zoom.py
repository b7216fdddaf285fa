"""zoom-in: magnified crops of regions, straight from the original image (ActFER 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np

from actfer_env import facs
from actfer_env.bounds import bounded, check_fields
from actfer_env.boxes import UNIT, Box, BoxError, bounds_text, iou
from actfer_env.errors import ImageError, short
from actfer_env.images import RGB, ImageSource, load_image
from actfer_env.tools import geometry
from actfer_env.tools.align import Alignment, check_size
from actfer_env.tools.sampling import sample_box
from actfer_env.tools.wire import Wire, box_list


@dataclass(frozen=True)
class ZoomConfig:
    """Constants of zoom-in; all chosen here.

    Attributes:
        size: Long side of a crop in pixels; the other follows the box.
        stretch: Make every crop a square of `size` instead (for observations of fixed shape).
        padding: Added around a box on each side, as a share of its width and height.
        min_side: Smallest side of a box in the aligned frame; a smaller box grows around its centre.
        tolerance: Distance by which a coordinate may lie outside the frame; it is clipped then, beyond it is an error.
        repeat_iou: Two boxes that overlap this much (intersection over union) count as the same.
    """

    size: int = bounded(224, ge=16, le=4096)
    stretch: bool = False
    padding: float = bounded(0.0, ge=0)
    min_side: float = bounded(0.05, ge=0, le=1)
    tolerance: float = bounded(0.02, ge=0)
    repeat_iou: float = bounded(0.95, ge=0, le=1)

    def __post_init__(self) -> None:
        check_fields(self)


ZOOM = ZoomConfig()
SHARES = Wire()
FRAMES = ("face", "original")
"""The pictures that a box may refer to."""
SHARES_UP_TO = 1.5
"""In coordinates of 1000 or of pixels, a box without a larger number was meant in shares (chosen here): nobody asks for
a pixel or two, and obeying would show a corner."""


@dataclass(frozen=True)
class Crop:
    """One magnified crop.

    Attributes:
        image: uint8 (height, width, 3).
        box: Box that it shows, in the aligned frame.
        inside: Share of the box, in [0, 1], that lies inside the original image.
        native: Source pixels per crop pixel; below 1 the crop holds fewer details than it has pixels.
        region: The region's name, or None for a free box.
    """

    image: RGB
    box: Box
    inside: float
    native: float
    region: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the picture as JSON values; the lists are shared between calls."""
        return dict(self._dict)

    @cached_property
    def _dict(self) -> dict[str, Any]:
        return {"region": self.region, "box": list(self.box), "inside": self.inside, "native": self.native,
                "size": [self.image.shape[1], self.image.shape[0]]}  # fmt: skip


def zoom_in(
    image: ImageSource,
    alignment: Alignment,
    regions: str | Sequence[str] | None = None,
    boxes: Sequence[Any] | None = None,
    frame: str = "face",
    config: ZoomConfig = ZOOM,
) -> list[Crop]:
    """Magnify regions of an aligned face.

    The pixels come from the original image through the inverse alignment, so a crop shows detail that the aligned
    face has lost, and none where the original has none.

    Args:
        image: The original image, as given to `detect_align`.
        alignment: Alignment that `detect_align` returned for it.
        regions: Names from `facs.REGIONS` (any known spelling), or one name.
        boxes: Boxes (x1, y1, x2, y2), or one box, as shares of the picture that `frame` names.
        frame: Picture that the boxes refer to: "face" (the aligned face, the default) or "original" (the whole image).
        config: Size and limits.

    Returns:
        One crop for each region and then for each box, in order.

    Raises:
        BoxError: no region or box, or one that is malformed, empty, inverted or outside the face.
        LabelError: an unknown region.
        ImageError: the image cannot be read, or has another size than the one that was aligned.

    Example:
        >>> from skimage.data import astronaut
        >>> from actfer_env.tools import detect_align
        >>> crop, = zoom_in(astronaut(), detect_align(astronaut()), "mouth-chin")
        >>> crop.region, max(crop.image.shape)
        ('mouth-chin', 224)
    """
    check_size(config.size)
    pixels = load_image(image)
    found, size = (pixels.shape[1], pixels.shape[0]), tuple(alignment.image_size)
    if found != size:
        raise ImageError(
            f"the image has {found[0]} x {found[1]} pixels, the aligned one had {size[0]} x {size[1]}: "
            "give the original image that detect_align was given"
        )
    return [
        crop_box(pixels, alignment, box, name, config)
        for name, box in resolve(alignment, regions, boxes, frame, config)
    ]


def resolve(
    alignment: Alignment, regions: Any = None, boxes: Any = None, frame: Any = "face", config: ZoomConfig = ZOOM,
    wire: Wire = SHARES,
) -> list[tuple[str | None, Box]]:  # fmt: skip
    """Check what a caller asks for and return it as (region or None, box in the aligned frame).

    Args:
        alignment: Alignment of the face.
        regions: Regions as `zoom_in` takes them.
        boxes: Boxes as `zoom_in` takes them, as `wire` writes them.
        frame: Frame as `zoom_in` takes it.
        config: Size and limits.
        wire: The caller's coordinates; messages speak them too.

    Raises:
        BoxError: as `zoom_in`.
        LabelError: an unknown region.
    """
    if frame not in FRAMES:
        raise BoxError(f"image {short(frame)} is unknown: boxes refer to 'face' or to 'original'")
    if regions is not None and not isinstance(regions, str | list | tuple):
        raise BoxError(f"regions must be a list of names, not {short(regions)}")
    names = ([regions] if regions else []) if isinstance(regions, str) else regions or ()
    found: list[tuple[str | None, Box]] = [
        (name, zoom_regions(alignment, config)[name]) for name in map(facs.parse_region, names)
    ]
    for box in box_list(boxes):
        if frame == "original":
            found.append((None, check_box(_to_face(box, alignment, wire.extent(frame)), config)))
        else:
            found.append((None, check_box(box, config, wire.extent(frame))))
    if not found:
        raise BoxError(f"zoom_in needs regions (from {', '.join(facs.REGIONS)}) or boxes (x1, y1, x2, y2)")
    return found


@lru_cache(maxsize=2048)
def zoom_regions(alignment: Alignment, config: ZoomConfig = ZOOM) -> Mapping[str, Box]:
    """Return the checked boxes of the four regions; kept, as every member of a query group asks for them."""
    return MappingProxyType({name: check_box(box, config) for name, box in alignment.regions.items()})


@lru_cache(maxsize=2048)
def repeated_regions(alignment: Alignment, box: Box, config: ZoomConfig = ZOOM) -> frozenset[str]:
    """Return the regions whose boxes count as the same as `box`."""
    return frozenset(name for name, other in zoom_regions(alignment, config).items() if is_repeat(other, [box], config))


def check_box(
    box: Any, config: ZoomConfig = ZOOM, extent: tuple[float, float] = UNIT, picture: str = "aligned face"
) -> Box:
    """Return a box as shares of its picture, padded, clipped to [0, 1] and grown to the smallest side.

    Args:
        box: (x1, y1, x2, y2) in the coordinates of `extent`.
        config: Limits.
        extent: Width and height of the picture in the caller's coordinates; messages speak them too.
        picture: The picture's name in messages.

    Raises:
        BoxError: wrong arity, not numbers, not finite, inverted or empty, outside the picture, or written in shares
            of the picture where `extent` is another.
    """
    written = Box.parse(box)
    if min(extent) > SHARES_UP_TO and max(abs(written.x1), abs(written.y1), written.x2, written.y2) <= SHARES_UP_TO:
        meant = ", ".join(f"{value:.0f}" for value in written.scaled(extent))
        raise BoxError(
            f"{written.words} seems to be in shares of the {picture}: {bounds_text(extent)}, so write ({meant})"
        )
    x1, y1, x2, y2 = shares = written.shares(extent)
    if not shares.is_within(config.tolerance):
        raise BoxError(f"{written.words} lies outside the {picture}: {bounds_text(extent)}")
    (left, right), (top, bottom) = _fit(x1, x2, config), _fit(y1, y2, config)
    return Box(left, top, right, bottom)


def crop_box(image: RGB, alignment: Alignment, box: Box, region: str | None = None, config: ZoomConfig = ZOOM) -> Crop:
    """Draw one checked box.

    Args:
        image: The original, RGB uint8 (H, W, 3).
        alignment: Alignment of its face.
        box: Box in the aligned frame, as `check_box` returns it.
        region: Name of the region that the box is, or None.
        config: Size of the crop.

    Returns:
        The crop, with its picture uint8 (h, w, 3).
    """
    width, height = box[2] - box[0], box[3] - box[1]
    longest = max(width, height)
    size = max(round(config.size * width / longest), 1), max(round(config.size * height / longest), 1)
    if config.stretch:
        size = config.size, config.size
    inside = geometry.polygon_overlap(geometry.corners_under(alignment.inverse.tolist(), box), *alignment.image_size)
    native = width / alignment.scale / size[0]
    return Crop(sample_box(image, alignment.transform, box, size), box, round(inside, 6), round(native, 6), region)


def is_repeat(box: Box, earlier: Sequence[Box], config: ZoomConfig = ZOOM) -> bool:
    """Tell whether a box was zoomed into before, up to `config.repeat_iou`.

    Args:
        box: Box in the aligned frame.
        earlier: Boxes in the aligned frame.
        config: Its `repeat_iou` says from what overlap on two boxes are the same.
    """
    return any(iou(box, other) >= config.repeat_iou for other in earlier)


def _to_face(box: Any, alignment: Alignment, extent: tuple[float, float]) -> Box:
    """Return the upright box of the aligned frame around a box of the original, clipped to the face."""
    width, height = alignment.image_size
    pixels = check_box(box, ZoomConfig(min_side=0.0), extent, "original image").scaled((width, height))
    quad = geometry.apply(alignment.transform, geometry.corners(pixels))
    low, high = quad.min(0), quad.max(0)
    if (high <= 0).any() or (low >= 1).any():
        raise BoxError(f"box {short(box)} of the original image does not meet the aligned face")
    low, high = np.clip(low, 0, 1), np.clip(high, 0, 1)
    return Box(float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def _fit(low: float, high: float, config: ZoomConfig) -> tuple[float, float]:
    """Pad, clip to the frame, and grow to the smallest side without leaving the frame."""
    pad = config.padding * (high - low)
    low, high = max(low - pad, 0.0), min(high + pad, 1.0)
    if high - low >= config.min_side:
        return low, high
    start = min(max((low + high - config.min_side) / 2, 0.0), 1.0 - config.min_side)
    return start, start + config.min_side
