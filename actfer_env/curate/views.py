"""Tool outputs of a sample, as an episode shows them: raw view, aligned face and the crops of the four regions."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from actfer_env import facs
from actfer_env.chat import ChatConfig, ChatEpisode
from actfer_env.chat.turns import call_text
from actfer_env.episode import EpisodeConfig
from actfer_env.files import draft_folder
from actfer_env.images import RGB
from actfer_env.sample import Sample
from actfer_env.tools.face_tools import FaceTools


@dataclass(frozen=True)
class Views:
    """Pictures and readings of the two tools.

    Attributes:
        raw: The raw picture within the chat's bounds, uint8 (H, W, 3); None of a pre-aligned sample.
        face: The aligned face, uint8 (S, S, 3); None where detection failed.
        crops: Region -> its magnified crop, uint8 (H, W, 3), of the regions that could be magnified.
        calls: The tools' calls and results, as JSON values.
    """

    raw: RGB | None
    face: RGB | None
    crops: dict[str, RGB] = field(default_factory=dict)
    calls: tuple[dict[str, Any], ...] = ()

    @property
    def processed(self) -> list[RGB]:
        """The aligned face and the crops, in order."""
        return ([] if self.face is None else [self.face]) + list(self.crops.values())


def look(sample: Sample, tools: FaceTools, chat: ChatConfig, config: EpisodeConfig) -> Views:
    """Run both tools over a sample, all four regions included, in a real episode.

    Args:
        sample: The sample.
        tools: Shared tools.
        chat: Sizes of the pictures.
        config: Tools that are offered; their budgets are those that four zooms need.

    Raises:
        ImageError: the picture cannot be read.
    """
    chat = replace(chat, preset="actfer")
    budget = replace(config, max_turns=len(facs.REGIONS) + 2, max_zooms=len(facs.REGIONS))
    episode = ChatEpisode(sample, tools, chat, budget)
    raw: RGB | None = episode.images[0]
    face: RGB | None = None
    crops: dict[str, RGB] = {}
    if sample.prealigned:
        raw, face = None, raw
    else:
        found = episode.step(call_text("detect_align")).images
        face = found[0] if found else None
    for region in facs.REGIONS if face is not None else ():
        crop = episode.step(call_text("zoom_in", regions=[region])).images
        crops |= {region: crop[0]} if crop else {}
    calls = [call.to_dict() for call in episode.episode.calls]
    return Views(raw, face, crops, tuple({key: call[key] for key in call if key != "elapsed_ms"} for call in calls))


def views_folder(folder: Path, sample_id: str) -> Path:
    """Return the folder of a sample's views within a curation's."""
    name = hashlib.sha256(sample_id.encode("utf-8", "backslashreplace")).hexdigest()[:24]
    return folder / "views" / name[:2] / name


def keep_views(folder: Path, sample_id: str, views: Views, kind: str) -> None:
    """Write a sample's views: ``raw``, ``face``, a picture for each region, and ``tools.json``.

    Args:
        folder: The curation's folder.
        sample_id: The sample's id.
        views: The views.
        kind: "png", or "jpeg" at quality 95.

    Raises:
        DataError: the folder cannot be written.
    """
    from PIL import Image

    named = {"raw": views.raw, "face": views.face, **views.crops}
    with draft_folder(views_folder(folder, sample_id), replace=True) as draft:
        for name, image in named.items():
            if image is not None:
                options: dict[str, Any] = {"quality": 95} if kind == "jpeg" else {"compress_level": 1}
                Image.fromarray(np.ascontiguousarray(image)).save(draft / f"{name}.{kind}", **options)
        record = {"schema": 1, "sample": sample_id, "calls": views.calls}
        (draft / "tools.json").write_text(json.dumps(record), encoding="utf-8")
