"""From a sample to its line: views, fitness, descriptions, Action Units, thoughts, quality."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from actfer_env import facs
from actfer_env.chat import ChatEpisode, chat_tools
from actfer_env.chat.prompts import own_question
from actfer_env.curate.asking import Inquiry, Models, StageError
from actfer_env.curate.lines import EmotionFrom, Line, Outcome, UnitsFrom
from actfer_env.curate.options import CurateOptions
from actfer_env.curate.quality import SCRIPT, faults
from actfer_env.curate.stages import check_picture, describe, extract_units, write_passive, write_thoughts
from actfer_env.curate.template import Budget, Case, plan, write_turns
from actfer_env.curate.views import Views, keep_views, look
from actfer_env.data.duplicates import perceptual_hash, thumbnail
from actfer_env.data.references import reference
from actfer_env.episode import Zooming
from actfer_env.errors import ImageError
from actfer_env.images import RGB
from actfer_env.sample import Dataset, Sample
from actfer_env.tools.au_areas import au_boxes, sides_of
from actfer_env.tools.detectors.cached import picture_digest
from actfer_env.tools.face_tools import ONE_PASS, FaceTools

FORCED: dict[str, Zooming] = {"full": "always", "simplified": "never"}
"""Mode of a trajectory -> the prompt that forces it."""
AGREEMENT = 0.5
"""Jaccard index that a FACS prototype must reach to stand in for a missing emotion (chosen here)."""


@dataclass
class Worker:
    """Makes lines; each process or run has one, shared by its threads.

    Attributes:
        dataset: The data set.
        folder: The curation's folder.
        options: The options.
        models: The models that are asked; None of the template writer.
    """

    dataset: Dataset
    folder: Path
    options: CurateOptions
    models: Models | None = None

    @cached_property
    def tools(self) -> FaceTools:
        """Tools of the chat's size."""
        return chat_tools(self.options.detector, self.options.chat_config, cache=ONE_PASS)

    def outcome(self, index: int) -> tuple[Outcome, np.ndarray | None]:
        """Return what becomes of a sample, and its picture's thumbnail, int8 (1024,).

        Raises:
            EndpointError: the endpoint cannot be used, or the token budget is used up.
            DataError: the folder cannot be written.
            DetectorError: the detector lacks its extra or weights.
        """
        sample = self.dataset[index]
        inquiry = None
        if self.models is not None:
            shard = index // self.options.shard_size
            inquiry = Inquiry(self.models, sample.id, shard, self.options.attempts)
        try:
            image = self.tools.image(sample)
            line = self._line(index, sample, image, inquiry)
        except ImageError as error:
            return Outcome(schema=1, index=index, id=sample.id, reason="picture: broken", detail=str(error)), None
        except StageError as error:
            if inquiry is not None and self.models is not None and error.reason.startswith(("describe", "picture")):
                self.models.note(bool(inquiry.used))
            spent = inquiry.keys if inquiry else []
            return Outcome(
                schema=1, index=index, id=sample.id, reason=error.reason, detail=error.detail, responses=spent
            ), None
        if self.models is not None:
            self.models.note(True)
        return Outcome(schema=1, index=index, id=sample.id, line=line), compact(thumbnail(image))

    def _line(self, index: int, sample: Sample, image: RGB, inquiry: Inquiry | None) -> Line:
        options, rng = self.options, random.Random(f"{self.options.seed} {sample.id}")
        chat, config = options.chat_config, options.episode_config
        views = look(sample, self.tools, chat, config)
        if options.views != "none":
            keep_views(self.folder, sample.id, views, options.views)
        if inquiry is not None and options.check_pictures:
            check_picture(inquiry, views)
        descriptions = {} if inquiry is None else describe(inquiry, views, SCRIPT)
        units, units_from, evidence = self._units(sample, inquiry, descriptions)
        emotion, emotion_from = _emotion(sample, units)
        if emotion not in config.emotions or emotion in chat.preset_spec.exclude:
            raise StageError("label: emotion", f"{emotion} is no answer of this preset")
        if units_from == "pseudo" and not units and emotion != "neutral":
            raise StageError("quality: units", f"no Action Unit was found for {emotion}")

        # The trajectory: its mode and regions, the boxes that ground it, and its thoughts.
        budget = Budget(options.full_share, options.most_regions, config.max_zooms, config.max_turns)
        found = views.face is not None
        mode, regions = plan(units, found, sample.prealigned, chat.preset_spec.tools, rng, budget)
        boxes = au_boxes(sample, self.tools, units) if found else {}
        canvas = chat.preset_spec.canvas
        case = Case(
            emotion, units, mode, regions, sample.prealigned, rng.random() < options.both_share,
            {unit: sides[0] for unit in units if len(sides := sides_of(sample, unit)) == 1}, _intensities(sample),
            {facs.parse_au(unit): _on_canvas(box, canvas) for unit, box in boxes.items()} if canvas else {},
        )  # fmt: skip
        turns, attempts = self._turns(case, sample, inquiry, views, descriptions, rng)
        zoom = config.zoom
        if options.forced_share and zoom == "free" and mode in FORCED and rng.random() < options.forced_share:
            zoom = FORCED[mode]
        for reason, detail in faults(turns, case, sample, self.tools, options, zoom):
            raise StageError(reason, detail)
        subject, value = sample.subject, perceptual_hash(image)
        return Line(
            schema=1, id=sample.id, index=index, dataset=str(sample.meta.get("dataset", self.dataset.name)),
            image=str(sample.meta.get("image", sample.id)), reference=reference(sample, self.dataset), subject=subject,
            question=own_question(sample) or None, emotion=emotion,
            aus=[facs.format_au(unit) for unit in sorted(units)], emotion_from=emotion_from, units_from=units_from,
            evidence={facs.format_au(unit): said for unit, said in sorted(evidence.items())}, boxes=boxes,
            descriptions=descriptions, mode=mode, regions=list(regions), zoom=zoom, turns=turns,
            writer="template" if inquiry is None else inquiry.models.vision.config.model,
            strategy=None if inquiry is None else options.strategy, attempts=attempts,
            responses=[] if inquiry is None else inquiry.used, picture=picture_digest(image),
            hash=None if value is None else f"{value:016x}",
        )  # fmt: skip

    def _units(
        self, sample: Sample, inquiry: Inquiry | None, descriptions: dict[str, str]
    ) -> tuple[frozenset[int], UnitsFrom, dict[int, str]]:
        """Return a sample's target units, where they come from, and the words that led to pseudo-units."""
        kind, known = self.options.units, self.options.episode_config.known_aus
        if sample.aus is not None and kind != "pseudo":
            return sample.aus & known, "label", {}
        if kind == "prototype" and sample.emotion is not None:
            return facs.prototype_aus(sample.emotion, known), "prototype", {}
        if inquiry is None or kind in ("labels", "prototype"):
            raise StageError("label: units", "the sample has no Action Units; --writer endpoint extracts them")
        found = extract_units(inquiry, descriptions, sorted(known))
        return frozenset(found), "pseudo", found

    def _turns(
        self, case: Case, sample: Sample, inquiry: Inquiry | None, views: Views, descriptions: dict[str, str],
        rng: random.Random,
    ) -> tuple[list[str], int]:  # fmt: skip
        options = self.options
        if inquiry is None:
            return write_turns(case, options.chat_config, options.length, rng), 0
        if case.mode != "passive":
            return write_thoughts(inquiry, case, views, descriptions, options)
        target = replace(sample, emotion=case.emotion, aus=case.units)
        episode = ChatEpisode(target, self.tools, options.chat_config, options.episode_config)
        return write_passive(inquiry, case, episode, options)


