"""Lines of a curated data set, and the records that they come from: pydantic models of what lies on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from actfer_env import facs
from actfer_env.curate.options import Strategy, first_fault
from actfer_env.episode import Zooming
from actfer_env.errors import DataError

SCHEMA = 1
EmotionFrom = Literal["label", "units"]
"""Origin of a target emotion: its label, or the nearest FACS prototype of the units."""
UnitsFrom = Literal["label", "pseudo", "prototype"]
"""Origin of target units: labels, a model, or the emotion's FACS prototype."""
Mode = Literal["full", "simplified", "degraded", "passive"]
"""The paper's three modes of trajectory (ActFER 3.2), and one turn without tools, of the other papers' presets."""


class Line(BaseModel):
    """One trajectory: the turns that a policy should have written over a picture, and where everything comes from.

    Attributes:
        id: The sample's id.
        index: The sample's place in its data set.
        dataset: The data set's name.
        image: Reference of the picture, for people.
        reference: JSON values from which `data.references.sample_of` makes the sample again.
        subject: Person whom the picture shows, by the data set's own name or number; None where that is not known.
        question: The sample's own question, or None.
        emotion: The target.
        aus: The target Action Units, within the curation's set.
        emotion_from: "label", or "units" where the nearest FACS prototype stands in for a missing label.
        units_from: "label", "pseudo" (a model's), or "prototype" (the emotion's).
        evidence: Pseudo-unit -> the words of the descriptions that led to it.
        boxes: Unit -> its box as shares of the picture, where a face was found.
        descriptions: "raw" and "views" -> a model's dense description.
        mode: See `Mode`.
        regions: Regions into which the trajectory zooms, in order.
        zoom: Prompt that it stands under, of `EpisodeConfig.zoom`.
        turns: Texts that the policy writes, turn by turn.
        writer: "template", or the model's name.
        strategy: Way in which the model was led to the truth; None of the template.
        attempts: Answers that the last stage took.
        responses: Keys of the answers in ``responses/`` from which this line was made, in order.
        picture: Digest of the picture's pixels.
        hash: Perceptual hash of the picture, 16 hexadecimal digits; None of a flat picture.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: Literal[1] = Field(1, alias="schema")
    id: str
    index: Annotated[int, Field(ge=0)]
    dataset: str
    image: str
    reference: dict[str, Any]
    subject: str | None = None
    question: str | None = None
    emotion: Literal[facs.EMOTIONS]  # type: ignore[valid-type]
    aus: list[str]
    emotion_from: EmotionFrom = "label"
    units_from: UnitsFrom = "label"
    evidence: dict[str, str] = {}
    boxes: dict[str, list[float]] = {}
    descriptions: dict[str, str] = {}
    mode: Mode
    regions: list[str] = []
    zoom: Zooming = "free"
    turns: Annotated[list[str], Field(min_length=1)]
    writer: str = "template"
    strategy: Strategy | None = None
    attempts: int = 0
    responses: list[str] = []
    picture: str
    hash: str | None = None

    @property
    def units(self) -> frozenset[int]:
        """The target Action Units as numbers."""
        return facs.parse_aus(self.aus)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, `schema` first."""
        return self.model_dump(mode="json", by_alias=True)


class Outcome(BaseModel):
    """Outcome of a sample: a line, or the reason why there is none.

    Attributes:
        index: The sample's place in its data set.
        id: Its id.
        reason: Kind of the fault, by which it is counted; None of a line that is kept.
        detail: The fault in words.
        responses: Keys of the answers that were spent on it.
        line: The line that is kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: Literal[1] = Field(1, alias="schema")
    index: int
    id: str
    reason: str | None = None
    detail: str = ""
    responses: list[str] = []
    line: Line | None = None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, `schema` first."""
        return self.model_dump(mode="json", by_alias=True)


def parse_outcome(record: dict[str, Any]) -> Outcome:
    """Return the outcome of a journal's record.

    Raises:
        ValueError: it is none; one line.
    """
    try:
        return Outcome.model_validate(record)
    except ValidationError as error:
        raise ValueError(first_fault(error, "outcome")) from error


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a file such as ``sft.jsonl``, one at a time.

    Raises:
        DataError: the file cannot be read, or a line (named by number) is none.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, 1):
                try:
                    yield Line.model_validate(json.loads(text))
                except (ValidationError, ValueError) as error:
                    why = first_fault(error, "line") if isinstance(error, ValidationError) else str(error)
                    raise DataError(f"{path}, line {number}: {why}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; 'actfer data curate' writes it") from error
