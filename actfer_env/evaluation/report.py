"""The HTML report of a stored run: one file that stands for itself and asks no network for anything."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from actfer_env import facs
from actfer_env._version import __version__
from actfer_env.envs.panel import NOBODY_LOOKED
from actfer_env.errors import DataError
from actfer_env.evaluation.metrics import Summary, summarize
from actfer_env.evaluation.pictures import Picture, PictureConfig, Pictures, legend
from actfer_env.evaluation.run import REPORT_FILE, Run, read_run
from actfer_env.files import write_text_atomic
from actfer_env.rewards import TERMS, UCGRPO, RewardError, Scores, UCGRPOConfig
from actfer_env.rewards.groups import group_rollouts
from actfer_env.rollout import Rollout, ToolCall
from actfer_env.tools.base import describe_call

OUTCOMES: Mapping[str, str] = {
    "right": "right", "wrong": "wrong", "none": "no answer", "unlabelled": "no label to compare",
    "script": "played by a script",
}  # fmt: skip
"""How an episode can end, as the filter's values and words."""
DASH = "–"
DEMONSTRATIONS = ("synthetic", "portrait")
"""Data sets of this package's own pictures, on which a script's answers are part of the demonstration."""
_PICTURE = "data:image/jpeg"
_FIRST = ("agent", "detector", "seed", "max_turns", "max_zooms")


@dataclass(frozen=True)
class Audit:
    """Verdict on whether the stored scores follow from the stored rollouts.

    Attributes:
        state: "agree", "differ" or "none" (nothing was stored).
        text: one line.
        lines: the mismatches.
    """

    state: str
    text: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class CallView:
    """One turn of an episode, in words; the end without an answer has no turn of its own."""

    turn: int | None
    name: str
    arguments: str
    text: str
    violation: str | None = None


@dataclass(frozen=True)
class Bar:
    """One reward term: its value, and its length as a percentage of half the chart's width."""

    name: str
    value: float
    length: float


@dataclass(frozen=True)
class UnitRow:
    """Action Units of one kind: "hit", "missed", "false", or "named" where there is no target."""

    kind: str
    word: str
    units: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class EpisodeView:
    """Everything that the report shows of one episode."""

    number: int
    rollout: Rollout
    outcome: str
    pictures: tuple[Picture, ...]
    missing: str | None
    calls: tuple[CallView, ...]
    units: tuple[UnitRow, ...]
    unit_note: str
    bars: tuple[Bar, ...]
    words: tuple[str, ...]
    advantage: float
    source: str
    answer: str


@dataclass(frozen=True)
class GroupView:
    """A query group: its episodes, and whether zooming helped within it."""

    name: str
    sample_id: str
    emotion: str | None
    delta: float | None
    words: str
    episodes: tuple[EpisodeView, ...]


def write_report(
    folder: str | os.PathLike[str], run: Run | None = None, *, pictures: PictureConfig | None = None,
    au_set: Iterable[int] | None = None, keep: bool = True,
) -> Path:  # fmt: skip
    """Write `report.html` of a run, rebuilt from the stored run alone; no detector and no model runs.

    Args:
        folder: Folder of the run and of its report.
        run: the run, if it is at hand; else it is read from the folder.
        pictures: sizes and number of the pictures.
        au_set: Action Units that the tables average; None is the run's own set.
        keep: If source pictures cannot be found, do not replace a report that shows more of them.

    Returns:
        The report's path.

    Raises:
        DataError: there is no run, its rollouts are malformed, the folder cannot be written, or the report is kept.
    """
    run = read_run(folder) if run is None else run
    return rebuild(folder, run, Pictures(run, pictures, folder), keep, au_set)


def rebuild(
    folder: str | os.PathLike[str], run: Run, pictures: Pictures, keep: bool = True,
    au_set: Iterable[int] | None = None,
) -> Path:  # fmt: skip
    """Write a report as `write_report` does; afterwards ``pictures.lost`` tells what it lacks."""
    path = Path(folder) / REPORT_FILE
    html = _render(run, pictures, au_set)
    if keep and pictures.lost and html.count(_PICTURE) < _pictures_in(path):
        raise DataError(f"{path} stays as it is: {pictures.why_lost()}")
    write_text_atomic(path, html)
    return path