def compact(small: np.ndarray) -> np.ndarray:
    """Return a thumbnail in a quarter of its bytes: int8 (1024,), its length lost, its direction kept."""
    peak = max(float(np.abs(small).max()), 1e-9)
    return np.rint(small * (127 / peak)).astype(np.int8)


def _emotion(sample: Sample, units: frozenset[int]) -> tuple[str, EmotionFrom]:
    """Return a sample's emotion, or that of the FACS prototype nearest to its units, and which of the two it is."""
    if sample.emotion is not None:
        return sample.emotion, "label"
    if not units:
        return "neutral", "units"
    near = {
        emotion: max(len(units & one) / len(units | one) for one in (prototype.aus, *prototype.variants))
        for emotion, prototype in facs.PROTOTYPES.items() if emotion != "neutral"
    }  # fmt: skip
    ranked = sorted(near.values(), reverse=True)
    if ranked[0] < AGREEMENT or ranked[0] == ranked[1]:
        raise StageError("label: emotion", "no emotion label, and the units fit no one prototype")
    return max(near, key=near.__getitem__), "units"


def _intensities(sample: Sample) -> dict[int, int]:
    """Return how strong each coded unit is, 0 to 5: of a drawn face on its stronger side."""
    coded = sample.meta.get("intensities") or {}
    tables = [coded[side] for side in ("left", "right") if isinstance(coded.get(side), dict)] or [coded]
    found: dict[int, int] = {}
    for label, value in (pair for table in tables for pair in table.items()):
        unit = facs.parse_au(label)
        found[unit] = max(found.get(unit, 0), round(float(value)))
    return found


def _on_canvas(box: list[float], side: int) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = (round(min(max(value, 0.0), 1.0) * side) for value in box)
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)
