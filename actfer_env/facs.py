"""Emotions, Action Units, their prototypes and regions: the only place that spells them.

Inside the package an emotion is one of `EMOTIONS` (lower-case noun), an Action Unit an `int`, a region one of
`REGIONS`. Every other spelling passes through `parse_emotion`, `parse_au`, `parse_aus`, `parse_au_sides`,
`parse_au_set` or `parse_region`, which refuse what they do not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import NoReturn

from actfer_env.errors import LabelError, short

EMOTIONS: tuple[str, ...] = (
    "neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt",
)  # fmt: skip
"""The eight emotion labels, in the order of ActFER section 3.1 and of AffectNet."""

REGIONS: tuple[str, ...] = ("forehead-eyebrow", "eye-periorbital", "nose", "mouth-chin")
"""The four regions that face-detect-align returns (ActFER section 3.1), from top to bottom."""

AU_NAMES = MappingProxyType({
    1: "Inner Brow Raiser", 2: "Outer Brow Raiser", 4: "Brow Lowerer", 5: "Upper Lid Raiser",
    6: "Cheek Raiser", 7: "Lid Tightener", 8: "Lips Toward Each Other", 9: "Nose Wrinkler",
    10: "Upper Lip Raiser", 11: "Nasolabial Deepener", 12: "Lip Corner Puller", 13: "Sharp Lip Puller",
    14: "Dimpler", 15: "Lip Corner Depressor", 16: "Lower Lip Depressor", 17: "Chin Raiser",
    18: "Lip Pucker", 19: "Tongue Show", 20: "Lip Stretcher", 21: "Neck Tightener", 22: "Lip Funneler",
    23: "Lip Tightener", 24: "Lip Pressor", 25: "Lips Part", 26: "Jaw Drop", 27: "Mouth Stretch",
    28: "Lip Suck", 29: "Jaw Thrust", 30: "Jaw Sideways", 31: "Jaw Clencher", 32: "Lip Bite",
    33: "Cheek Blow", 34: "Cheek Puff", 35: "Cheek Suck", 36: "Tongue Bulge", 37: "Lip Wipe",
    38: "Nostril Dilator", 39: "Nostril Compressor", 43: "Eyes Closed", 45: "Blink", 46: "Wink",
})  # fmt: skip
"""Facial Action Units and their names (Ekman, Friesen and Hager, Facial Action Coding System, 2002)."""

AU_DEFINITIONS = MappingProxyType({
    1: "the inner ends of the brows rise", 2: "the outer ends of the brows rise",
    4: "the brows come down and together", 5: "the upper lids rise, the eyes open wide",
    6: "the cheeks rise and narrow the eyes, with crow's feet", 7: "the lids tighten, the lower one straightens",
    8: "the lips move towards each other over an open jaw", 9: "the nose wrinkles, mostly at its root",
    10: "the upper lip rises, with a bent fold beside the nose", 11: "the fold between nose and mouth deepens",
    12: "the lip corners go up and out", 13: "the lip corners go up sharply and the cheeks puff above them",
    14: "the lip corners tighten and dimple", 15: "the lip corners go down", 16: "the lower lip goes down",
    17: "the chin boss pushes the lower lip up", 18: "the lips draw together and forward",
    19: "the tongue shows", 20: "the lip corners stretch sideways", 21: "the skin of the neck tightens",
    22: "the lips turn outwards like a funnel", 23: "the lips tighten and narrow",
    24: "the lips press on each other", 25: "the lips are apart", 26: "the jaw drops, relaxed",
    27: "the mouth is stretched wide open", 28: "the lips are drawn in over the teeth",
    29: "the lower jaw comes forward", 30: "the lower jaw moves to one side", 31: "the teeth are clenched",
    32: "the teeth bite a lip", 33: "the cheeks are blown out and air escapes", 34: "the cheeks are filled with air",
    35: "the cheeks are sucked in", 36: "the tongue bulges lip or cheek", 37: "the tongue wipes the lips",
    38: "the nostrils widen", 39: "the nostrils narrow", 43: "the eyes are closed", 45: "the eyes blink",
    46: "one eye winks",
})  # fmt: skip
"""Visible sign of each Action Unit, in a few words."""

CORE_AUS: tuple[int, ...] = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 24, 25, 26, 43)
"""The environment's default Action Units: those of the emotion prototypes that still pictures show well."""

DISFA_AUS: tuple[int, ...] = (1, 2, 4, 6, 9, 12, 25, 26)
"""The eight Action Units of the DISFA protocol that ActFER reports (section 4)."""

FACIAL_R1_AUS: tuple[int, ...] = (*range(1, 3), *range(4, 8), *range(9, 21), *range(22, 33), 43)
"""The thirty Action Units that Facial-R1 defines."""

