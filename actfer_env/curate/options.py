"""`CurateOptions`: every setting of a curation, checked by pydantic; chosen here unless a source is named."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from actfer_env import facs
from actfer_env.chat import ChatConfig
from actfer_env.episode import EpisodeConfig
from actfer_env.errors import ActFERError, DataError

Writer = Literal["template", "endpoint"]
Strategy = Literal["given", "eliminate"]
"""Ways to lead a model to the truth: it is told the labels and must use them (Facial-R1, appendix C), or it must find
the emotion, and each wrong one is struck off the list of candidates (TAG, section 4)."""
Units = Literal["auto", "labels", "pseudo", "prototype"]
"""Origin of Action Units: labels and, where there are none, a model; labels alone; a model alone (ActFER 3.2); or
labels and, where there are none, the emotion's FACS prototype, which describes no picture and is marked as such."""
Share = Annotated[float, Field(ge=0, le=1)]


class CurateOptions(BaseModel):
    """Settings of a curation; all but those of the endpoint decide which lines come out.

    Attributes:
        writer: "template" writes thoughts from Action Units, without a model; "endpoint" asks models.
        strategy: See `Strategy`.
        units: See `Units`.
        length: Length of the template's thoughts: "full" sentences, or "short" ones for a tiny model.
        full_share: Share of faces whose trajectory zooms; others are simplified, and degraded where there is no face.
        forced_share: Share of the trajectories that stand under a prompt which forces them: those that zoom under the
            one that demands it, simplified ones under the one without the tool (`EpisodeConfig.zoom`). A policy that
            learnt all three prompts can be forced by a gate report; ours, not the paper's.
        both_share: Share of the zooming trajectories whose last thought has a Global Analysis before the local one.
        most_regions: Regions into which a trajectory zooms at most.
        attempts: Answers that are asked for at most, in each stage, until one passes its checks.
        check_pictures: Ask the model first whether the picture is fit for training (TAG, section 4).
        thought_characters: Fewest and most characters of a thought.
        repetition: Largest share of repeated word 4-grams in a trajectory's thoughts.
        foreign: Largest share of letters outside the prompt's script.
        seed: Fixes every random draw.
        views: Format in which raw view, aligned face and four crops are kept: "png", "jpeg", or "none".
        shard_size: Samples of a journal file.
        number: Samples, from the first on; None is all.
        sft_size: Lines of the SFT set, in the natural distribution; None is all that are left.
        rl_size: Lines of the RL set; None is the paper's share, 6.8 of 54.8.
        rl_histogram: Emotion -> lines of the RL set; in the place of `rl_size` and of the re-balancing.
        rl_flatten: 0 keeps the natural distribution of emotions in the RL set, 1 removes it, before hardness weighs in.
        rl_cap: Share of an emotion's lines that the RL set takes at most, so that the SFT set keeps some.
        distance: Bits in which the perceptual hashes of near-duplicates differ at most.
        detector: The detector's spec.
        chat: Fields of `ChatConfig` under which trajectories are played; parsing is strict.
        episode: Fields of `EpisodeConfig`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    writer: Writer = "template"
    strategy: Strategy = "given"
    units: Units = "auto"
    length: Literal["full", "short"] = "full"
    full_share: Share = 0.5
    forced_share: Share = 0.0
    both_share: Share = 0.5
    most_regions: Annotated[int, Field(ge=1, le=4)] = 2
    attempts: Annotated[int, Field(ge=1, le=20)] = 4
    check_pictures: bool = False
    thought_characters: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (12, 2000)
    repetition: Share = 0.3
    foreign: Share = 0.05
    seed: Annotated[int, Field(ge=0)] = 0
    views: Literal["png", "jpeg", "none"] = "png"
    shard_size: Annotated[int, Field(ge=1)] = 512
    number: Annotated[int, Field(ge=1)] | None = None
    sft_size: Annotated[int, Field(ge=0)] | None = None
    rl_size: Annotated[int, Field(ge=0)] | None = None
    rl_histogram: dict[str, Annotated[int, Field(ge=0)]] | None = None
    rl_flatten: Share = 1.0
    rl_cap: Share = 0.5
    distance: Annotated[int, Field(ge=0, le=8)] = 4
    detector: str = "auto"
    chat: dict[str, Any] = Field(default_factory=dict)
    episode: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def build(cls, **fields: Any) -> CurateOptions:
        """Return options; fields that are None keep their defaults.

        Raises:
            DataError: a field is unknown, of another type or out of its range; one line that names it.
        """
        try:
            return cls(**{name: value for name, value in fields.items() if value is not None})
        except ValidationError as error:
            raise DataError(first_fault(error, "CurateOptions")) from error

    @field_validator("rl_histogram")
    @classmethod
    def _known_emotions(cls, value: dict[str, int] | None) -> dict[str, int] | None:
        return None if value is None else {facs.parse_emotion(name): count for name, count in value.items()}

    @field_validator("chat")
    @classmethod
    def _known_chat(cls, value: dict[str, Any]) -> dict[str, Any]:
        return _built(ChatConfig, {**value, "parsing": "strict"})

    @field_validator("episode")
    @classmethod
    def _known_episode(cls, value: dict[str, Any]) -> dict[str, Any]:
        return _built(EpisodeConfig, value)

    @property
    def chat_config(self) -> ChatConfig:
        """The conversation's settings; turns are parsed strictly, so that no line needs a repair."""
        return ChatConfig(**self.chat)

    @property
    def episode_config(self) -> EpisodeConfig:
        """The episode's settings."""
        return EpisodeConfig(**self.episode)

    def line_facts(self) -> dict[str, Any]:
        """Return what decides the lines, as JSON values: all but the sizes of the sets and of the files."""
        late = {"sft_size", "rl_size", "rl_histogram", "rl_flatten", "rl_cap", "distance", "number"}
        facts = self.model_dump(mode="json", exclude=late)
        if not self.forced_share:  # folders of older versions do not name it
            del facts["forced_share"]
        return facts


def _built(kind: Any, value: dict[str, Any]) -> dict[str, Any]:
    try:
        kind(**value)
    except TypeError as error:
        known = ", ".join(kind.__dataclass_fields__)
        raise ValueError(f"{kind.__name__}: {str(error).rpartition(' ')[2]} is unknown: use one of {known}") from error
    except ActFERError as error:
        raise ValueError(str(error)) from error
    return value


def first_fault(error: ValidationError, what: str) -> str:
    """Return the first fault that pydantic found, in one line that names the field."""
    fault = error.errors()[0]
    place = ".".join(str(part) for part in fault["loc"]) or what
    return f"{what}: {place}: {fault['msg'].removeprefix('Value error, ')}"
