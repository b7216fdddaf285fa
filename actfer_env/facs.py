"""Emotions, Action Units, their prototypes and regions: the only place that spells them.

Inside the package an emotion is one of `EMOTIONS` (lower-case noun), an Action Unit an `int`, a region one of
`REGIONS`. Every other spelling passes through `parse_emotion`, `parse_au`, `parse_aus` or `parse_region`,
which refuse what they do not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType

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
"""What one sees of each Action Unit, in a few words."""

CORE_AUS: tuple[int, ...] = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 24, 25, 26, 43)
"""The environment's default Action Units: those of the emotion prototypes that still pictures show well."""

DISFA_AUS: tuple[int, ...] = (1, 2, 4, 6, 9, 12, 25, 26)
"""The eight Action Units of the DISFA protocol that ActFER reports (section 4)."""

FACIAL_R1_AUS: tuple[int, ...] = (*range(1, 3), *range(4, 8), *range(9, 21), *range(22, 33), 43)
"""The thirty Action Units that Facial-R1 defines."""

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
        aus: the prototype, as a set of Action Units.
        variants: other combinations that the same source accepts.
        unilateral: whether the prototype is one-sided (contempt).
        source: where it stands.
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
    "neutral": ("neutrality", "none", "no expression"),
    "happiness": ("happy", "joy", "joyful"),
    "sadness": ("sad",),
    "surprise": ("surprised",),
    "fear": ("fearful", "afraid", "scared"),
    "disgust": ("disgusted",),
    "anger": ("angry",),
    "contempt": ("contemptuous",),
}
_EMOTION_TABLE = {alias: emotion for emotion, many in _EMOTION_ALIASES.items() for alias in (emotion, *many)}
_REGION_ALIASES = {
    "forehead-eyebrow": ("forehead", "eyebrow", "eyebrows", "brow", "brows"),
    "eye-periorbital": ("eye", "eyes", "periorbital"),
    "nose": (),
    "mouth-chin": ("mouth", "chin", "lips"),
}
_REGION_TABLE = {alias: region for region, many in _REGION_ALIASES.items() for alias in (region, *many)}
_NAME_TABLE = {name.lower(): au for au, name in AU_NAMES.items()}
# "AU1", "AU01", "au_1", "AU01_r", "AU01_c", "au_1_intensity", "12", and a FACS coder's "R12B" or "AU12C".
_AU_PATTERN = re.compile(r"(?:AU)?[\s_-]*[LRUB]?0*(\d{1,2})(?:_(?:R|C|INTENSITY)|[A-E])?", re.IGNORECASE)


def parse_emotion(label: str) -> str:
    """Return the canonical emotion for any known spelling of it.

    Args:
        label: for example ``"Happy"``, ``"angry"`` or ``"contempt"``.

    Returns:
        One of `EMOTIONS`.

    Raises:
        LabelError: the label is unknown.
    """
    return _look_up(_EMOTION_TABLE, label, "emotion", EMOTIONS)


def parse_region(label: str) -> str:
    """Return the canonical region for any known spelling of it.

    Args:
        label: for example ``"mouth-chin"``, ``"mouth_chin"`` or ``"eyes"``.

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
        label: an integer, a spelling of the toolkits (``"AU1"``, ``"AU01"``, ``"au_1"``, ``"AU01_r"``), a
            coder's note with side or intensity (``"R12B"``), or a name (``"Lip Corner Puller"``).

    Returns:
        The Action Unit, a key of `AU_NAMES`.

    Raises:
        LabelError: the label is not an Action Unit.
    """
    if type(label) is int and label in AU_NAMES:
        return label
    number = _au_number(label)
    if number is None or number not in AU_NAMES:
        raise LabelError(f"unknown Action Unit {short(label)}: write it as 'AU12', 12 or 'Lip Corner Puller'")
    return number


def parse_aus(labels: str | Iterable[str | int]) -> frozenset[int]:
    """Parse a list of Action Units, or one string with commas, semicolons, plus signs or spaces between them.

    Raises:
        LabelError: one of them is not an Action Unit.
    """
    if isinstance(labels, str):
        labels = [part for part in re.split(r"[,;+\s]+", labels) if part]
    return frozenset(parse_au(label) for label in labels)


def format_au(au: int) -> str:
    """Return the spelling used in files, for example ``"AU12"``."""
    return f"AU{au}"


def prototype_aus(emotion: str, au_set: Iterable[int] = CORE_AUS) -> frozenset[int]:
    """Return an emotion's FACS prototype restricted to `au_set`."""
    return PROTOTYPES[parse_emotion(emotion)].aus & frozenset(au_set)


def _au_number(label: str | int) -> int | None:
    if isinstance(label, bool):
        return None
    if not isinstance(label, str):
        return int(label) if hasattr(label, "__index__") else None
    match = _AU_PATTERN.fullmatch(label.strip())
    return int(match.group(1)) if match else _NAME_TABLE.get(label.strip().lower())


def _look_up(table: dict[str, str], label: str, kind: str, known: tuple[str, ...]) -> str:
    key = label.strip().lower() if isinstance(label, str) else None
    if key not in table:
        raise LabelError(f"unknown {kind} {short(label)}: use one of {', '.join(known)}")
    return table[key]