AU_SETS = MappingProxyType({
    "core": CORE_AUS,
    "disfa": DISFA_AUS,
    "disfa7": (1, 2, 4, 6, 12, 25, 26),
    "disfa12": (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26),
    "facial_r1": FACIAL_R1_AUS,
})  # fmt: skip
"""Name -> Action Units: the default; DISFA's eight of the tables, seven of them (others average without AU9), and all
twelve that it annotates; Facial-R1's."""

_EYE, _BROW, _NOSE, _MOUTH = REGIONS[1], REGIONS[0], REGIONS[2], REGIONS[3]
AU_REGIONS = MappingProxyType({
    **dict.fromkeys((1, 2), (_BROW,)),
    4: (_BROW, _EYE),
    **dict.fromkeys((5, 6, 7, 43, 45, 46), (_EYE,)),
    9: (_NOSE, _BROW),
    10: (_MOUTH, _NOSE),
    11: (_NOSE, _MOUTH),
    **dict.fromkeys((38, 39), (_NOSE,)),
    **dict.fromkeys((8, *range(12, 21), *range(21, 38)), (_MOUTH,)),
})  # fmt: skip
"""Action Unit -> the regions in which it shows, the clearest first (from FACS's appearance changes)."""


@dataclass(frozen=True)
class Prototype:
    """The Action Units that FACS literature gives for one emotion.

    Attributes:
        aus: The prototype, as a set of Action Units.
        variants: Other combinations that the same source accepts.
        unilateral: Whether the prototype is one-sided (contempt).
        source: Publication that has it.
    """

    aus: frozenset[int]
    variants: tuple[frozenset[int], ...] = ()
    unilateral: bool = False
    source: str = "Friesen and Ekman, EMFACS-7, 1983; variants: FACS Investigator's Guide, 2002, table 10-2"


PROTOTYPES = MappingProxyType({
    "neutral": Prototype(frozenset(), source="by definition: no Action Unit active"),
    "happiness": Prototype(frozenset({6, 12}), (frozenset({12}), frozenset({6, 12, 25}))),
    "sadness": Prototype(frozenset({1, 4, 15}), (frozenset({1, 4}), frozenset({1, 4, 15, 17}), frozenset({6, 15}))),
    "surprise": Prototype(frozenset({1, 2, 5, 26}), (frozenset({1, 2, 5, 27}), frozenset({1, 2, 5}))),
    "fear": Prototype(frozenset({1, 2, 4, 5, 7, 20, 26}), (frozenset({1, 2, 4, 5, 20, 25}), frozenset({1, 2, 4, 5}))),
    "disgust": Prototype(frozenset({9, 15, 16}), (frozenset({9}), frozenset({9, 17}), frozenset({10, 17}))),
    "anger": Prototype(frozenset({4, 5, 7, 23}), (frozenset({4, 5, 7, 24}), frozenset({4, 5, 7, 17, 23}))),
    "contempt": Prototype(frozenset({12, 14}), (frozenset({14}),), unilateral=True),
})  # fmt: skip
"""Emotion -> its FACS prototype."""

_EMOTION_ALIASES = {
    "neutral": ("neutrality", "no expression"),
    "happiness": ("happy", "joy", "joyful"),
    "sadness": ("sad",),
    "surprise": ("surprised",),
    "fear": ("fearful", "afraid", "scared"),
    "disgust": ("disgusted",),
    "anger": ("angry",),
    "contempt": ("contemptuous",),
}
_EMOTION_TABLE = {alias: emotion for emotion, many in _EMOTION_ALIASES.items() for alias in (emotion, *many)}
_NO_LABEL = ("", "none", "null", "nan", "n/a", "na", "unlabelled", "unlabeled", "no label", "no_label", "nolabel")
_REGION_ALIASES = {
    "forehead-eyebrow": ("forehead", "eyebrow", "eyebrows", "brow", "brows"),
    "eye-periorbital": ("eye", "eyes", "periorbital"),
    "nose": (),
    "mouth-chin": ("mouth", "chin", "lips"),
}
_REGION_TABLE = {alias: region for region, many in _REGION_ALIASES.items() for alias in (region, *many)}
_NAME_TABLE = {name.lower(): au for au, name in AU_NAMES.items()}
_SIDES = {"l": "L", "r": "R", "left": "L", "right": "R"}
_NO_AUS = ("", "null", "none", "nil", "-", "[]")
"""Texts for "no Action Unit is active"."""
_LONGEST_FIRST = "|".join(
    re.escape(name).replace(r"\ ", r"[\s-]+") for name in sorted(_NAME_TABLE, key=len, reverse=True)
)
# "AU12", "AU 12", "AU01", "au_1", "AU01_r", "AU01_c", "au_1_intensity", "12", "left AU14", "AU12 (Lip Corner Puller)",
# and a coder's "R12B", "AU12C" and "12L".
_UNIT = re.compile(
    rf"""
    (?: (?P<side>left|right) [\s-]+ )?
    (?: (?P<name>{_LONGEST_FIRST})
      | (?: (?: AUs? | action[\s_-]units? ) [\s_:-]* )? (?P<before>[LRUB])? 0* (?P<number>\d{{1,2}})
        (?: _(?:R|C|INTENSITY) | [A-E] | (?P<after>[LR])[A-E]? )?
    ) (?!\w)
    (?: \s* \( (?P<note>[^()]*) \) | \s* [:=–-] \s* (?P<alias>{_LONGEST_FIRST}) (?!\w) )?
    """,
    re.IGNORECASE | re.VERBOSE,
)
_GAP = re.compile(r"(?:[\s,;+/|&]|(?<!\w)(?:and|plus)(?!\w))*", re.IGNORECASE)
_HEADING = re.compile(r"(?:AUs|action[\s_-]units)\b\s*:?\s*(?=\S)", re.IGNORECASE)


