"""Words of the template writer: several ways to say what each Action Unit shows, and to join the parts of a thought."""

from __future__ import annotations

from types import MappingProxyType

from actfer_env import facs

UNIT_PHRASES = MappingProxyType({
    1: ("the inner brows are raised", "the inner ends of the brows go up", "the brows rise at their inner ends"),
    2: ("the outer brows are raised", "the outer ends of the brows go up", "the brows arch at their outer ends"),
    4: ("the brows are lowered and drawn together", "the brows come down", "a furrow stands between the brows"),
    5: ("the upper lids are raised", "the eyes are opened wide", "more of the eyes shows above the irises"),
    6: ("the cheeks are raised", "the cheeks push up under the eyes", "the eyes narrow above raised cheeks"),
    7: ("the lids are tightened", "the lower lids are tense and straight", "the eyes are narrowed by tight lids"),
    9: ("the nose is wrinkled", "wrinkles run across the root of the nose", "the nose is drawn up"),
    10: ("the upper lip is raised", "the upper lip goes up in the middle", "the upper lip is pulled towards the nose"),
    11: ("the fold beside the nose is deep", "the fold between nose and mouth is deepened"),
    12: ("the lip corners are pulled up", "the corners of the mouth go up and out", "the mouth curves upwards"),
    13: ("the lip corners are pulled up sharply", "the cheeks puff above sharp lip corners"),
    14: ("the lip corners are tightened into dimples", "a dimple stands beside the mouth", "the lip corners are tucked in"),
    15: ("the lip corners are pulled down", "the corners of the mouth droop", "the mouth curves downwards"),
    16: ("the lower lip is pulled down", "the lower lip goes down over the lower teeth"),
    17: ("the chin is raised", "the chin pushes the lower lip up", "the chin is wrinkled and pushed up"),
    18: ("the lips are puckered", "the lips are drawn together and forward"),
    19: ("the tongue shows", "the tongue is seen between the lips"),
    20: ("the lips are stretched sideways", "the mouth is pulled wide", "the lip corners are drawn back sideways"),
    22: ("the lips are funnelled outwards", "the lips turn out like a funnel"),
    23: ("the lips are tightened", "the lips are tight and narrow", "the red of the lips is narrowed"),
    24: ("the lips are pressed together", "the lips press on each other", "the mouth is pressed shut"),
    25: ("the lips are parted", "the lips are open", "a gap shows between the lips"),
    26: ("the jaw is dropped", "the jaw hangs open", "the mouth is opened by a loose jaw"),
    27: ("the mouth is stretched wide open", "the jaw is pulled far down"),
    28: ("the lips are sucked in", "the lips are drawn in over the teeth"),
    29: ("the jaw is thrust forward", "the lower jaw comes forward"),
    30: ("the jaw is moved to one side", "the lower jaw stands to one side"),
    31: ("the jaw is clenched", "the teeth are clenched"),
    32: ("the lip is bitten", "the teeth hold a lip"),
    43: ("the eyes are closed", "the lids are shut", "both eyes are shut"),
})  # fmt: skip
"""Action Unit -> phrases; what is not here is said as `facs.AU_DEFINITIONS` has it."""

STRENGTHS = MappingProxyType({1: ", if only just", 2: ", if slightly", 4: ", and clearly so", 5: ", and very much so"})
"""Intensity on the scale 0 to 5 -> how it is said; what lies between goes without saying."""
SIDES = MappingProxyType({"left": "on the left of the picture", "right": "on the right of the picture"})
"""Side of the picture on which alone a unit is active -> how it is said."""

REGION_WORDS = MappingProxyType({
    "forehead-eyebrow": ("the brows", "the forehead and the brows", "the brow area"),
    "eye-periorbital": ("the eyes", "the eyes and lids", "the area around the eyes"),
    "nose": ("the nose", "the nose and its root", "the middle of the face"),
    "mouth-chin": ("the mouth", "the lips and the chin", "the mouth area"),
})  # fmt: skip

RESTING = (
    "all muscles are at rest", "brows, eyes and mouth are relaxed", "the whole face is relaxed",
    "the face is at rest", "every part of the face is still and loose",
)  # fmt: skip
RESTING_PART = ("all is at rest", "everything is relaxed", "the skin is smooth and still", "no muscle is tense")

NORMALISE = (
    "I have the raw picture only. I normalise first: find the face and align it.",
    "This is a raw picture. A standardised view comes first, so I detect and align the face.",
    "The face is still as the camera took it. First I bring it into a standard view.",
    "Before I judge anything I need an aligned face. I call the detector.",
    "I begin with face detection and alignment, since the picture is raw.",
)
LOOK_CLOSER = (
    "The aligned face is here. {Region} may decide, and the details are small. I zoom in there.",
    "I have a standard view. To be sure about {region} I magnify {it}.",
    "The view of the whole face leaves {region} open. I take a closer look.",
    "The face is aligned now. I inspect {region} more closely before I answer.",
    "Fine movements around {region} would change my answer, so I zoom in.",
)
LOOK_AGAIN = (
    "Next I compare with {region}.", "One more region matters: {region}. I zoom in there, too.",
    "The picture is clearer now. I check {region} as well.", "I also want to see {region} in detail.",
)  # fmt: skip
ENOUGH = (
    "The aligned face is clear enough, and I answer from the whole view.",
    "The standard view shows what I need. A zoom would add little.",
    "I have an aligned face, and its features are plain to see.",
    "The whole face can be read at this size.",
)
NO_FACE = (
    "The detector found no reliable face, so zooming is impossible. I judge the whole picture.",
    "Detection failed. I fall back on the raw picture as a whole.",
    "There is no aligned view, since no face was found. I reason from the whole picture.",
)
READY = ("The details are clear now.", "I have seen enough.", "The zoom shows it.", "Now I can tell.")
GLOBAL = ("Seen as a whole, {units}.", "Over the whole face, {units}.", "In the overall view, {units}.")
CONCLUDE = (
    "Together this speaks for {emotion}.", "Taken together, these movements express {emotion}.",
    "This combination is that of {emotion}.", "All of this points to {emotion}.", "I read this as {emotion}.",
)  # fmt: skip
CONCLUDE_ONE = (
    "This speaks for {emotion}.", "This movement expresses {emotion}.", "This points to {emotion}.",
    "I read this as {emotion}.",
)  # fmt: skip
CONCLUDE_RESTING = (
    "This is a {emotion} face.", "I read this as {emotion}.", "The expression is {emotion}.", "So the answer is {emotion}.",
)  # fmt: skip

SHORT_NORMALISE = ("Raw picture: normalise first.", "Align the face first.")
SHORT_LOOK = ("Look closer: {region}.", "Zoom into {region}.")
SHORT_NO_FACE = ("No face found.", "Detection failed.")


def unit_phrases(unit: int) -> tuple[str, ...]:
    """Return the ways to say what an Action Unit shows."""
    return UNIT_PHRASES.get(unit, (facs.AU_DEFINITIONS[unit],))
