"""Contact sheets of the drawn faces: by emotion, and by Action Unit and intensity."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image, ImageDraw

from actfer_env import facs
from actfer_env._version import GENERATOR_VERSION
from actfer_env.bounds import bounded, check_fields
from actfer_env.data.synthetic.faces import RENDERED_AUS, Expression, Identity, Light, Pose, render_face
from actfer_env.data.synthetic.presets import SyntheticConfig
from actfer_env.data.synthetic.samples import draw_spec
from actfer_env.files import write_text_atomic
from actfer_env.images import RGB, font, save_png

BACKDROP = (196, 202, 208)
LETTERS = "ABCDE"


@dataclass(frozen=True)
class Tile:
    """One face with its caption."""

    image: RGB
    title: str
    note: str = ""


@dataclass(frozen=True)
class GalleryConfig:
    """Contents of the contact sheets.

    Attributes:
        size: Side of a face in pixels, 64 to 512.
        people: People in each row of the sheet by emotion.
        seed: Draws the people.
    """

    size: int = bounded(192, ge=64, le=512)
    people: int = bounded(6, ge=1, le=40)
    seed: int = bounded(0, ge=0)

    def __post_init__(self) -> None:
        check_fields(self)


def emotion_rows(config: GalleryConfig) -> list[list[Tile]]:
    """Return a row for each emotion: its samples of the preset "standard", without scene and camera."""
    world = SyntheticConfig(seed=config.seed)
    rows: dict[str, list[Tile]] = {emotion: [] for emotion in facs.EMOTIONS}
    index = 0
    while any(len(row) < config.people for row in rows.values()):
        spec = draw_spec(world, "train", index)
        index += 1
        if len(rows[spec.emotion]) < config.people:
            person = spec.scene.people[-1]
            pose = Pose(person.pose.yaw * 0.7, person.pose.pitch * 0.7, person.pose.roll * 0.5)
            image = _face(person.identity, spec.expression, config.size, pose)
            rows[spec.emotion].append(Tile(image, spec.emotion, units_text(spec.aus)))
    return list(rows.values())


def intensity_rows(config: GalleryConfig) -> list[list[Tile]]:
    """Return a row for each Action Unit: one face from neutral to intensity E."""
    who = Identity.sample(np.random.default_rng([config.seed, 11]), tone=4)
    rows = []
    for au in RENDERED_AUS:
        title = f"{facs.format_au(au)} {facs.AU_NAMES[au]}"
        faces = [_face(who, Expression.both({au: float(level)} if level else {}), config.size) for level in range(6)]
        rows.append([
            Tile(image, title if level == 0 else "", LETTERS[level - 1] if level else "neutral")
            for level, image in enumerate(faces)
        ])  # fmt: skip
    return rows


def strip(config: GalleryConfig) -> list[Tile]:
    """Return one face for each emotion with its prototype, over the whole range of skin tones."""
    tiles = []
    for i, emotion in enumerate(facs.EMOTIONS):
        aus = facs.PROTOTYPES[emotion].aus & set(RENDERED_AUS)
        aus |= {25} if 26 in aus or emotion == "happiness" else frozenset()
        who = Identity.sample(np.random.default_rng([config.seed, 3, i]), tone=(i * 7 + 1) % 10)
        both = dict.fromkeys(aus, 4.0)
        face = Expression(both, {}) if facs.PROTOTYPES[emotion].unilateral else Expression.both(both)
        image = _face(who, face, min(2 * config.size, 512), Pose(yaw=(-8.0, 6.0)[i % 2], roll=(3.0, -3.0)[i % 2]))
        tiles.append(Tile(_close_up(image), emotion, units_text(aus)))
    return tiles


def _folded(tiles: list[Tile]) -> list[list[Tile]]:
    return [tiles[: len(tiles) // 2], tiles[len(tiles) // 2 :]]


def _close_up(image: RGB) -> RGB:
    """Cut the head out of a portrait."""
    side = image.shape[0]
    left, top, edge = round(0.14 * side), round(0.09 * side), round(0.72 * side)
    return np.ascontiguousarray(image[top : top + edge, left : left + edge])


def sheet(rows: Sequence[Sequence[Tile]], caption: int = 30) -> RGB:
    """Return the tiles as one picture, uint8 (H, W, 3), a caption under each."""
    side = rows[0][0].image.shape[0]
    canvas = Image.new("RGB", (side * max(map(len, rows)), (side + caption) * len(rows)), "white")
    pen = ImageDraw.Draw(canvas)
    for r, row in enumerate(rows):
        for c, tile in enumerate(row):
            x, y = c * side, r * (side + caption)
            canvas.paste(Image.fromarray(tile.image), (x, y))
            _write(pen, tile, (x + side // 2, y + side), side)
    return np.asarray(canvas, np.uint8).copy()


def write_gallery(folder: str | os.PathLike[str], config: GalleryConfig | None = None) -> list[Path]:
    """Write emotions.png, action_units.png, strip.png and gallery.html.

    Args:
        folder: Folder of the sheets; made if it is not there.
        config: Contents of the sheets.

    Returns:
        The four paths.

    Raises:
        DataError: the folder cannot be written.
    """
    config, place = config or GalleryConfig(), Path(folder)
    rows, units = emotion_rows(config), intensity_rows(config)
    paths = [place / name for name in ("emotions.png", "action_units.png", "strip.png", "gallery.html")]
    for path, tiles in zip(paths, (rows, units, _folded(strip(config))), strict=False):
        save_png(sheet(tiles), path)
    write_text_atomic(paths[-1], _page(rows, units))
    return paths


def units_text(aus: frozenset[int]) -> str:
    """Return Action Units as people write them: "6 + 12"."""
    return "AU " + " + ".join(map(str, sorted(aus))) if aus else "no AUs"


def _face(who: Identity, expression: Expression, size: int, pose: Pose | None = None) -> RGB:
    light = Light(azimuth=-25.0, elevation=30.0, key=0.85, ambient=0.48)
    return np.asarray(render_face(who, expression, pose or Pose(), light, size, BACKDROP).image, np.uint8)


def _write(pen: ImageDraw.ImageDraw, tile: Tile, at: tuple[int, int], side: int) -> None:
    x, y = at
    if tile.title:
        pen.text((x, y + 2), tile.title, fill=(20, 24, 32), font=font(13 if side >= 150 else 10), anchor="ma")
    pen.text((x, y + 16 if tile.title else y + 8), tile.note, fill=(110, 116, 128), font=font(11), anchor="ma")


def _page(rows: list[list[Tile]], units: list[list[Tile]]) -> str:
    environment = Environment(
        loader=PackageLoader("actfer_env.data.synthetic"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["data_uri"] = _jpeg_uri
    return environment.get_template("gallery.html.j2").render(rows=rows, units=units, version=GENERATOR_VERSION)


def _jpeg_uri(image: RGB) -> str:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
