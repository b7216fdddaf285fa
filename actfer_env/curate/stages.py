"""Stages in which a model is asked about one sample: fitness, descriptions, Action Units, thoughts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from actfer_env import facs
from actfer_env.chat import ChatConfig, ChatEpisode
from actfer_env.chat.messages import text_part
from actfer_env.chat.parsing import parse_turn
from actfer_env.chat.parsing.json_text import read_object
from actfer_env.chat.parsing.parsed import ProblemError, Repairs
from actfer_env.chat.prompts import answers
from actfer_env.curate.asking import Fault, Inquiry, StageError, prompt, question
from actfer_env.curate.options import CurateOptions
from actfer_env.curate.template import Case, join_turns, turn_count
from actfer_env.curate.views import Views
from actfer_env.errors import LabelError
from actfer_env.rewards.quality import foreign_share
from actfer_env.rewards.thoughts import SECTIONS, thought_of

DESCRIPTION = (60, 6000)
"""Fewest and most characters of a description (chosen here)."""
_UNIT = re.compile(r"AU\s?(\d{1,2})\b", re.IGNORECASE)
_GROUP = re.compile(r"\(([^()]{1,120})\)")
_BOX = re.compile(r"<bbox>\s*(\[[^\[\]<>]*\])\s*</bbox>")
SECTION_RULES = {
    "global": "The last thought begins with the heading Global Analysis: and speaks of the whole face.",
    "local": "The last thought has the heading Local Analysis: and speaks of the magnified regions.",
    "both": "The last thought has the headings Global Analysis: for the whole face, then Local Analysis: for the "
    "magnified regions.",
}
"""Kind of analysis (ActFER 3.1) -> what the writer is told of it."""


def check_picture(inquiry: Inquiry, views: Views) -> None:
    """Ask whether a picture is fit for training.

    Raises:
        StageError: it is not, or no answer can be used.
    """
    picture = views.raw if views.raw is not None else views.face
    assert picture is not None

    def check(text: str) -> tuple[bool, str]:
        found = _object(text)
        if not isinstance(found.get("fit"), bool):
            raise Fault(['"fit" must be true or false.'])
        return found["fit"], str(found.get("why", ""))

    (fit, why), _ = inquiry.ask("picture", question(prompt("picture"), 1), [picture], check)
    if not fit:
        raise StageError("picture: unfit", why)


def describe(inquiry: Inquiry, views: Views, script: str) -> dict[str, str]:
    """Ask for dense descriptions: of the raw view, and of the aligned face with its crops.

    Returns:
        "raw" and "views" -> description, of those that there are.
    """

    def check(text: str) -> str:
        if not DESCRIPTION[0] <= len(text) <= DESCRIPTION[1]:
            raise Fault([f"a description has {DESCRIPTION[0]} to {DESCRIPTION[1]} characters, this has {len(text)}."])
        if foreign_share([text], script) > 0.2:
            raise Fault(["the description must be in English."], "script")
        if len(re.findall(r"[A-Za-z]{2,}", text)) < 8:
            raise Fault(["a description has whole sentences."])
        return text

    found = {}
    if views.raw is not None:
        found["raw"], _ = inquiry.ask("describe raw", question(prompt("describe_raw"), 1), [views.raw], check)
    if views.face is not None:
        text = prompt("describe_views", face=True, regions=list(views.crops))
        shown = views.processed
        found["views"], _ = inquiry.ask("describe views", question(text, len(shown)), shown, check)
    return found


def extract_units(inquiry: Inquiry, descriptions: dict[str, str], au_set: Iterable[int]) -> dict[int, str]:
    """Ask for the Action Units that descriptions show, with FACS knowledge in the prompt (ActFER 3.2).

    Returns:
        Unit -> the words that led to it; they stand in a description.
    """
    known = {unit: (facs.AU_NAMES[unit], facs.AU_DEFINITIONS[unit]) for unit in au_set}
    said = _plain(" ".join(descriptions.values()))

    def check(text: str) -> dict[int, str]:
        found, issues = _object(text).get("units"), list[str]()
        if not isinstance(found, list):
            raise Fault(['write {"units": [{"au": "AU12", "words": "..."}]}.'])
        units: dict[int, str] = {}
        for entry in found:
            label, words = (entry.get("au"), entry.get("words")) if isinstance(entry, dict) else (entry, None)
            try:
                unit = facs.parse_au(label)  # type: ignore[arg-type]
            except (LabelError, TypeError):
                issues.append(f"{label!r} is no Action Unit.")
                continue
            if unit not in known:
                issues.append(f"AU{unit} is not in the list.")
            elif not isinstance(words, str) or len(_plain(words)) < 4 or _plain(words) not in said:
                issues.append(f"the words of AU{unit} stand in no description: copy them exactly, or leave it out.")
            else:
                units[unit] = " ".join(words.split())
        if issues:
            raise Fault(issues, "unfounded")
        return units

    text = prompt("units", descriptions=descriptions, definitions=[(unit, *words) for unit, words in known.items()])
    units, _ = inquiry.ask("units", question(text), (), check, sees=False)
    return units


def write_thoughts(
    inquiry: Inquiry, case: Case, views: Views, descriptions: dict[str, str], options: CurateOptions
) -> tuple[list[str], int]:
    """Ask for the thoughts of a trajectory, and return its turns and the answers that it took."""
    chat = options.chat_config
    candidates = answers(chat, options.episode_config.emotions)
    kind = "global" if case.mode != "full" else "both" if case.both else "local"
    sees = options.strategy == "eliminate"
    shown = ([] if views.raw is None else [views.raw]) + views.processed if sees else []
    done = 0
    while True:
        told = list(candidates) if sees else []
        text = prompt(
            "write", descriptions=descriptions, steps=turn_steps(case), emotion=case.emotion, candidates=told,
            units=[(unit, facs.AU_DEFINITIONS[unit]) for unit in sorted(case.units)], sections=SECTION_RULES[kind],
        )  # fmt: skip

        def check(text: str, told: Sequence[str] = told) -> tuple[list[str], str]:
            return _checked_thoughts(text, case, kind, options, told)

        (thoughts, emotion), done = inquiry.ask("write", question(text, len(shown)), shown, check, sees=sees, first=done)
        if emotion == case.emotion:
            return join_turns(case, thoughts), done
        candidates = _without(candidates, emotion, case)


def write_passive(
    inquiry: Inquiry, case: Case, episode: ChatEpisode, options: CurateOptions
) -> tuple[list[str], int]:  # fmt: skip
    """Ask for the one turn of a preset without tools; `episode` gives its prompt and picture."""
    chat, done = options.chat_config, 0
    candidates = answers(chat, options.episode_config.emotions)
    names_units = chat.preset_spec.aus == "reasoning"
    boxes = [(unit, str(list(box))) for unit, box in sorted(case.boxes.items())]
    while True:
        told = list(candidates) if options.strategy == "eliminate" else []
        text = prompt(
            "passive", emotion=case.emotion, candidates=told, boxes=boxes,
            units=[(unit, facs.AU_DEFINITIONS[unit]) for unit in sorted(case.units)] if names_units or boxes else None,
        )  # fmt: skip
        system, user = episode.messages
        messages = [system, {**user, "content": [*user["content"], text_part(f"\n\n{text}")]}]

        def check(text: str, told: Sequence[str] = told) -> tuple[str, str]:
            return _checked_passive(text, case, chat, told)

        (turn, emotion), done = inquiry.ask("write", messages, episode.images, check, first=done)
        if emotion == case.emotion:
            return [turn], done
        candidates = _without(candidates, emotion, case)


def _without(candidates: Sequence[str], emotion: str, case: Case) -> tuple[str, ...]:
    """Return the candidates without a wrong one; the truth is never told (TAG, section 4)."""
    left = tuple(one for one in candidates if one != emotion)
    if len(left) < 2:  # what is left would be the truth itself
        raise StageError("write: eliminated", f"every emotion but {case.emotion} was chosen first")
    return left


def turn_steps(case: Case) -> list[str]:
    """Return what happens in each turn, in words for the writer."""
    steps = [] if case.prealigned else ["The agent has the raw picture. It normalises first: it calls face detection."]
    at = "The picture is an aligned face." if case.prealigned else "The aligned face is there."
    if case.mode == "degraded":
        return [*steps, "Detection found no reliable face. The agent judges the whole picture and answers."]
    for number, region in enumerate(case.regions):
        steps.append(f"{at if not number else 'The crop is there.'} The agent zooms into {region}.")
    return [*steps, f"{'The crop is there.' if case.regions else at} The agent answers."]


def _checked_thoughts(
    text: str, case: Case, kind: str, options: CurateOptions, candidates: Sequence[str]
) -> tuple[list[str], str]:
    """Return thoughts and emotion of the writer's JSON (M_format, M_AU and M_emotion of Facial-R1)."""
    found = _object(text)
    thoughts, emotion = found.get("thoughts"), _emotion(found.get("emotion"), candidates or (case.emotion,))
    wanted = turn_count(case)
    if not isinstance(thoughts, list) or not all(isinstance(one, str) and one.strip() for one in thoughts):
        raise Fault(['"thoughts" must be a list of texts, none of them empty.'])
    issues = [f'"thoughts" must have {wanted} entries, one for each turn.'] if len(thoughts) != wanted else []
    low, high = options.thought_characters
    issues += [f"thought {n} has {len(one)} characters, {low} to {high} are allowed." for n, one in enumerate(thoughts, 1)
               if not low <= len(one.strip()) <= high]  # fmt: skip
    if any("<" in one for one in thoughts):
        issues.append("a thought holds no tags.")
    last = thoughts[-1] if thoughts else ""
    headed = [section for section in SECTIONS if section.casefold() in last.casefold()]
    needed = {"global": SECTIONS[:1], "local": SECTIONS[1:], "both": SECTIONS}[kind]
    issues += [f"the last thought lacks the heading {section}:." for section in needed if section not in headed]
    if issues:
        raise Fault(issues)
    _check_units(last, case.units)
    return [one.strip() for one in thoughts], emotion


