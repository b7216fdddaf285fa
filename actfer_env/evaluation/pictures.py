"""The pictures of a stored episode, redrawn from its source image with the stored transform and boxes.

No detector runs here, so the pictures show what happened, whatever is installed today.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image

from actfer_env.data import Dataset, load_dataset
from actfer_env.errors import ActFERError
from actfer_env.evaluation.run import Run
from actfer_env.render import REGION_COLOURS, box_colour, draw_face, draw_original
from actfer_env.rollout import Rollout, ToolCall
from actfer_env.tools.align import Alignment
from actfer_env.tools.image import RGB
from actfer_env.tools.schema import DETECT_ALIGN, ZOOM_IN
from actfer_env.tools.zoom import ZoomConfig, crop_box

_BROKEN = (ActFERError, OSError, AttributeError, LookupError, TypeError, ValueError)
"""What a changed or foreign source may raise; the report then says so and goes on."""


@dataclass(frozen=True)
class PictureConfig:
    """Sizes in pixels and the quality of the report's pictures; all chosen here.

    Attributes:
        original: long side of the raw image.
        face: side of the aligned face.
        crop: long side of a crop, drawn for people whatever the policy saw.
        quality: JPEG quality.
        episodes: episodes that get pictures (about 100 KB each); later ones are listed without.
    """

    original: int = 448
    face: int = 320
    crop: int = 224
    quality: int = 85
    episodes: int = 400


@dataclass(frozen=True)
class Picture:
    """One picture of the report.

    Attributes:
        kind: "original", "face" or "crop".
        title: what it shows.
        alt: the same for those who cannot see it.
        uri: the JPEG as a data URI.
        size: (width, height) in pixels.
        turn: the turn (from 1) that brought it, or None.
        note: what is worth knowing about it.
        colour: CSS colour of its frame.
    """

    kind: str
    title: str
    alt: str
    uri: str
    size: tuple[int, int]
    turn: int | None = None
    note: str = ""
    colour: str = "transparent"


class Pictures:
    """Draws the pictures of a run's episodes.

    Args:
        run: the stored run; its data set is loaded at once.
        config: sizes.

    Attributes:
        problem: why the data set cannot be loaded, or None.
    """

    def __init__(self, run: Run, config: PictureConfig | None = None) -> None:
        self.config = config or PictureConfig()
        self.problem: str | None = None
        self._dataset: Dataset | None = None
        self._last: tuple[str, RGB] | None = None
        self._drawn = 0
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # said when the run was made
                self._dataset = load_dataset(**run.dataset)
        except _BROKEN as error:
            self.problem = str(error)

    def of(self, rollout: Rollout) -> tuple[list[Picture], str | None]:
        """Return an episode's pictures in order, and what is missing, if anything is."""
        if self._drawn >= self.config.episodes:
            return [], f"left out: only the first {self.config.episodes} episodes have pictures, to keep the file small"
        try:
            image = self._image(rollout.sample_id)
            alignment = stored_alignment(rollout, (image.shape[1], image.shape[0]))
            pictures = list(self._draw(rollout, image, alignment))
        except _BROKEN as error:
            return [], f"the source picture cannot be shown: {error}"
        self._drawn += 1
        lost = alignment is None and rollout.detection in ("ok", "prealigned")
        return pictures, "the rollout does not store how its face was aligned" if lost else None

    def _image(self, sample_id: str) -> RGB:
        if self._dataset is None:
            raise LookupError(self.problem)
        if self._last is None or self._last[0] != sample_id:
            self._last = sample_id, self._dataset[self._dataset.find(sample_id)].image
        return self._last[1]

    def _draw(self, rollout: Rollout, image: RGB, alignment: Alignment | None) -> Iterator[Picture]:
        zooms = [call for call in rollout.tool_calls if call.name == ZOOM_IN and not call.violation]
        boxes = [box for call in zooms for box in call.boxes]
        pixels = f"{image.shape[1]} × {image.shape[0]} px"
        drawn = draw_original(image, alignment, boxes, self.config.original)
        yield self._picture("original", "raw image", f"Raw image of sample {rollout.sample_id}", drawn, note=pixels)
        if alignment is None:
            return
        turn = next((call.turn + 1 for call in rollout.tool_calls if _aligned(call)), None)
        face = draw_face(image, alignment, self.config.face)
        alt = "Aligned face with its four regions outlined"
        yield self._picture("face", "aligned face", alt, face, turn=turn, note=_face_note(alignment))
        for call in zooms:
            yield from self._crops(call, image, alignment)

    def _crops(self, call: ToolCall, image: RGB, alignment: Alignment) -> Iterator[Picture]:
        stored = call.result.get("crops", [])
        for i, box in enumerate(call.boxes):
            details = stored[i] if i < len(stored) else {}
            crop = crop_box(image, alignment, box, details.get("region"), ZoomConfig(size=self.config.crop))
            title = str(crop.region or "free box")
            colour = css_colour(box_colour(alignment, box))
            note = _crop_note(details, crop.native, crop.inside)
            yield self._picture("crop", title, f"Crop of {title}", crop.image, call.turn + 1, note, colour)

    def _picture(
        self, kind: str, title: str, alt: str, pixels: RGB, turn: int | None = None, note: str = "",
        colour: str = "transparent",
    ) -> Picture:  # fmt: skip
        size = (pixels.shape[1], pixels.shape[0])
        return Picture(kind, title, alt, data_uri(pixels, self.config.quality), size, turn, note, colour)


def stored_alignment(rollout: Rollout, image_size: tuple[int, int]) -> Alignment | None:
    """Return the alignment that a rollout stores, or None if it has none.

    Raises:
        ValueError: the picture has another size than the one that was aligned.
    """
    if rollout.detection == "prealigned":
        return Alignment.of_prealigned(image_size)
    call = next((call for call in rollout.tool_calls if _aligned(call)), None)
    if call is None:
        return None
    alignment = Alignment.from_dict(call.result)
    if alignment.image_size != image_size:
        was, now = ("{} × {}".format(*size) for size in (alignment.image_size, image_size))
        raise ValueError(f"it has {now} pixels, but had {was} when the run was made")
    return alignment


def data_uri(pixels: RGB, quality: int) -> str:
    """Return a picture as a JPEG data URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def css_colour(colour: tuple[int, int, int]) -> str:
    """Return an RGB colour in CSS notation."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def legend() -> list[dict[str, str]]:
    """Return the regions with their CSS colours."""
    return [{"name": name, "colour": css_colour(colour)} for name, colour in REGION_COLOURS.items()]


def _aligned(call: ToolCall) -> bool:
    return call.name == DETECT_ALIGN and not call.violation and "transform" in call.result


def _face_note(alignment: Alignment) -> str:
    if alignment.prealigned:
        return "given as an aligned face"
    many = "" if alignment.faces == 1 else f", one of {alignment.faces} faces"
    return f"detector score {alignment.score:.2f}{many}"


def _crop_note(details: dict[str, Any], native: float, inside: float) -> str:
    parts = []
    size = details.get("size")
    if isinstance(size, list) and len(size) == 2:
        parts.append(f"policy saw {size[0]} × {size[1]} px")
    parts.append(_scale_words(1 / native))
    if inside < 0.995:
        parts.append(f"{inside:.0%} inside the picture")
    return ", ".join(parts)


def _scale_words(scale: float) -> str:
    if abs(scale - 1) < 0.05:
        return "at source size"
    return f"magnified\u00a0{scale:.1f}×" if scale > 1 else f"reduced\u00a0{1 / scale:.1f}×"