def is_no_label(label: object) -> bool:
    """Tell whether a label, or the name of a class, stands for none: None, ``"None"``, ``"null"``, an empty text.

    No label is not "neutral", which is an expression of its own.
    """
    return label is None or (isinstance(label, str) and label.strip().lower() in _NO_LABEL)


def parse_emotion(label: str) -> str:
    """Return the canonical emotion for any known spelling of it.

    Args:
        label: Text, for example ``"Happy"``, ``"angry"`` or ``"contempt"``.

    Returns:
        One of `EMOTIONS`.

    Raises:
        LabelError: the label is unknown.
    """
    return _look_up(_EMOTION_TABLE, label, "emotion", EMOTIONS)


def parse_region(label: str) -> str:
    """Return the canonical region for any known spelling of it.

    Args:
        label: Text, for example ``"mouth-chin"``, ``"mouth_chin"`` or ``"eyes"``.

    Returns:
        One of `REGIONS`.

    Raises:
        LabelError: the label is unknown.
    """
    if isinstance(label, str) and label in REGIONS:
        return label
    text = re.sub(r"[\s_–—/]+", "-", label.strip()) if isinstance(label, str) else label
    return _look_up(_REGION_TABLE, text, "region", REGIONS)


def parse_au(label: str | int) -> int:
    """Return the number of an Action Unit in any known spelling.

    Args:
        label: An integer, a spelling of the toolkits (``"AU1"``, ``"AU01"``, ``"au_1"``, ``"AU01_r"``), a
            coder's note with side or intensity (``"R12B"``), or a name (``"Lip Corner Puller"``).

    Returns:
        The Action Unit, a key of `AU_NAMES`.

    Raises:
        LabelError: the label is not an Action Unit.
    """
    if type(label) is int and label in AU_NAMES:
        return label
    if isinstance(label, str):
        units = [unit for unit, _ in _read_units(label)]
        if len(units) != 1:
            _refuse(label)
        return units[0]
    if isinstance(label, bool) or not hasattr(label, "__index__") or int(label) not in AU_NAMES:
        _refuse(label)
    return int(label)


def parse_aus(labels: str | Iterable[str | int]) -> frozenset[int]:
    """Parse Action Units: a list of them, or one text.

    Args:
        labels: A list, each entry as of `parse_au` or a text of several, or one text such as ``"AU 6, AU 12"``,
            ``"AU6/AU12"``, ``"6 and 12"``, ``"AU6+12"``, ``"4+25+L12"``, ``"Cheek Raiser, Lip Corner Puller"`` or
            ``"AU12 (Lip Corner Puller)"``; an empty text, ``"null"`` and ``"none"`` name no unit.

    Returns:
        The Action Units, without sides and intensities; see `parse_au_sides`.

    Raises:
        LabelError: a part is not an Action Unit; the message names the part.
    """
    if isinstance(labels, frozenset) and labels <= AU_NAMES.keys() and {*map(type, labels)} <= {int}:
        return labels
    return frozenset(unit for unit, _ in _units_of(labels))


def parse_au_sides(labels: str | Iterable[str | int]) -> dict[int, str]:
    """Return the side of each Action Unit that shows on one side of the face alone.

    Args:
        labels: Labels as `parse_aus` takes them.

    Returns:
        Action Unit -> "L" (the person's left) or "R"; units without a side, and those on both, are left out.

    Raises:
        LabelError: a part is not an Action Unit.

    >>> parse_au_sides("4+25+L12")
    {12: 'L'}
    """
    sides: dict[int, set[str]] = {}
    for unit, side in _units_of(labels):
        sides.setdefault(unit, set()).add(side)
    return {unit: min(found) for unit, found in sorted(sides.items()) if len(found) == 1 and found != {""}}


