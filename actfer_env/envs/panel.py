"""Pictures of an episode: the original with its boxes, the aligned face with its regions, and the whole panel."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from actfer_env import facs
from actfer_env.episode import Episode, State
from actfer_env.images import RGB, font
from actfer_env.tools.align import Alignment

if TYPE_CHECKING:
    from actfer_env.rewards import Scores

Colour = tuple[int, int, int]

REGION_COLOURS: Mapping[str, Colour] = dict(
    zip(facs.REGIONS, ((242, 166, 60), (78, 170, 240), (150, 205, 90), (232, 96, 120)), strict=True)
)
"""Region -> RGB colour, the same in every picture and in the report."""
BOX_COLOUR: Colour = (190, 150, 255)
"""Colour of free boxes."""

NOBODY_LOOKED = "the tools were played by a script; nobody read the faces"
"""Said wherever an answer is that of a script that does not look at pictures."""

_FRAMES = 36
"""Crops that a panel has room for; of more, the last ones are drawn."""
_logger = logging.getLogger(__name__)


def draw_original(
    image: RGB, alignment: Alignment | None, zoomed: Iterable[Sequence[float]] = (), side: int = 480
) -> RGB:
    """Return the original, fitted into `side` pixels, with the detector's box, points and the zoomed boxes.

    Args:
        image: RGB picture, uint8 (H, W, 3).
        alignment: Alignment of its face, or None.
        zoomed: Boxes that were magnified, in the aligned frame.
        side: Long side of the result, pixels.

    Returns:
        The picture, RGB uint8 (h, w, 3).
    """
    scale = side / max(image.shape[:2])
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    picture = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if alignment is None or alignment.prealigned:
        return np.asarray(picture, np.uint8)
    thick = max(round(side / 240), 1)
    _outline(picture, alignment.to_original((0, 0, 1, 1)) * scale, (255, 255, 255), thick)
    for box in zoomed:
        _outline(picture, alignment.to_original(box) * scale, box_colour(alignment, box), thick)
    for x, y in alignment.landmarks * scale:
        cv2.circle(picture, (round(x), round(y)), max(round(side / 160), 1), (60, 255, 120), -1, cv2.LINE_AA)
    return np.asarray(picture, np.uint8)


def draw_face(image: RGB, alignment: Alignment, side: int = 224) -> RGB:
    """Return the aligned face with its four regions outlined in their colours, uint8 (side, side, 3).

    Args:
        image: RGB picture, uint8 (H, W, 3).
        alignment: Alignment of its face.
        side: Side of the result, pixels.
    """
    picture = alignment.draw(image, side)
    for name, box in alignment.regions.items():
        quad = np.array([[box[0], box[1]], [box[2], box[1]], [box[2], box[3]], [box[0], box[3]]])
        _outline(picture, quad * side, REGION_COLOURS[name], max(round(side / 160), 1))
    return picture


def box_colour(alignment: Alignment, box: Sequence[float]) -> Colour:
    """Return a region's colour for that region's box, else the colour of free boxes.

    Args:
        alignment: Alignment of the face.
        box: Box (x1, y1, x2, y2) in the aligned frame, shares in [0, 1].

    Returns:
        The colour, RGB from 0 to 255.
    """
    for name, region in alignment.regions.items():
        if np.allclose(region, box, atol=1e-6):
            return REGION_COLOURS[name]
    return BOX_COLOUR


def show_window(panel: RGB | None, fps: float = 2.0) -> None:
    """Show a panel in a window, or close the window with None; without a display, say so once in the log.

    Args:
        panel: Picture, RGB uint8 (H, W, 3); None closes the window.
        fps: Frames a second: how long the picture is waited for.
    """
    if not _has_display():
        if panel is not None:
            _warn_no_display()
        return
    try:
        if panel is None:
            if cv2.getWindowProperty("actfer_env", cv2.WND_PROP_VISIBLE) > 0:
                cv2.destroyWindow("actfer_env")
            return
        cv2.imshow("actfer_env", cv2.cvtColor(panel, cv2.COLOR_RGB2BGR))
        cv2.waitKey(max(int(1000 / fps), 1))
    except cv2.error:
        _warn_no_display()


@dataclass(frozen=True)
class Panel:
    """The one picture that shows a whole episode so far.

    Attributes:
        width: Pixels.
        height: Pixels.
        background: Colour behind everything.
        ink: Colour of text.
        faint: Colour of secondary text and of empty frames.
    """

    width: int = 960
    height: int = 540
    background: Colour = (24, 26, 32)
    ink: Colour = (238, 240, 244)
    faint: Colour = (132, 138, 150)

    def draw(self, episode: Episode, scores: Scores | None = None, place: int = 0) -> RGB:
        """Return the panel, uint8 (height, width, 3).

        Args:
            episode: Running or finished.
            scores: Scores that hold the finished episode's.
            place: The episode's place in them.

        Returns:
            The panel, RGB.
        """
        canvas = Image.new("RGB", (self.width, self.height), self.background)
        pen = ImageDraw.Draw(canvas)
        image = episode.tools.image(episode.sample)
        self._original(canvas, pen, image, episode)
        self._face(canvas, pen, image, episode)
        self._crops(canvas, pen, episode)
        self._log(pen, episode)
        self._verdict(pen, episode, None if scores is None else scores.terms(place))
        return np.asarray(canvas, np.uint8).copy()

    def _original(self, canvas: Image.Image, pen: ImageDraw.ImageDraw, image: RGB, episode: Episode) -> None:
        self._title(pen, (16, 12), "raw image", episode.sample.id)
        picture = draw_original(image, episode.alignment, episode.zoomed_boxes, 296)
        _paste(canvas, picture, (16, 36, 312, 332))

    def _face(self, canvas: Image.Image, pen: ImageDraw.ImageDraw, image: RGB, episode: Episode) -> None:
        note = "" if episode.alignment is None else f"score {episode.alignment.score:.2f}"
        self._title(pen, (328, 12), "aligned face", note)
        frame = (328, 36, 624, 332)
        if episode.alignment is not None:
            _paste(canvas, draw_face(image, episode.alignment, 296), frame)
            return
        pen.rectangle(frame, outline=self.faint)
        state = "no face found" if episode.view is State.NO_FACE else "not detected yet"
        pen.text((476, 184), state, fill=self.faint, font=font(15), anchor="mm")

    def _crops(self, canvas: Image.Image, pen: ImageDraw.ImageDraw, episode: Episode) -> None:
        most = episode.config.max_zooms
        self._title(pen, (640, 12), "zoomed", f"{len(episode.crops)} of {most}")
        shown = min(most, _FRAMES)
        columns = math.ceil(math.sqrt(shown))
        rows = math.ceil(shown / max(columns, 1))
        width, height = (300 - 8 * (columns - 1)) // max(columns, 1), (296 - 6 * (rows - 1)) // max(rows, 1)
        crops = episode.crops[max(len(episode.crops) - shown, 0) :]
        for i in range(shown):
            x, y = 640 + (i % columns) * (width + 8), 36 + (i // columns) * (height + 6)
            frame = (x, y, x + width, y + height)
            pen.rectangle(frame, outline=self.faint)
            if i < len(crops):
                crop = crops[i]
                _paste(canvas, _natural(crop.image, crop.box, width), frame)
                colour = box_colour(episode.alignment, crop.box) if episode.alignment else self.ink
                pen.rectangle(frame, outline=colour, width=2)
                pen.text(
                    (x + 6, y + 4),
                    crop.region or "box",
                    fill=colour,
                    font=font(12),
                    stroke_width=2,
                    stroke_fill=(0, 0, 0),
                )

    def _log(self, pen: ImageDraw.ImageDraw, episode: Episode) -> None:
        self._title(pen, (16, 344), "calls", f"turn {episode.turn} of {episode.config.max_turns}")
        for i, call in enumerate(episode.calls[-7:]):
            regions = call.arguments.get("regions", "")
            what = ", ".join(map(str, regions)) if isinstance(regions, list) else regions
            text = f"{call.turn + 1}  {call.name}  {what or ('box' if call.boxes else '')}"
            colour = (255, 120, 110) if call.violation else self.ink
            pen.text((16, 368 + i * 22), f"{text}  {call.violation or ''}", fill=colour, font=font(14))

    def _verdict(self, pen: ImageDraw.ImageDraw, episode: Episode, terms: Mapping[str, float] | None) -> None:
        if not episode.done:
            return
        self._title(pen, (470, 344), "answer", "")
        answer, truth = episode.predicted_emotion, episode.sample.emotion
        right = answer is not None and answer == truth
        colour = (120, 220, 130) if right else self.ink if answer is None or truth is None else (255, 120, 110)
        shown = f"{answer or 'none: turns used up'}  {_units(episode.predicted_aus)}"
        if not episode.looked:
            colour, shown = self.faint, NOBODY_LOOKED
        pen.text((470, 368), shown, fill=colour, font=font(15))
        target = None if episode.sample.aus is None else episode.sample.aus & frozenset(episode.config.au_set)
        pen.text((470, 390), f"truth: {truth or 'unlabelled'}  {_units(target)}", fill=self.faint, font=font(13))
        if terms is None:
            return
        middle, unit = 720, 150
        for i, (name, value) in enumerate(terms.items()):
            y = 420 + i * 22
            pen.text((470, y), name, fill=self.ink, font=font(14))
            end = middle + max(min(value, 1.0), -1.0) * unit
            colour = (120, 220, 130) if value >= 0 else (255, 120, 110)
            pen.rectangle((min(middle, end), y + 3, max(middle, end), y + 14), fill=colour)
            pen.text((890, y), f"{value:+.3f}", fill=self.ink, font=font(14))
        pen.line((middle, 418, middle, 420 + 22 * len(terms)), fill=self.faint)

    def _title(self, pen: ImageDraw.ImageDraw, at: tuple[int, int], title: str, note: str) -> None:
        pen.text(at, title, fill=self.ink, font=font(15))
        pen.text((at[0] + pen.textlength(title, font=font(15)) + 10, at[1] + 2), note, fill=self.faint, font=font(13))


def _outline(picture: NDArray[Any], quad: NDArray[np.float64], colour: Colour, thick: int) -> None:
    points = np.round(quad).astype(np.int32).reshape(-1, 1, 2)
    cv2.polylines(picture, [points], True, colour, thick, cv2.LINE_AA)


def _paste(canvas: Image.Image, picture: RGB, frame: tuple[int, int, int, int]) -> None:
    """Paste a picture into the middle of a frame, shrunk if it is larger."""
    x1, y1, x2, y2 = frame
    image = Image.fromarray(picture)
    image.thumbnail((x2 - x1, y2 - y1))
    canvas.paste(image, (x1 + (x2 - x1 - image.width) // 2, y1 + (y2 - y1 - image.height) // 2))


def _natural(crop: RGB, box: Sequence[float], side: int) -> RGB:
    """Return a crop in the proportions of its box, its long side `side` pixels."""
    width, height = box[2] - box[0], box[3] - box[1]
    longest = max(width, height)
    size = (max(round(side * width / longest), 1), max(round(side * height / longest), 1))
    return np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def _units(aus: frozenset[int] | None) -> str:
    return "" if aus is None else " ".join(map(facs.format_au, sorted(aus))) or "no AUs"


def _has_display() -> bool:
    return not sys.platform.startswith("linux") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@lru_cache(maxsize=1)
def _warn_no_display() -> None:
    _logger.warning("no display found: render_mode='human' shows nothing here; use render_mode='rgb_array'")
