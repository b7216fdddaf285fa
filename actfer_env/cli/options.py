"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import json
import warnings
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actfer_env import facs
from actfer_env.cli.output import complain, say
from actfer_env.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actfer_env.data import Dataset
    from actfer_env.rewards import UCGRPOConfig

TargetArgument = Annotated[str, typer.Argument(help="A folder, an image, a .jsonl file, or a registered data set.")]
DetectorOption = Annotated[
    str, typer.Option(help="mtcnn, insightface:PACK_OR_FOLDER, yunet:FILE, or one that you registered.")
]
FieldsOption = Annotated[
    list[str], typer.Option("--set", metavar="FIELD=VALUE", help="A constant of the reward; may be given again.")
]
ChatOption = Annotated[
    list[str], typer.Option("--chat", metavar="FIELD=VALUE", help="A field of ChatConfig; may be given again.")
]
ZoomCostOption = Annotated[
    float | None,
    typer.Option(min=0.0, help="The same as --set zoom_cost=...; ours, not the paper's.", show_default="0.0"),
]
LookOption = Annotated[
    int, typer.Option(min=0, max=4, help="Regions that an episode may magnify; fewer than 4 make the policy choose.")
]
TurnsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Turns of an episode; a trained agent's own if left out.", show_default="6"),
]
ZoomsOption = Annotated[
    int | None,
    typer.Option(min=0, help="Crops of an episode; a trained agent's own if left out.", show_default="4"),
]
ZoomOption = Annotated[
    str,
    typer.Option(
        "--zoom", metavar="MODE", help="never (no zoom on offer), always (one at least before an answer), or free."
    ),
]
OutOption = Annotated[Path, typer.Option(help="Folder for the results; made if it is not there.")]
RootOption = Annotated[
    Path | None, typer.Option("--root", help="Folder or file of a registered data set that needs one.")
]
SplitOption = Annotated[
    str | None,
    typer.Option(help="train, val or test; all if left out (of drawn faces: train, and test for eval)."),
]
EmptyAUsOption = Annotated[
    str | None,
    typer.Option(help="What an empty list of AUs in a .jsonl file means: none (is active, the default) or unlabelled."),
]
AUSetOption = Annotated[
    str | None,
    typer.Option(metavar="SET", help="AUs that count: core (default), disfa, disfa7, disfa12, facial_r1, or 6,12."),
]
ToolsOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES", help="Tools that the policy may call: registered names, by commas.",
        show_default="the two of ActFER",
    ),
]  # fmt: skip
PresetOption = Annotated[
    str | None,
    typer.Option("--preset", "--data-preset", help="Of drawn faces: easy, standard, hard, mixed or subtle."),
]
SeedOption = Annotated[int, typer.Option(help="Fixes every random draw.")]
SkipBrokenOption = Annotated[bool, typer.Option("--skip-broken", help="Leave out broken lines of a .jsonl file.")]
EmbedOption = Annotated[
    bool,
    typer.Option("--embed", help="Copy the pictures into the folder, so that its report can be made again anywhere."),
]
CacheOption = Annotated[Path, typer.Option(help="Folder of drawn pictures and warm starts, for all runs.")]

DRAWN = ("synthetic", "synthetic-mixed", "synthetic-subtle", "synthetic-micro")
"""Data sets that are drawn on demand."""


def open_dataset(
    target: str, split: str | None, skip_broken: bool, drawn: str = "train", *, empty_aus: str | None = None,
    preset: str | None = None, number: int | None = None, root: Path | None = None,
) -> Dataset:  # fmt: skip
    """Return the data set that a path or name stands for, and say how many samples of which split are taken.

    Args: those of `find_dataset`, and
        number: Number of samples that the command takes; None is all.
    """
    dataset = find_dataset(target, split, skip_broken, drawn, empty_aus=empty_aus, preset=preset, root=root)
    say(dataset.describe(number))
    return dataset


