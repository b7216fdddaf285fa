"""The template writer: thoughts in varied wording from Action Units, without a model.

What a turn says, its policy could know at that turn: details of a region are told after the zoom into it, and a thought
before the zoom says only why it may be worth it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from actfer_env import facs
from actfer_env.chat import ChatConfig
from actfer_env.chat.turns import answer_text, call_text
from actfer_env.curate import wording as words
from actfer_env.curate.lines import Mode


@dataclass(frozen=True)
class Case:
    """What is known of a sample before its trajectory is written.

    Attributes:
        emotion: The target.
        units: The target Action Units.
        mode: Mode of the trajectory.
        regions: Regions to zoom into, in order.
        prealigned: Whether the picture is an aligned face, so that nothing is to be normalised.
        both: Whether the answer's thought has a Global Analysis before the local one.
        sides: Unit -> "left" or "right" in the picture, of units on one side of the face.
        intensities: Unit -> 0 to 5, of coded units.
        boxes: Unit -> box on the preset's canvas, whole numbers; empty without a canvas.
    """

    emotion: str
    units: frozenset[int]
    mode: Mode
    regions: tuple[str, ...] = ()
    prealigned: bool = False
    both: bool = False
    sides: dict[int, str] = field(default_factory=dict)
    intensities: dict[int, int] = field(default_factory=dict)
    boxes: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)


def plan(
    units: frozenset[int], found: bool, prealigned: bool, tools: bool, rng: random.Random, *,
    full_share: float, most_regions: int, max_zooms: int, max_turns: int,
) -> tuple[Mode, tuple[str, ...]]:  # fmt: skip
    """Choose the mode of a trajectory, and the regions that it zooms into.

    The mode is "degraded" where detection really failed. The regions are those in which the units show most clearly;
    of a face at rest, any.

    Args:
        units: The target Action Units.
        found: Whether the detector finds a face.
        prealigned: Whether the picture is an aligned face.
        tools: Whether the preset has tools.
        rng: Random draws of this sample.
        full_share: Probability of zooming.
        most_regions: Regions at most.
        max_zooms: Crops that an episode may take.
        max_turns: Turns of an episode.
    """
    if not tools:
        return "passive", ()
    if not found:
        return "degraded", ()
    room = min(most_regions, max_zooms, max_turns - (1 if prealigned else 2))
    if rng.random() >= full_share or room < 1:
        return "simplified", ()
    shown = {facs.AU_REGIONS[unit][0] for unit in units if unit in facs.AU_REGIONS}
    regions = [region for region in facs.REGIONS if region in shown] or list(facs.REGIONS)
    rng.shuffle(regions)
    return "full", tuple(regions[: rng.randint(1, min(room, len(regions)))])


def write_turns(case: Case, chat: ChatConfig, length: str, rng: random.Random) -> list[str]:
    """Return the turns of a trajectory in the documented grammar, each with a thought.

    Args:
        case: What is known of the sample.
        chat: The conversation's preset.
        length: "full" or "short".
        rng: Random draws of this sample.
    """
    if not chat.preset_spec.tools:
        return [f"<think>{_passive(case, rng)}</think>\n<answer>{case.emotion}</answer>"]
    thoughts = _thoughts_short(case, rng) if length == "short" else _thoughts(case, rng)
    return join_turns(case, thoughts)


def join_turns(case: Case, thoughts: Sequence[str]) -> list[str]:
    """Return turns that hold these thoughts and the trajectory's calls and answer.

    Args:
        case: What is known of the sample.
        thoughts: One for each of `turn_count` turns.

    Raises:
        ValueError: another number of thoughts.
    """
    calls = [] if case.prealigned else [call_text("detect_align")]
    calls += [call_text("zoom_in", regions=[region]) for region in case.regions]
    actions = [*calls, answer_text(case.emotion, case.units)]
    return [f"<think>{thought}</think>\n{action}" for thought, action in zip(thoughts, actions, strict=True)]


def turn_count(case: Case) -> int:
    """Return how many turns a trajectory has."""
    return 1 if case.mode == "passive" else (not case.prealigned) + len(case.regions) + 1


def _thoughts(case: Case, rng: random.Random) -> list[str]:
    thoughts = [] if case.prealigned else [rng.choice(words.NORMALISE)]
    for number, region in enumerate(case.regions):
        name = rng.choice(words.REGION_WORDS[region])
        pattern = rng.choice(words.LOOK_AGAIN if number else words.LOOK_CLOSER)
        it = "them" if " and " in name or name.endswith("s") else "it"
        thoughts.append(pattern.format(region=name, Region=name[0].upper() + name[1:], it=it))
    resting = not case.units
    many = words.CONCLUDE_RESTING if resting else words.CONCLUDE if len(case.units) > 1 else words.CONCLUDE_ONE
    end = rng.choice(many).format(emotion=case.emotion)
    if case.mode != "full":
        opening = rng.choice(words.NO_FACE if case.mode == "degraded" else words.ENOUGH)
        return [*thoughts, f"{opening}\nGlobal Analysis: {_whole(case, case.units, rng)} {end}"]
    parts = [rng.choice(words.READY)]
    if case.both or not _all_seen(case):
        elsewhere = frozenset(unit for unit in case.units if _seen_in(unit, case.regions) is None)
        parts.append(f"Global Analysis: {_whole(case, elsewhere, rng, rest=bool(case.units))}")
    crops = []
    for region in case.regions:
        here = sorted(unit for unit in case.units if _seen_in(unit, case.regions) == region)
        told = _units(case, here, rng) if here else rng.choice(words.RESTING_PART)
        crops.append(f"In the crop of {words.REGION_WORDS[region][0]}, {told}.")
    return [*thoughts, "\n".join([*parts, f"Local Analysis: {' '.join(crops)}", end])]


def _thoughts_short(case: Case, rng: random.Random) -> list[str]:
    thoughts = [] if case.prealigned else [rng.choice(words.SHORT_NORMALISE)]
    thoughts += [rng.choice(words.SHORT_LOOK).format(region=region) for region in case.regions]
    told = ", ".join(f"{words.unit_phrases(unit)[0]} (AU{unit})" for unit in sorted(case.units)) or "at rest"
    kind = "Local Analysis" if case.regions and _all_seen(case) and not case.both else "Global Analysis"
    opening = f"{rng.choice(words.SHORT_NO_FACE)} " if case.mode == "degraded" else ""
    return [*thoughts, f"{opening}{kind}: {told}. {case.emotion.capitalize()}."]


def _passive(case: Case, rng: random.Random) -> str:
    """Return the thought of a preset without tools; on a canvas at most three units come with their boxes."""
    if not case.units:
        return f"{_sentence(rng.choice(words.RESTING))} {rng.choice(words.CONCLUDE_RESTING).format(emotion=case.emotion)}"
    boxed = sorted(unit for unit in case.units if unit in case.boxes)[:3]
    told = []
    for unit in sorted(case.units):
        box = f" <bbox>{list(case.boxes[unit])}</bbox>" if unit in boxed else ""
        told.append(f"{_unit(case, unit, rng)}{box}")
    end = rng.choice(words.CONCLUDE if len(told) > 1 else words.CONCLUDE_ONE).format(emotion=case.emotion)
    return f"{_sentence(_listed(told))} {end}"


def _whole(case: Case, units: frozenset[int], rng: random.Random, rest: bool = False) -> str:
    """Return a sentence about the face as a whole; `rest` where other units are told of elsewhere."""
    if units:
        return _sentence(rng.choice(words.GLOBAL).format(units=_units(case, sorted(units), rng)))
    return _sentence("the rest of the face is relaxed" if rest else rng.choice(words.RESTING))


def _all_seen(case: Case) -> bool:
    return all(_seen_in(unit, case.regions) is not None for unit in case.units)


def _seen_in(unit: int, regions: Sequence[str]) -> str | None:
    """Return the first of a unit's regions that was zoomed into."""
    return next((region for region in facs.AU_REGIONS.get(unit, ()) if region in regions), None)


def _units(case: Case, units: Sequence[int], rng: random.Random) -> str:
    order = list(units)
    rng.shuffle(order)
    return _listed([_unit(case, unit, rng) for unit in order])


def _unit(case: Case, unit: int, rng: random.Random) -> str:
    phrase = rng.choice(words.unit_phrases(unit))
    strength = words.STRENGTHS.get(case.intensities.get(unit, 3), "")
    side = words.SIDES.get(case.sides.get(unit, ""))
    return f"{' '.join(part for part in (phrase, side) if part)}{strength} (AU{unit})"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