def _checked_passive(text: str, case: Case, chat: ChatConfig, candidates: Sequence[str]) -> tuple[str, str]:
    """Return the turn of a preset without tools, and its emotion."""
    parsed = parse_turn(text, chat)
    if parsed.problem is not None or parsed.answer is None:
        raise Fault([f"write <think>...</think><answer>...</answer> ({parsed.problem and parsed.problem.message})."])
    thought = thought_of(text)
    if not thought:
        raise Fault(["the thought is empty."])
    emotion = _emotion(parsed.answer.emotion, candidates or (case.emotion,))
    if chat.preset_spec.aus == "reasoning":
        _check_units(thought, case.units)
    if chat.preset_spec.canvas:
        written, known = _BOX.findall(thought), {str(list(box)) for box in case.boxes.values()}
        if thought.count("<bbox>") != len(written) or len(written) > 3:
            raise Fault(["at most three boxes, each as <bbox>[x1, y1, x2, y2]</bbox>."])
        if strange := [box for box in written if _numbers(box) not in {_numbers(one) for one in known}]:
            raise Fault([f"{strange[0]} is none of the boxes that may be written."], "boxes")
        if known and not written:
            raise Fault(["write a box behind what it shows."], "boxes")
    return text.strip(), emotion


def _check_units(thought: str, units: frozenset[int]) -> None:
    """Compare the units that a thought names in parentheses with the true ones.

    Raises:
        Fault: they differ.
    """
    named = {int(unit) for group in _GROUP.findall(thought) for unit in _UNIT.findall(group)}
    issues = [f"AU{unit} is missing: name it as (AU{unit}) behind what shows it." for unit in sorted(units - named)]
    issues += [f"AU{unit} is not active: leave it out." for unit in sorted(named - units)]
    if issues:
        raise Fault(issues, "units")


def _emotion(value: Any, candidates: Sequence[str]) -> str:
    try:
        emotion = facs.parse_emotion(value)
    except (LabelError, TypeError, AttributeError):
        raise Fault([f"{value!r} is no emotion: use one of {', '.join(candidates)}."], "emotion") from None
    if emotion not in candidates:
        raise Fault([f"the emotion must be {' or '.join(candidates)}, not {emotion}."], "emotion")
    return emotion


def _object(text: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = read_object(text, Repairs(True))
    except ProblemError as error:
        raise Fault([f"{error.problem.message}. Answer with one JSON object and nothing else."]) from None
    return found


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))


def _numbers(box: str) -> tuple[str, ...]:
    return tuple(re.findall(r"-?\d+(?:\.\d+)?", box))

