"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actfer_env.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actfer_env.data import Dataset

TargetArgument = Annotated[str, typer.Argument(help="A folder, an image, a .jsonl file, or a registered data set.")]
DetectorOption = Annotated[
    str, typer.Option(help="mtcnn, insightface:PACK_OR_FOLDER, yunet:FILE, or one that you registered.")
]
FieldsOption = Annotated[
    list[str], typer.Option("--set", metavar="FIELD=VALUE", help="A constant of the reward; may be given again.")
]
LookOption = Annotated[
    int, typer.Option(min=0, max=4, help="Regions that an episode may magnify; fewer than 4 make the policy choose.")
]
OutOption = Annotated[Path, typer.Option(help="Folder for the results; made if it is not there.")]
SplitOption = Annotated[
    str | None,
    typer.Option(help="train, val or test; all if left out (of drawn faces: train, and test for eval)."),
]
SeedOption = Annotated[int, typer.Option(help="Fixes every random draw.")]
SkipBrokenOption = Annotated[bool, typer.Option("--skip-broken", help="Leave out broken lines of a .jsonl file.")]
CacheOption = Annotated[Path, typer.Option(help="Folder of drawn pictures and warm starts, for all runs.")]

DRAWN = ("synthetic", "synthetic-mixed")
"""Data sets that are drawn on demand."""


def open_dataset(target: str, split: str | None, skip_broken: bool, drawn: str = "train") -> Dataset:
    """Return the data set that a path or name stands for; an existing path comes first.

    `drawn` is the split of drawn faces, which have no end that "all" could mean.
    """
    from actfer_env.data import load_dataset, registered_datasets

    options: dict[str, Any] = {"on_error": "skip"} if skip_broken else {}
    path = Path(target)
    if path.suffix == ".jsonl":
        return load_dataset("jsonl", path, split, **options)
    if path.exists():
        return load_dataset("photos", path, split, **options)
    if target in registered_datasets():
        return load_dataset(target, None, split or (drawn if target in DRAWN else None))
    known = ", ".join(registered_datasets())
    raise DataError(f"{target}: no such file or folder, and no data set of that name ({known})")


def reward_fields(given: Sequence[str]) -> tuple[tuple[str, Any], ...]:
    """Read NAME=VALUE of the reward's constants, and check them before any work."""
    from actfer_env.rewards import UCGRPOConfig

    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise DataError(f"--set {text!r} must be FIELD=VALUE, such as ema_gain=16")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    UCGRPOConfig.from_dict(found)
    return tuple(found.items())
