"""Cost of a curation by models, estimated without a call."""

from __future__ import annotations

from dataclasses import dataclass, replace

from actfer_env import facs
from actfer_env.chat import chat_tools
from actfer_env.curate.asking import prompt
from actfer_env.curate.options import CurateOptions
from actfer_env.curate.stages import SECTION_RULES, turn_steps
from actfer_env.curate.template import Case
from actfer_env.curate.views import look
from actfer_env.errors import ImageError
from actfer_env.sample import Dataset, Sample

LOOKED_AT = 8
"""Samples whose pictures are really made; the others are taken to be like them (chosen here)."""
WRITTEN = {"picture": 40, "describe raw": 220, "describe views": 220, "units": 150, "write": 260}
"""Stage -> tokens of an answer (chosen here)."""
_CHARACTERS, _PIXELS = 4, 1024


@dataclass(frozen=True)
class Cost:
    """Cost of a curation, one answer a stage.

    Attributes:
        samples: Samples that are asked about.
        calls: Calls of the model that sees pictures, and of the model for texts.
        read: Tokens read by each; four characters, or 1,024 pixels, are taken for one.
        written: Tokens written by each.
        cost: Cost in the currency of the prices.
        attempts: Answers a stage at most, every emotion that may be struck counted: the cost is at most this many times
            as high.
    """

    samples: int
    calls: tuple[int, int]
    read: tuple[int, int]
    written: tuple[int, int]
    cost: float
    attempts: int


def estimate(
    dataset: Dataset, options: CurateOptions, price: tuple[float, float], text_price: tuple[float, float] | None = None
) -> Cost:
    """Count what would be asked; nothing is sent.

    Args:
        dataset: The samples.
        options: The curation's options.
        price: Prices of a million tokens read and written, of the model that sees pictures.
        text_price: Those of the model for texts; None is the same.
    """
    count = min(len(dataset), options.number or len(dataset))
    if options.writer == "template":
        return Cost(count, (0, 0), (0, 0), (0, 0), 0.0, 1)
    tools = chat_tools(options.detector, options.chat_config)
    places = sorted({round(n * (count - 1) / max(LOOKED_AT - 1, 1)) for n in range(LOOKED_AT)})
    calls, read, written = [0, 0], [0, 0], [0, 0]
    for place in places:
        try:
            questions = _questions(dataset[place], options, tools)
        except ImageError:  # its sample is dropped before anything is asked
            continue
        for stage, text, pixels, seen in questions:
            model = 0 if seen else 1
            calls[model] += 1
            read[model] += len(text) // _CHARACTERS + pixels // _PIXELS
            written[model] += WRITTEN[stage]
    scaled = [(round(vision * count / len(places)), round(text * count / len(places)))
              for vision, text in (calls, read, written)]  # fmt: skip
    prices = (price, text_price or price)
    cost = sum(scaled[1][n] * prices[n][0] + scaled[2][n] * prices[n][1] for n in (0, 1)) / 1e6
    rounds = len(options.episode_config.emotions) - 1 if options.strategy == "eliminate" else 1
    return Cost(count, scaled[0], scaled[1], scaled[2], cost, options.attempts * rounds)


def _questions(sample: Sample, options: CurateOptions, tools: object) -> list[tuple[str, str, int, bool]]:
    """Return (stage, prompt, pixels, whether it is seen) of every question about a sample."""
    chat, config = options.chat_config, options.episode_config
    views = look(sample, tools, chat, config)  # type: ignore[arg-type]
    raw = 0 if views.raw is None else views.raw.size // 3
    shown = sum(image.size // 3 for image in views.processed)
    said = {"raw": "x" * 4 * WRITTEN["describe raw"], "views": "x" * 4 * WRITTEN["describe views"]}
    found = [("picture", prompt("picture"), raw or shown, True)] * options.check_pictures
    found += [("describe raw", prompt("describe_raw"), raw, True)] * (views.raw is not None)
    if views.face is not None:
        text = prompt("describe_views", face=True, regions=list(views.crops))
        found.append(("describe views", text, shown, True))
    given = options.units == "labels" or (options.units == "prototype" and sample.emotion is not None)
    if options.units == "pseudo" or (sample.aus is None and not given):
        units = [(unit, facs.AU_NAMES[unit], facs.AU_DEFINITIONS[unit]) for unit in config.au_set]
        found.append(("units", prompt("units", descriptions=said, definitions=units), 0, False))
    emotion = sample.emotion or "neutral"
    case = Case(emotion, facs.prototype_aus(emotion), "full", facs.REGIONS[:1], sample.prealigned)
    sees = options.strategy == "eliminate" or not chat.preset_spec.tools
    case = replace(case, mode="passive") if not chat.preset_spec.tools else case
    text = prompt(
        "write", descriptions=said, steps=turn_steps(case), emotion=emotion, candidates=[],
        sections=SECTION_RULES["both"], units=[(unit, facs.AU_DEFINITIONS[unit]) for unit in sorted(case.units)],
    )  # fmt: skip
    return [*found, ("write", text, raw + shown if sees else 0, sees)]
