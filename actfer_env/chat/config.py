"""Protocol between a language policy and an episode: the one definition of formats, coordinates and picture sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from actfer_env.bounds import bounded, check_fields
from actfer_env.errors import ActFERError
from actfer_env.tools.schema import Coordinates

Parsing = Literal["strict", "lenient"]
Calls = Literal["text", "native"]


class ChatError(ActFERError, ValueError):
    """A chat setting that is unknown or out of range."""


@dataclass(frozen=True)
class Preset:
    """A way of asking.

    Attributes:
        tools: Whether the policy may call tools; without, one turn with an answer is all.
        answer: "json" is ``{"emotion": ..., "aus": [...]}``, "label" one word.
        aus: Place where Action Units are named: in the answer, in parentheses in the reasoning, or nowhere.
        canvas: Side of the virtual canvas of boxes in the reasoning, 0 for none. It spans the picture, whatever its
            shape: a number divided by the side is a share of the picture's width or height.
        side: Side of a square into which the picture is resized, its shape kept; 0 leaves the picture alone.
        bars: Whether black bars fill the square beside a picture that is not square; without them the shorter side
            is shorter.
        exclude: Emotions that the answer cannot be.
        own_prompt: A sample's own prompt (``meta["prompt"]``) is asked whole where it has one; else the preset's with
            the sample's own labels (``meta["candidate_labels"]``).
        source: Origin of the format.
    """

    tools: bool = True
    answer: Literal["json", "label"] = "json"
    aus: Literal["answer", "reasoning", "none"] = "answer"
    canvas: int = 0
    side: int = 0
    bars: bool = True
    exclude: tuple[str, ...] = ()
    own_prompt: bool = False
    source: str = "ActFER, section 3"


CHAT_PRESETS: Mapping[str, Preset] = MappingProxyType({
    "actfer": Preset(),
    "facial_r1": Preset(False, "label", "reasoning", source="Facial-R1: think, then one word; AUs in parentheses"),
    "tag": Preset(False, "label", "none", canvas=512, side=224, bars=False, exclude=("contempt",),
                  source="TAG, section 5.1: 224 x 224, shape kept; boxes on a 512 canvas inside the reasoning"),
    "ferbench": Preset(False, "label", "none", side=224, own_prompt=True,
                       source="UniFER / FERBench: one pass, 224 x 224, the item's own prompt"),
})  # fmt: skip
"""Ways of asking by name; those without tools are the other papers' passive baselines."""


@dataclass(frozen=True)
class ChatConfig:
    """Constants of the chat protocol; all chosen here unless a source is named.

    Attributes:
        preset: A name in `CHAT_PRESETS`.
        coordinates: Coordinates of boxes: "relative_1000" (Qwen3-VL), "pixels" (Qwen2.5-VL) or "unit".
        parsing: "strict" accepts the documented grammar only, "lenient" mends what is clear; see `parse_turn`.
        calls: "text" writes calls into the turn as ``<tool_call>``, "native" passes them beside it (OpenAI).
        brief: Leave out of prompts and tool messages what a fine-tuned model can do without: FACS knowledge,
            instructions, and the regions' boxes in tool messages. Formats and tools are the same.
        schemas_in_prompt: Write the tools' schemas into the system prompt, for servers and templates without tools.
        max_characters: Most characters of one turn; a longer one is a parse error and is not read.
        image_side: Bound on the long side of the raw picture as it is shown, pixels.
        face_side: Side of the aligned face, pixels.
        crop_side: Long side of a magnified crop, pixels.
    """

    preset: str = "actfer"
    coordinates: Coordinates = "relative_1000"
    parsing: Parsing = "lenient"
    calls: Calls = "text"
    brief: bool = False
    schemas_in_prompt: bool = False
    max_characters: int = bounded(32_768, ge=16)
    image_side: int = bounded(640, ge=16)
    face_side: int = bounded(224, ge=16, le=4096)
    crop_side: int = bounded(448, ge=16, le=4096)

    def __post_init__(self) -> None:
        check_fields(self, ChatError)
        known = {
            "preset": tuple(CHAT_PRESETS), "coordinates": get_args(Coordinates), "parsing": get_args(Parsing),
            "calls": get_args(Calls),
        }  # fmt: skip
        for name, choices in known.items():
            if getattr(self, name) not in choices:
                raise ChatError(f"unknown {name} {getattr(self, name)!r}: use one of {', '.join(choices)}")

    @property
    def preset_spec(self) -> Preset:
        """The preset's definition, `CHAT_PRESETS` under its name."""
        return CHAT_PRESETS[self.preset]