def parse_au_set(text: str | Iterable[str | int]) -> tuple[int, ...]:
    """Return the Action Units of a set's name, or of a list, in ascending order.

    Args:
        text: A key of `AU_SETS`, or what `parse_aus` takes.

    Raises:
        LabelError: neither a set nor Action Units, or an empty list.
    """
    if isinstance(text, str) and text.strip().lower().replace("-", "_") in AU_SETS:
        return AU_SETS[text.strip().lower().replace("-", "_")]
    try:
        units = tuple(sorted(parse_aus(text)))
    except LabelError as error:
        raise LabelError(f"{error}; sets are {', '.join(AU_SETS)}") from error
    if not units:
        raise LabelError(f"the set of Action Units is empty: name some, or one of {', '.join(AU_SETS)}")
    return units


def format_au_set(units: Iterable[int]) -> str:
    """Return the name of a set of Action Units, or the units themselves: ``"disfa"``, ``"AU6 AU12"``."""
    wanted = tuple(sorted(units))
    names = (name for name, known in AU_SETS.items() if known == wanted)
    return next(names, " ".join(format_au(unit) for unit in wanted))


def format_au(au: int) -> str:
    """Return the spelling used in files, for example ``"AU12"``."""
    return f"AU{au}"


def prototype_aus(emotion: str, au_set: Iterable[int] = CORE_AUS) -> frozenset[int]:
    """Return an emotion's FACS prototype restricted to `au_set`.

    Args:
        emotion: Label, in any known spelling.
        au_set: Numbers of the Action Units that count.
    """
    return PROTOTYPES[parse_emotion(emotion)].aus & frozenset(au_set)


def _units_of(labels: str | Iterable[str | int]) -> list[tuple[int, str]]:
    """Return (Action Unit, side) of every part; the side is "L", "R" or empty."""
    if isinstance(labels, str):
        return list(_read_units(labels))
    if isinstance(labels, Mapping):
        raise LabelError(f"Action Units {short(labels)} must be a list of the active ones, not a table of values")
    found: list[tuple[int, str]] = []
    for label in labels:
        found += _read_units(label) if isinstance(label, str) and label.strip() else [(parse_au(label), "")]
    return found


@lru_cache(maxsize=4096)
def _read_units(text: str) -> tuple[tuple[int, str], ...]:
    """Read a text from left to right: units, with separators between them."""
    rest = text.strip().rstrip(".").rstrip()
    if rest.lower() in _NO_AUS:
        return ()
    if rest[0] + rest[-1] in ("[]", "()", "{}") and rest[0] not in rest[1:]:
        rest = rest[1:-1].replace('"', "").replace("'", "").strip()
    rest = _HEADING.sub("", rest, count=1) if _HEADING.match(rest) else rest
    at, found = _skip(rest, 0), list[tuple[int, str]]()
    while at < len(rest):
        match = _UNIT.match(rest, at)
        name = re.sub(r"[\s-]+", " ", (match and match["name"]) or "").lower()
        unit = int(match["number"]) if match and match["number"] else _NAME_TABLE.get(name, -1)
        if match is None or unit not in AU_NAMES:
            part = re.split(r"[,;+/|&]", rest[at:])[0].strip() or rest[at:]
            _refuse(text, match[0] if match else part.split()[0] if re.match(r"\S*\d", part) else part)
        found.append((unit, _side_of(match, unit, text)))
        at = _skip(rest, match.end())
        if at == match.end() < len(rest):
            _refuse(text, rest[match.start() :].split()[0])
    return tuple(found)


def _skip(text: str, at: int) -> int:
    """Return where the separators that begin at a place end."""
    gap = _GAP.match(text, at)
    return at if gap is None else gap.end()


def _side_of(match: re.Match[str], unit: int, text: str) -> str:
    """Return a unit's side, and check what stands in parentheses: its name, its side, or its intensity."""
    side = _SIDES.get((match["side"] or match["before"] or match["after"] or "").lower(), "")
    note = re.sub(r"[\s-]+", " ", match["note"] or match["alias"] or "").strip().lower()
    if note in _SIDES:
        return _SIDES[note]
    if note and note not in (AU_NAMES[unit].lower(), format_au(unit).lower(), str(unit), *"abcde"):
        _refuse(text, match[0])
    return side


def _refuse(label: object, part: str | None = None) -> NoReturn:
    where = "" if part is None or part == label else f" in {short(label)}"
    raise LabelError(
        f"unknown Action Unit {short(label if part is None else part)}{where}: "
        "write it as 'AU12', 12 or 'Lip Corner Puller'"
    )


def _look_up(table: dict[str, str], label: str, kind: str, known: tuple[str, ...]) -> str:
    key = label.strip().lower() if isinstance(label, str) else None
    if key not in table:
        raise LabelError(f"unknown {kind} {short(label)}: use one of {', '.join(known)}")
    return table[key]