def _pictures_in(path: Path) -> int:
    try:
        return path.read_text(encoding="utf-8", errors="replace").count(_PICTURE)
    except OSError:
        return 0


def render_report(
    run: Run, *, pictures: PictureConfig | None = None, au_set: Iterable[int] | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> str:  # fmt: skip
    """Return the report of a run as one HTML document.

    Args:
        run: the run.
        pictures: sizes and number of the pictures.
        au_set: Action Units that the tables average; None is the run's own set.
        folder: the run's, where it carries its pictures.

    Raises:
        DataError: its rollouts are malformed.
    """
    return _render(run, Pictures(run, pictures, folder), au_set)


def _render(run: Run, pictures: Pictures, au_set: Iterable[int] | None = None) -> str:
    scores, units = run.scores, run.au_set if au_set is None else au_set
    script, style = _asset("report.js"), _asset("report.css")
    html = _environment().get_template("report.html.j2").render(
        title=_title(run), facts=_facts(run), audit=audit(run), failures=run.failures,
        tiles=summary_rows(summary := summarize(run.rollouts, scores, units)), tables=_tables(summary),
        groups=_groups(run, scores, pictures), outcomes=OUTCOMES, legend=legend(), notice=script_notice(run),
        emotions=[name for name in facs.EMOTIONS if any(rollout.emotion == name for rollout in run.rollouts)],
        total=len(run.rollouts), version=__version__, style=style, script=script, script_hash=_hash(script),
    )  # fmt: skip
    return html.encode("utf-8", "replace").decode("utf-8")


def audit(run: Run) -> Audit:
    """Recompute the stored scores and say whether they agree."""
    count = sum(len(values) for values in run.stored_scores.values())
    if not count:
        return Audit("none", "No scores were stored with this run; those shown are computed from its rollouts.")
    lines = tuple(run.mismatches())
    if not lines:
        return Audit("agree", f"{count} stored scores recomputed: all agree.")
    verb = "score does" if len(lines) == 1 else "scores do"
    text = f"{len(lines)} of {count} stored {verb} not follow from the rollouts. Shown are the recomputed ones."
    return Audit("differ", text, lines)


def _title(run: Run) -> str:
    name = run.dataset.get("name", "run")
    agent = str(run.settings.get("agent", ""))
    return f"{agent} on {name}" if agent and "," not in agent else f"Run on {name}"


def _facts(run: Run) -> list[tuple[str, str]]:
    """Return what was run, as pairs of name and value; of a folder only its name, so that reports can be shared."""
    data = {key: value for key, value in run.dataset.items() if value is not None}
    if "root" in data:
        data["root"] = "…/" + Path(str(data["root"])).name
    name = str(data.pop("name", DASH))
    options = ", ".join(f"{key} {_plain(value)}" for key, value in data.items())
    keys = [*(key for key in _FIRST if key in run.settings), *(key for key in run.settings if key not in _FIRST)]
    return [
        ("data set", f"{name} ({options})" if options else name),
        *((key.replace("_", " "), _plain(run.settings[key])) for key in keys),
        ("reward", _reward(run.reward)), ("made with", f"actfer-env {run.version}"),
    ]  # fmt: skip


def _reward(config: UCGRPOConfig) -> str:
    standard = UCGRPOConfig().to_dict()
    changed = [f"{key} {_plain(value)}" for key, value in config.to_dict().items() if value != standard[key]]
    return f"UC-GRPO with {', '.join(changed)}" if changed else "UC-GRPO with its default constants"


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(_rounded(value), ensure_ascii=False, default=str)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value


def summary_rows(summary: Summary) -> list[tuple[str, str, str]]:
    """Return the headline figures as (name, value, note), for the report's tiles and for a terminal."""
    return [
        *_figures(summary),
        ("zoomed", _share(summary.zoom_ratio), f"{_share(summary.zoom_ratio_with_face)} where a face was found"),
        ("with violations", _share(summary.violation_rate), _count(sum(summary.violations.values()), "violation")),
        ("mean reward", _signed(summary.terms.get("total")), f"{_number(summary.mean_turns, 1)} turns on average"),
        *_cost(summary),
    ]


def _figures(summary: Summary) -> list[tuple[str, str, str]]:
    """Return how well answers fit the labels; of a script as the script's, and only where there are labels."""
    played = bool(summary.n) and summary.scripted == summary.n
    if played and not (summary.labelled or summary.au_labelled):
        return []
    whose = "script’s " if played else ""
    labelled = f"{summary.labelled} labelled of {summary.n - (0 if played else summary.scripted)}"
    derived = "derived from the emotion" if summary.aus_derived else f"macro, {summary.au_labelled} labelled"
    derived += f"; {_named_set(summary)}"
    return [
        (f"{whose}accuracy", _share(summary.accuracy), "no policy looked" if played else labelled),
        (f"{whose}macro-F1", _number(summary.macro_f1), _count(len(summary.emotion_f1), "emotion")),
        (f"{whose}AU F1", _number(summary.au_macro_f1), derived),
    ]


def script_notice(run: Run) -> str | None:
    """Return a line where no policy looked at some or all of a run's pictures, or None."""
    played = sum(not rollout.looked for rollout in run.rollouts)
    if not played:
        return None
    some = "" if played == len(run.rollouts) else f"in {played} of {len(run.rollouts)} episodes "
    return some + NOBODY_LOOKED


def _tables(summary: Summary) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Return the summary as titled tables of name, value and note."""
    played = bool(summary.n) and summary.scripted == summary.n
    if played and not (summary.labelled or summary.au_labelled):
        return _other_tables(summary)
    note = "derived from the emotion: says nothing beyond it" if summary.aus_derived else ""
    answers = [
        ("episodes", str(summary.n), f"{summary.labelled} with an emotion label, {summary.answered} answered"),
        ("accuracy", _share(summary.accuracy), "no answer counts as wrong"),
        ("macro-F1", _number(summary.macro_f1), "over the emotions that occur as targets"),
        *((f"F1 {name}", _number(value), "") for name, value in summary.emotion_f1.items()),
        ("AU F1, macro", _number(summary.au_macro_f1), _named_set(summary) + f"; {note}" * bool(note)),
        ("AU F1, per episode", _number(summary.au_instance_f1), note or f"{summary.au_labelled} with AU labels"),
        *[("AU IoU", _number(summary.au_iou), f"{summary.au_boxed} with boxes of AUs")] * bool(summary.au_boxed),
    ]
    return [("The script’s answers" if played else "Answers", answers), *_other_tables(summary)]


def _other_tables(summary: Summary) -> list[tuple[str, list[tuple[str, str, str]]]]:
    return [
        ("Behaviour", _behaviour(summary)),
        ("Reward, mean", [(name, _signed(value), "") for name, value in summary.terms.items()]),
        ("Violations", _violations(summary)),
    ]  # fmt: skip


def _named_set(summary: Summary) -> str:
    """Return which Action Units are averaged: "8 of 18 Action Units of core"."""
    count = len(summary.au_f1)
    if summary.au_set is None:
        return f"{_count(count, 'Action Unit')} that occur"
    return f"{count} of {_count(len(summary.au_set), 'Action Unit')} of {facs.format_au_set(summary.au_set)}"


def _behaviour(summary: Summary) -> list[tuple[str, str, str]]:
    return [
        ("zoomed", _share(summary.zoom_ratio), "of all episodes"),
        ("zoomed with a face", _share(summary.zoom_ratio_with_face), f"of {_count(summary.with_face, 'episode')}"),
        *((f"detection {name.replace('_', ' ')}", str(count), "") for name, count in summary.detections.items()),
        ("turns", _number(summary.mean_turns, 1), "on average"),
        ("turns used up", _share(summary.truncated), "of episodes, without an answer"),
        *_conversations(summary),
    ]


def _cost(summary: Summary) -> list[tuple[str, str, str]]:
    """Return the tile of conversations: what could not be read, and what one took."""
    if summary.parse_failure_rate is None:
        return []
    used = summary.usage
    tokens = used.get("prompt_tokens", 0) + used.get("completion_tokens", 0)
    note = f"{tokens:.0f} tokens, {used.get('seconds', 0):.1f} seconds an episode" if used else ""
    cut = [("cut turns", str(summary.cut_turns), "at the bound on a turn's tokens: raise it")] * bool(summary.cut_turns)
    return [("parse failures", _share(summary.parse_failure_rate), note), *cut]


def _conversations(summary: Summary) -> list[tuple[str, str, str]]:
    if summary.parse_failure_rate is None:
        return []
    used = [(name.replace("_", " "), _number(value, 1), "an episode") for name, value in summary.usage.items()]
    ends = [(f"outcome {name.replace('_', ' ')}", str(count), "") for name, count in summary.outcomes.items()]
    return [("parse failures", _share(summary.parse_failure_rate), "of episodes have one"), *ends, *used]


def _violations(summary: Summary) -> list[tuple[str, str, str]]:
    return [
        ("episodes with any", _share(summary.violation_rate), ""),
        *(
            (name, str(count), f"in {_share(summary.violation_rates[name])} of episodes")
            for name, count in summary.violations.items()
        ),
    ]


def _groups(run: Run, scores: Scores, pictures: Pictures) -> list[GroupView]:
    scorer, scale = run.scorer(), _scale(scores)
    views = []
    for name, members in group_rollouts(run.rollouts).items():
        first, delta = run.rollouts[members[0]], scores.delta.get(name)
        words = _delta_words(delta, [run.rollouts[i] for i in members], run.reward.margin)
        episodes = tuple(_episode(run, scorer, scores, i, pictures, scale) for i in members)
        views.append(GroupView(name, first.sample_id, first.emotion, delta, words, episodes))
    return views


def _scale(scores: Scores) -> float:
    """Return the value that fills half a chart: the same in all of a report's charts."""
    values = [np.abs(getattr(scores, name)).max() for name in TERMS if len(scores)]
    return max(1.0, *map(float, values)) if values else 1.0


def _delta_words(delta: float | None, rollouts: Sequence[Rollout], margin: float) -> str:
    zoomed = sum(rollout.zoomed for rollout in rollouts)
    sides = f"{zoomed} zoomed, {len(rollouts) - zoomed} did not"
    if delta is None:
        return f"no zoom contrast: {sides}"
    effect = "made no difference" if abs(delta) <= margin else "helped" if delta > 0 else "hurt"
    return f"zooming {effect}: {sides}"


def _episode(run: Run, scorer: UCGRPO, scores: Scores, i: int, pictures: Pictures, scale: float) -> EpisodeView:
    rollout = run.rollouts[i]
    drawn, missing = pictures.of(rollout)
    source = answer_source(rollout)
    hidden = source == "hidden"
    units, note = ((), "") if hidden else _units(rollout)
    given = rollout.predicted_emotion or "none"
    return EpisodeView(
        number=i, rollout=rollout, outcome=outcome(rollout), pictures=tuple(drawn), missing=missing, source=source,
        answer=given, calls=_calls(rollout, hidden), units=units, unit_note=note,
        bars=tuple(Bar(name, v, round(min(abs(v) / scale, 1) * 100, 2)) for name, v in scores.terms(i).items()),
        words=() if hidden else _words(scorer, run.rollouts, scores, i), advantage=float(scores.advantage[i]),
    )  # fmt: skip


def answer_source(rollout: Rollout) -> str:
    """Return whose an episode's answer is.

    Returns:
        "policy"; "label", of a script that gives the data set's own; "script", of a script on pictures of this package,
        where it is part of a demonstration; "hidden", of a script on anything else: it must not look like a reading.
    """
    if rollout.looked:
        return "policy"
    if rollout.meta.get("answer") == "label" and rollout.emotion is not None:
        return "label"
    return "script" if rollout.meta.get("dataset") in DEMONSTRATIONS and rollout.emotion is not None else "hidden"


def outcome(rollout: Rollout) -> str:
    """Return how an episode ended, a key of `OUTCOMES`."""
    if answer_source(rollout) == "hidden":
        return "script"
    if rollout.predicted_emotion is None:
        return "none"
    return {True: "right", False: "wrong", None: "unlabelled"}[rollout.correct]


def _words(scorer: UCGRPO, rollouts: Sequence[Rollout], scores: Scores, i: int) -> tuple[str, ...]:
    try:
        return tuple(scorer.explain(rollouts, scores, i))
    except RewardError as error:
        return (str(error),)


def _calls(rollout: Rollout, hidden: bool = False) -> tuple[CallView, ...]:
    views = [_call(call) for call in rollout.tool_calls]
    if rollout.predicted_emotion is None:
        text = "turns used up without an answer" if rollout.truncated else "no answer"
        return (*views, CallView(None, "end", "", text))
    given = "given by the script, and not shown: it says nothing of this picture"
    return (*views, CallView(rollout.turns, "answer", "", given if hidden else rollout.predicted_emotion))


def _call(call: ToolCall) -> CallView:
    arguments = "; ".join(f"{key}: {_argument(value)}" for key, value in call.arguments.items())
    return CallView(call.turn + 1, call.name or "(no call)", arguments, _call_text(call), call.violation)


def _argument(value: Any) -> str:
    """Return a list of names as words, and anything else as JSON."""
    names = isinstance(value, list) and value and all(isinstance(item, str) for item in value)
    return ", ".join(value) if names else _plain(value)


def _call_text(call: ToolCall) -> str:
    if call.violation:
        return str(call.result.get("error", "no message was stored"))
    return describe_call(call)


def _units(rollout: Rollout) -> tuple[tuple[UnitRow, ...], str]:
    """Return the answer's Action Units against the target's, and a note on them."""
    answer, target = rollout.predicted_aus, rollout.aus
    if target is None:
        rows = [_row("named", "named", answer or frozenset())]
        return tuple(rows), "no labels to compare with" if answer is not None else "none named, and no labels"
    found = answer or frozenset()
    rows = [
        _row("hit", "hit", target & found), _row("missed", "missed", target - found),
        _row("false", "false alarm", found - target),
    ]  # fmt: skip
    return tuple(rows), _unit_note(rollout)


def _row(kind: str, word: str, units: frozenset[int]) -> UnitRow:
    return UnitRow(kind, word, tuple((facs.format_au(au), facs.AU_NAMES.get(au, "")) for au in sorted(units)))


def _unit_note(rollout: Rollout) -> str:
    notes = []
    if rollout.meta.get("aus_derived"):
        notes.append("the answer's Action Units are derived from its emotion")
    elif rollout.predicted_emotion is not None and rollout.predicted_aus is None:
        notes.append("the answer names no Action Units")
    if not rollout.aus and not rollout.predicted_aus:
        notes.append("none active by the label")
    if dropped := rollout.meta.get("dropped_aus"):
        notes.append(f"outside the set in use: {', '.join(map(str, dropped))}")
    return "; ".join(notes)


def _share(value: float | None) -> str:
    return DASH if value is None else f"{value:.0%}" if value in (0, 1) else f"{value:.1%}"


def _number(value: float | None, digits: int = 2) -> str:
    return DASH if value is None else f"{value:.{digits}f}"


def _signed(value: float | None) -> str:
    """Return a number with its sign, a true minus, and no sign on zero."""
    if value is None:
        return DASH
    text = f"{value:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", "−")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("actfer_env.evaluation"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["signed"] = _signed
    environment.filters["counted"] = _count
    return environment


def _asset(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