def find_dataset(
    target: str, split: str | None, skip_broken: bool = False, drawn: str = "train", *, empty_aus: str | None = None,
    preset: str | None = None, root: Path | None = None,
) -> Dataset:  # fmt: skip
    """Return the data set that a path or name stands for.

    Args:
        target: A path or a registered name; an existing path comes first.
        split: None is all.
        skip_broken: Leave out broken lines.
        drawn: The split of drawn faces, which have no end that "all" could mean.
        empty_aus: Meaning of an empty list of AUs; None is the loader's default.
        preset: Of drawn faces; None is the loader's default.
        root: Folder or file of a registered data set; the name then comes before a path of that name.
    """
    from actfer_env.data import registered_datasets

    path = Path(target)
    found = {"on_error": "skip" if skip_broken else None, "empty_aus": empty_aus, "preset": preset}
    options = {name: value for name, value in found.items() if value is not None}
    if root is not None and target not in registered_datasets():
        known = ", ".join(sorted(registered_datasets()))
        raise DataError(f"--root goes with the name of a data set ({known}), and {target} is none")
    if root is None and path.suffix.lower() == ".jsonl":
        return _load("jsonl", path, split, options)
    if root is None and path.exists():
        return _load("photos", path, split, options)
    if target in registered_datasets() or target.startswith("prepared:"):
        options.pop("on_error", None)
        return _load(target, root, split or (drawn if target in DRAWN else None), options)
    known = ", ".join(sorted(registered_datasets()))
    raise DataError(f"{target}: no such file or folder, and no data set of that name ({known})")


def _load(name: str, root: Path | None, split: str | None, options: dict[str, Any]) -> Dataset:
    """Load a data set; what its loader warns of is printed as the other complaints are."""
    from actfer_env.data import load_dataset

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            return load_dataset(name, root, split, **options)
        finally:
            for warning in told:
                complain(str(warning.message))


def au_set_of(text: str | None) -> tuple[int, ...]:
    """Return the Action Units of ``--au-set``; the default is the core set."""
    return facs.CORE_AUS if text is None else facs.parse_au_set(text)


def tools_of(text: str | None) -> tuple[str, ...]:
    """Return the names of ``--tools``; the default is ActFER's two tools.

    Raises:
        ToolError: a name is unknown, or given twice.
    """
    from actfer_env.tools.base import DEFAULT_TOOLS
    from actfer_env.tools.toolkit import toolkit

    names = DEFAULT_TOOLS if text is None else tuple(part.strip() for part in text.split(",") if part.strip())
    return tuple(toolkit(names))


def reward_fields(given: Sequence[str], **named: Any) -> tuple[tuple[str, Any], ...]:
    """Read the reward's constants from FIELD=VALUE, and check them before any work.

    Args:
        given: Fields given by ``--set``.
        **named: field -> value of an option of its own, such as ``--zoom-cost``; None where that was not given.

    Raises:
        DataError: a text without "=", or a field that is given twice with different values.
        RewardError: an unknown field, or a value out of its range.
    """
    from actfer_env.rewards import UCGRPOConfig

    found: dict[str, Any] = {}
    doors = {name: f"--{name.replace('_', '-')} {value}" for name, value in named.items() if value is not None}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise DataError(f"--set {text!r} must be FIELD=VALUE, such as ema_gain=16")
        try:
            read = json.loads(value)
        except ValueError:
            read = value
        before = found.get(name, named.get(name)) if name in found or name in doors else read
        if before != read:
            raise DataError(f"{name} is given twice, as {doors[name]} and as --set {text}: leave out one")
        found[name], doors[name] = read, f"--set {text}"
    UCGRPOConfig.from_dict(found)
    return tuple(found.items())


def reward_of(given: Sequence[str], variant: str = "full") -> UCGRPOConfig:
    """Return a variant of UC-GRPO's reward with the constants that came with ``--set``; errors as `reward_fields`."""
    from actfer_env.rewards import UCGRPOConfig

    return UCGRPOConfig.variant(variant, **dict(reward_fields(given)))


def field_values(given: list[str], option: str) -> dict[str, Any]:
    """Read FIELD=VALUE; a value that is JSON is taken as such, any other as text.

    Raises:
        DataError: a text without "=", or a field that is given twice.
    """
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.strip().partition("=")
        if not equals or name in found:
            raise DataError(f"{option} {text!r} must be FIELD=VALUE, each field once")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def chat_fields(given: list[str], options: Sequence[str]) -> dict[str, Any]:
    """Read the fields of `ChatConfig` that came with ``--chat``.

    Args:
        given: Texts FIELD=VALUE.
        options: Fields that have an option of their own in this command.

    Raises:
        DataError: as `field_values`; or a field that is unknown or has an option of its own.
    """
    from actfer_env.chat import ChatConfig

    found, known = field_values(given, "--chat"), [field.name for field in fields(ChatConfig)]
    for name in found:
        if name in options:
            raise DataError(f"--chat {name}=...: use the option of its own, see --help")
        if name not in known:
            left = ", ".join(one for one in known if one not in options)
            raise DataError(f"--chat: {name} is unknown: use one of {left}")
    return found
