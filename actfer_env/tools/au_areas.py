"""Boxes of active Action Units in a picture, and what a policy pointed at: both sides of TAG's AU reward.

TAG (section 4) maps each active Action Unit to its landmarks' region, one box a unit. So does this module. On drawn
faces the landmarks are the renderer's own. On photos they are worked out from the detector's 106 or five points.

Boxes are (x1, y1, x2, y2) as shares of the picture's width and height, x to the right and y down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env.boxes import UNIT, Box, BoxError
from actfer_env.errors import DataError, LabelError, short
from actfer_env.rollout import Rollout
from actfer_env.tools import geometry
from actfer_env.tools.align import Alignment, align
from actfer_env.tools.detectors import Face
from actfer_env.tools.regions import interocular

if TYPE_CHECKING:
    from actfer_env.sample import Sample
    from actfer_env.tools.face_tools import FaceTools

Points = Mapping[str, NDArray[np.float64]]
"""Landmark -> (x, y); left and right are those of the picture."""

MIN_INSIDE = 0.5
"""A unit whose box lies inside the picture by less than this share of its area has no box (chosen here)."""


@dataclass(frozen=True)
class Area:
    """Area where an Action Unit shows: the box around some landmarks of the upright face, with margins.

    Margins are in units of the inter-ocular distance and are chosen here.

    Attributes:
        paired: Landmarks that there are one of on each side, without "left_" or "right_".
        middle: Landmarks of the face's middle.
        side: Margin to the left and to the right.
        above: Margin above.
        below: Margin below.
    """

    paired: tuple[str, ...] = ()
    middle: tuple[str, ...] = ()
    side: float = 0.1
    above: float = 0.1
    below: float = 0.1

    def names(self, sides: Iterable[str]) -> tuple[str, ...]:
        """Return the landmarks for a unit that is active on these sides, "left" and "right"."""
        return (*(f"{side}_{name}" for side in sides for name in self.paired), *self.middle)


_MOUTH = ("upper_lip", "lower_lip")
INNER_BROWS = Area(("inner_brow",), side=0.18, above=0.4, below=0.1)
BROWS = Area(("inner_brow", "outer_brow"), side=0.08, above=0.15, below=0.22)
OUTER_BROWS = replace(BROWS, above=0.4, below=0.1)
EYES = Area(("eye", "upper_lid", "lower_lid"), side=0.3, above=0.15, below=0.15)
CHEEKS = Area(("eye", "lower_lid"), side=0.38, above=0.05, below=0.45)
NOSE_ROOT = Area(("inner_brow",), ("nose",), side=0.12, above=0.05, below=0.15)
NOSTRILS = Area((), ("nose",), side=0.32, above=0.22, below=0.2)
UPPER_LIP = Area(("mouth",), ("nose", "upper_lip"), side=0.08, above=0.0, below=0.08)
LIP_CORNERS = Area(("mouth",), side=0.22, above=0.24, below=0.22)
LIPS = Area(("mouth",), _MOUTH, side=0.1, above=0.14, below=0.14)
LOWER_LIP = Area(("mouth",), ("lower_lip",), side=0.08, above=0.08, below=0.28)
LOWER_CHEEKS = Area(("mouth",), side=0.45, above=0.35, below=0.3)
CHIN = Area((), ("lower_lip", "chin"), side=0.4, above=0.0, below=0.08)
JAW = Area(("mouth",), (*_MOUTH, "chin"), side=0.12, above=0.1, below=0.08)
NECK = Area((), ("chin",), side=0.6, above=0.05, below=0.5)

AU_AREAS: Mapping[int, Area] = MappingProxyType({
    1: INNER_BROWS, 2: OUTER_BROWS, 4: BROWS, **dict.fromkeys((5, 7, 43, 45, 46), EYES), 6: CHEEKS, 9: NOSE_ROOT,
    **dict.fromkeys((38, 39), NOSTRILS), **dict.fromkeys((10, 11), UPPER_LIP),
    **dict.fromkeys((12, 13, 14, 15, 20), LIP_CORNERS),
    **dict.fromkeys((8, 18, 19, 22, 23, 24, 25, 28, 32, 36, 37), LIPS), 16: LOWER_LIP, 17: CHIN,
    **dict.fromkeys((26, 27, 29, 30, 31), JAW), **dict.fromkeys((33, 34, 35), LOWER_CHEEKS), 21: NECK,
})  # fmt: skip
"""Action Unit -> where it shows; finer than `facs.AU_REGIONS`, from the same appearance changes."""


def au_boxes(sample: Sample, tools: FaceTools, aus: Iterable[int] | None) -> dict[str, list[float]]:
    """Return the boxes of a sample's active Action Units.

    A unit that is active on both sides of the face has one box around both; one that the sample's labels name for one
    side alone has the box of that side. Boxes that the sample brings with it (``meta["au_boxes"]``, such as an AU
    detector's) are taken as they are.

    Args:
        sample: The picture.
        tools: Give the alignment of photos.
        aus: The active units; None or an empty set gives no box.

    Returns:
        "AU12" -> [x1, y1, x2, y2], each in [0, 1]; empty where no face is found. Units that lie outside the picture
        are left out.

    Raises:
        ImageError: the picture cannot be read.
        DetectorError: the detector lacks its extra or weights.
        DataError: a box that the sample brings with it is none; one line that names it.
    """
    wanted = sorted(aus or ())
    if not wanted:
        return {}
    return dict(tools.derived(("au_boxes", sample.key, *wanted), lambda: _au_boxes(sample, tools, wanted)))


def _au_boxes(sample: Sample, tools: FaceTools, wanted: Sequence[int]) -> dict[str, list[float]]:
    if sample.meta.get("au_boxes") is not None:
        return _own_boxes(sample, wanted)
    found = _drawn_points(sample, tools) or _photo_points(tools.alignment(sample))
    if found is None:
        return {}
    points, alignment = found
    boxes = {au: _box(AU_AREAS[au].names(sides_of(sample, au)), AU_AREAS[au], points, alignment) for au in wanted}
    return {facs.format_au(au): box for au, box in boxes.items() if box is not None}


def ground(rollout: Rollout, sample: Sample, tools: FaceTools) -> Rollout:
    """Return the rollout with the boxes that `TAGReward` compares, in its `meta`.

    "au_boxes" are those of the target's units. A policy that does not write points with its zooms: their boxes, laid
    into the picture, become "evidence_boxes" (chosen here; TAG's policy writes).

    Args:
        rollout: A finished rollout.
        sample: Its sample.
        tools: Face tools that read the sample.

    Returns:
        A copy of the rollout.
    """
    meta: dict[str, Any] = {"au_boxes": au_boxes(sample, tools, rollout.aus)}
    zoomed = [box for call in rollout.tool_calls if call.violation is None for box in call.boxes]
    if not rollout.texts and "evidence_boxes" not in rollout.meta:
        alignment = tools.alignment(sample) if zoomed else None
        meta["evidence_boxes"] = [] if alignment is None else [_in_picture(box, alignment) for box in zoomed]
    return replace(rollout, meta={**rollout.meta, **meta})


def _own_boxes(sample: Sample, wanted: Sequence[int]) -> dict[str, list[float]]:
    """Return the boxes that a sample brings with it for some units, after a look at each."""
    own, boxes = sample.meta["au_boxes"], dict[str, list[float]]()
    if not isinstance(own, Mapping):
        raise DataError(f"sample {sample.id!r}: au_boxes must map each Action Unit to its box, got {short(own)}")
    for name, box in own.items():
        try:
            au = facs.parse_au(name)
            checked = Box.parse(box, UNIT)
        except (LabelError, BoxError) as error:
            raise DataError(
                f"sample {sample.id!r}: au_boxes[{name!r}] must be [x1, y1, x2, y2] as shares of the picture, in [0, 1]"
            ) from error
        if au in wanted:
            boxes[facs.format_au(au)] = list(checked)
    return boxes


def sides_of(sample: Sample, au: int) -> tuple[str, ...]:
    """Return the sides of the picture on which a unit is active, as far as the sample says.

    Labels (``meta["au_sides"]``) name the person's left and right, drawn samples (``meta["intensities"]``) those of the
    picture.
    """
    name = facs.format_au(au)
    side = _entry(sample.meta.get("au_sides"), name)
    if side in ("L", "R"):
        return ("right",) if side == "L" else ("left",)
    drawn = sample.meta.get("intensities")
    sides = tuple(side for side in ("left", "right") if _entry(_entry(drawn, side), name) is not None)
    return sides or ("left", "right")


def _entry(mapping: Any, key: str) -> Any:
    return mapping.get(key) if isinstance(mapping, Mapping) else None


def _drawn_points(sample: Sample, tools: FaceTools) -> tuple[Points, Alignment] | None:
    """Return the renderer's landmarks in the aligned frame, and the alignment by the true five points."""
    named: Mapping[str, Sequence[float]]
    if sample.landmarks is not None:
        named, (width, height) = sample.landmarks()
    elif sample.annotate is not None and (faces := sample.annotate()):
        named = faces[-1].landmarks  # the labelled face is drawn last
        height, width = tools.image(sample).shape[:2]
    else:
        return None
    pixels = {name: np.asarray(point, np.float64) + 0.5 for name, point in named.items()}
    five = np.array([pixels[name] for name in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")])
    alignment = align([Face((0.0, 0.0, float(width), float(height)), five, 1.0)], (width, height))
    assert alignment is not None
    return {name: geometry.apply(alignment.transform, point[None])[0] for name, point in pixels.items()}, alignment


def _photo_points(alignment: Alignment | None) -> tuple[Points, Alignment] | None:
    """Work the landmarks out from what a detector gives."""
    if alignment is None:
        return None
    left, right, nose, *mouth = geometry.apply(alignment.transform, alignment.landmarks)
    across, lips = right - left, (mouth[0] + mouth[1]) / 2
    down = lips - (left + right) / 2
    points = {"nose": nose, "chin": lips + 0.68 * down}
    points |= {"upper_lip": lips - 0.04 * down, "lower_lip": lips + 0.04 * down}
    for side, eye, corner, inward in (("left", left, mouth[0], across), ("right", right, mouth[1], -across)):
        points |= {
            f"{side}_eye": eye, f"{side}_mouth": corner,
            f"{side}_upper_lid": eye - 0.1 * down, f"{side}_lower_lid": eye + 0.07 * down,
            f"{side}_inner_brow": eye + 0.3 * inward - 0.28 * down,
            f"{side}_outer_brow": eye - 0.22 * inward - 0.28 * down,
        }  # fmt: skip
    dense = alignment.landmarks_106
    return points if dense is None else points | _dense_points(geometry.apply(alignment.transform, dense)), alignment


def _dense_points(points: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the landmarks that InsightFace's 106 points hold; the groups are those of `regions`."""
    found = {"chin": points[:33][points[:33, 1].argmax()]}
    for name, groups in (("brow", (points[43:52], points[97:106])), ("eye", (points[33:43], points[87:97]))):
        for side, group in zip(("left", "right"), sorted(groups, key=lambda g: float(g[:, 0].mean())), strict=True):
            ends = group[group[:, 0].argmin()], group[group[:, 0].argmax()]
            outer, inner = ends if side == "left" else ends[::-1]
            if name == "brow":
                found |= {f"{side}_inner_brow": inner, f"{side}_outer_brow": outer}
            else:
                lids = group[group[:, 1].argmin()], group[group[:, 1].argmax()]
                found |= {f"{side}_eye": group.mean(0), f"{side}_upper_lid": lids[0], f"{side}_lower_lid": lids[1]}
    return found


def _box(names: Sequence[str], area: Area, points: Points, alignment: Alignment) -> list[float] | None:
    """Return the box around some landmarks as shares of the picture, None where it lies outside."""
    around = np.array([points[name] for name in names])
    mouth = (points["left_mouth"] + points["right_mouth"]) / 2
    unit = interocular(points["left_eye"], points["right_eye"], mouth)
    low = around.min(0) - np.array([area.side, area.above]) * unit
    high = around.max(0) + np.array([area.side, area.below]) * unit
    x1, y1, x2, y2 = _in_picture((*low, *high), alignment, clip=False)
    marks = geometry.apply(alignment.inverse, around) / np.asarray(alignment.image_size)  # none is lost to a tilt
    (left, top), (right, bottom) = marks.min(0).tolist(), marks.max(0).tolist()
    box = [min(x1, left), min(y1, top), max(x2, right), max(y2, bottom)]
    inside = [min(max(value, 0.0), 1.0) for value in box]
    shown = (inside[2] - inside[0]) * (inside[3] - inside[1]) / ((box[2] - box[0]) * (box[3] - box[1]))
    return None if shown < MIN_INSIDE else inside


def _in_picture(box: Sequence[float], alignment: Alignment, *, clip: bool = True) -> list[float]:
    """Return a box of the aligned frame as shares of the picture.

    A tilted face has tilted regions. What is laid into the picture is the ellipse in the box, whose bounds do not grow
    with the tilt as those of the box's corners do; for an upright face it is the box itself.
    """
    x1, y1, x2, y2 = box
    linear, size = alignment.inverse[:, :2], np.asarray(alignment.image_size, np.float64)
    middle = geometry.apply(alignment.inverse, [[(x1 + x2) / 2, (y1 + y2) / 2]])[0]
    half = np.hypot(linear[:, 0] * (x2 - x1) / 2, linear[:, 1] * (y2 - y1) / 2)
    shares = np.concatenate([(middle - half) / size, (middle + half) / size]).tolist()
    return [min(max(value, 0.0), 1.0) for value in shares] if clip else shares
