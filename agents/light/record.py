"""`PolicyRecord`: what the folder of a trained light policy says of it, read and written."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from actfer_env import facs
from actfer_env._version import __version__
from actfer_env.agents.light.card import CARD, model_card
from actfer_env.agents.light.policy import LightPolicy, PolicyConfig, check_sides
from actfer_env.agents.light.trainer import CHECKPOINT
from actfer_env.episode import EpisodeConfig
from actfer_env.errors import DataError, SettingsError
from actfer_env.files import draft_files
from actfer_env.identity import as_json, refuse_other

CONFIG, WEIGHTS = "config.json", "policy.pt"
FORMAT, FORMAT_VERSION = "actfer light policy", 1
"""Raised whenever a folder's files change so that an older package could not read them."""


@dataclass(frozen=True)
class PolicyRecord:
    """Contents of a policy's `config.json`.

    Attributes:
        policy: Fields of `PolicyConfig`.
        image_size: Side of the raw picture in pixels.
        face_size: Side of the aligned face in pixels.
        crop_size: Side of a crop in pixels.
        detector: Detector's spec in training; "auto" is "simulated" on drawn samples and "mtcnn" on photos.
        max_zooms: Regions that an episode may magnify.
        max_turns: Calls and answer together.
        au_set: Action Units of the answer, in the order of the head.
        weights: SHA-256 of the weights.
        training: JSON values for the model card: data, seed, steps, held-out figures.
        actfer_env: Version of the package that wrote it.
    """

    policy: dict[str, Any]
    weights: str
    image_size: int = 96
    face_size: int = 64
    crop_size: int = 48
    detector: str = "auto"
    max_zooms: int = len(facs.REGIONS)
    max_turns: int = EpisodeConfig().max_turns
    au_set: tuple[int, ...] = facs.CORE_AUS
    training: dict[str, Any] = field(default_factory=dict)
    actfer_env: str = __version__

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON values of `config.json`."""
        labels = {"emotions": facs.EMOTIONS, "regions": facs.REGIONS}
        return dict(as_json({"format": FORMAT, "version": FORMAT_VERSION, **asdict(self), **labels}))

    @property
    def env_arguments(self) -> dict[str, Any]:
        """Arguments of `gym.make` that make the environment of the training; a detector that was chosen is named."""
        names = ("image_size", "face_size", "crop_size", "max_zooms", "max_turns", "au_set")
        found = {name: getattr(self, name) for name in names}
        return found if self.detector == "auto" else {**found, "detector": self.detector}


def read_record(folder: Path) -> PolicyRecord:
    """Read what a policy's folder says of it.

    Raises:
        DataError: there is no policy, or it is broken or of a newer version.
    """
    path = folder / CONFIG
    if not path.is_file():
        if (folder / CHECKPOINT).exists():
            raise DataError(f"{folder} holds a training that has not ended: run its 'actfer train' command again")
        raise DataError(f"{folder} holds no trained policy ({CONFIG} is missing): "
                        "give the --out folder of 'actfer train'")  # fmt: skip
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8")))
        if found.pop("format", None) != FORMAT:
            raise DataError(f"{path} is not that of a light policy: give the --out folder of 'actfer train'")
        version = found.pop("version")
        if version != FORMAT_VERSION:
            raise DataError(f"{path} is of version {version}, this package reads {FORMAT_VERSION}: "
                            "use the release of actfer-env that wrote it, or train again")  # fmt: skip
        labels = {"emotions": list(facs.EMOTIONS), "regions": list(facs.REGIONS)}
        refuse_other(folder, "policy", {name: found.pop(name) for name in labels}, labels)
        record = PolicyRecord(**{**found, "au_set": tuple(found["au_set"])})
        _check_record(record)
    except DataError:
        raise
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        what = " ".join(str(error).split())
        raise DataError(f"{path} is broken ({what}): copy the whole folder again, or train again") from error
    return record


def _check_record(record: PolicyRecord) -> None:
    """Refuse sizes that no policy of this version has."""
    for name in ("image_size", "face_size", "crop_size", "max_turns", "max_zooms"):
        value = getattr(record, name)
        if type(value) is not int or value < 0:
            raise TypeError(f"{name} {value!r} must be a whole number")
    if record.au_set != facs.CORE_AUS:
        raise ValueError(f"au_set must be {facs.format_au_set(facs.CORE_AUS)}")
    try:
        PolicyConfig(**record.policy)
        check_sides((record.image_size, record.face_size, record.crop_size))
    except SettingsError as error:
        raise ValueError(str(error).partition(":")[0]) from error


def write_policy(folder: str | os.PathLike[str], policy: LightPolicy, record: PolicyRecord) -> None:
    """Write a policy's folder: `config.json`, `policy.pt` and the model card; other files stay.

    Raises:
        DataError: the folder cannot be written.
    """
    kept = record.to_dict()
    with draft_files(folder) as draft:
        torch.save(policy.state_dict(), draft / WEIGHTS)
        (draft / CONFIG).write_text(json.dumps(kept, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        (draft / CARD).write_text(model_card(kept), encoding="utf-8")
