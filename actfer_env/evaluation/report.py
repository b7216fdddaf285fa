"""The HTML report of a stored run: one file that stands for itself and asks no network for anything."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
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
from actfer_env.evaluation.metrics import summarize
from actfer_env.evaluation.pictures import Picture, PictureConfig, Pictures, legend
from actfer_env.evaluation.run import REPORT_FILE, Run, read_run
from actfer_env.evaluation.tables import DASH, counted, signed, summary_rows, summary_tables
from actfer_env.files import write_text_atomic
from actfer_env.rewards import TERMS, UCGRPO, RewardError, UCGRPOConfig
from actfer_env.rewards.groups import group_rollouts
from actfer_env.rollout import Rollout
from actfer_env.tools.toolkit import describe_call

VERDICTS: Mapping[str, str] = {
    "right": "right", "wrong": "wrong", "none": "no answer", "unlabelled": "no label to compare",
    "script": "played by a script",
}  # fmt: skip
"""Verdicts on an answer beside the label, as the filter's values and words."""
DEMONSTRATIONS = ("synthetic", "portrait")
"""Data sets of this package's own pictures, on which a script's answers are part of the demonstration."""
_PICTURE = "data:image/jpeg"
_TEMPLATES = Path(__file__).parent / "templates"
_FIRST = ("agent", "detector", "seed", "max_turns", "max_zooms")


@dataclass(frozen=True)
class Audit:
    """Verdict on whether the stored scores follow from the stored rollouts.

    Attributes:
        state: "agree", "differ" or "none" (nothing was stored).
        text: One line.
        lines: The mismatches.
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
    verdict: str
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
        run: The run, if it is at hand; else it is read from the folder.
        pictures: Sizes and number of the pictures.
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
    if keep and pictures.lost:
        try:
            known = path.read_text(encoding="utf-8", errors="replace").count(_PICTURE)
        except OSError:
            known = 0
        if html.count(_PICTURE) < known:
            raise DataError(f"{path} stays as it is: {pictures.why_lost()}")
    write_text_atomic(path, html)
    return path


def render_report(
    run: Run, *, pictures: PictureConfig | None = None, au_set: Iterable[int] | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> str:  # fmt: skip
    """Return the report of a run as one HTML document.

    Args:
        run: The run.
        pictures: Sizes and number of the pictures.
        au_set: Action Units that the tables average; None is the run's own set.
        folder: The run's, where it carries its pictures.

    Raises:
        DataError: its rollouts are malformed.
    """
    return _render(run, Pictures(run, pictures, folder), au_set)


def _render(run: Run, pictures: Pictures, au_set: Iterable[int] | None = None) -> str:
    """Return the page, from its head to its episodes."""
    summary = summarize(run.rollouts, run.scores, run.au_set if au_set is None else au_set)
    name, agent = run.dataset.get("name", "run"), str(run.settings.get("agent", ""))
    script, style = ((_TEMPLATES / file).read_text(encoding="utf-8") for file in ("report.js", "report.css"))
    script_hash = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    html = _environment().get_template("report.html.j2").render(
        title=f"{agent} on {name}" if agent and "," not in agent else f"Run on {name}",
        audit=audit(run),
        notice=script_notice(run),
        facts=_facts(run),
        tiles=summary_rows(summary),
        tables=summary_tables(summary),
        failures=run.failures,
        total=len(run.rollouts),
        emotions=[label for label in facs.EMOTIONS if any(rollout.emotion == label for rollout in run.rollouts)],
        verdicts=VERDICTS,
        legend=legend(),
        groups=_groups(run, pictures),
        version=__version__, style=style, script=script, script_hash=script_hash,
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


def _facts(run: Run) -> list[tuple[str, str]]:
    """Return what was run, as pairs of name and value; of a folder only its name, so that reports can be shared."""
    data = {key: value for key, value in run.dataset.items() if value is not None}
    if "root" in data:
        data["root"] = "…/" + Path(str(data["root"])).name
    name = str(data.pop("name", DASH))
    options = ", ".join(f"{key} {_plain(value)}" for key, value in data.items())
    keys = [*(key for key in _FIRST if key in run.settings), *(key for key in run.settings if key not in _FIRST)]
    standard = UCGRPOConfig().to_dict()
    changed = [f"{key} {_plain(value)}" for key, value in run.reward.to_dict().items() if value != standard[key]]
    return [
        ("data set", f"{name} ({options})" if options else name),
        *((key.replace("_", " "), _plain(run.settings[key])) for key in keys),
        ("reward", f"UC-GRPO with {', '.join(changed) or 'its default constants'}"),
        ("made with", f"actfer-env {run.version}"),
    ]


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


def script_notice(run: Run) -> str | None:
    """Return a line where no policy looked at some or all of a run's pictures, or None."""
    played = sum(not rollout.looked for rollout in run.rollouts)
    if not played:
        return None
    some = "" if played == len(run.rollouts) else f"in {played} of {len(run.rollouts)} episodes "
    return some + NOBODY_LOOKED


def _groups(run: Run, pictures: Pictures) -> list[GroupView]:
    scorer, scores, views = run.scorer(), run.scores, []
    largest = [float(np.abs(getattr(scores, name)).max()) for name in TERMS if len(scores)]
    scale = max(1.0, *largest) if largest else 1.0  # fills half a chart, the same in all charts of a report
    for name, members in group_rollouts(run.rollouts).items():
        first, delta = run.rollouts[members[0]], scores.delta.get(name)
        zoomed = sum(run.rollouts[i].zoomed for i in members)
        sides = f"{zoomed} zoomed, {len(members) - zoomed} did not"
        if delta is None:
            words = f"no zoom contrast: {sides}"
        else:
            small = abs(delta) <= run.reward.margin
            words = f"zooming {'made no difference' if small else 'helped' if delta > 0 else 'hurt'}: {sides}"
        episodes = tuple(_episode(run, scorer, i, pictures, scale) for i in members)
        views.append(GroupView(name, first.sample_id, first.emotion, delta, words, episodes))
    return views


def _episode(run: Run, scorer: UCGRPO, i: int, pictures: Pictures, scale: float) -> EpisodeView:
    """Return what the report shows of the episode at place i; of an answer that is hidden, nothing."""
    rollout, scores = run.rollouts[i], run.scores
    drawn, missing = pictures.of(rollout)
    source = answer_source(rollout)
    units: tuple[UnitRow, ...] = ()
    words: tuple[str, ...] = ()
    note = ""
    if source != "hidden":
        units, note = _units(rollout)
        try:
            words = tuple(scorer.explain(run.rollouts, scores, i))
        except RewardError as error:
            words = (str(error),)
    return EpisodeView(
        number=i, rollout=rollout, verdict=verdict(rollout), pictures=tuple(drawn), missing=missing, source=source,
        answer=rollout.predicted_emotion or "none", calls=_calls(rollout, source == "hidden"), units=units,
        unit_note=note, words=words, advantage=float(scores.advantage[i]),
        bars=tuple(Bar(name, v, round(min(abs(v) / scale, 1) * 100, 2)) for name, v in scores.terms(i).items()),
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


def verdict(rollout: Rollout) -> str:
    """Return what an episode's answer was worth, a key of `VERDICTS`."""
    if answer_source(rollout) == "hidden":
        return "script"
    if rollout.predicted_emotion is None:
        return "none"
    return {True: "right", False: "wrong", None: "unlabelled"}[rollout.correct]


def _calls(rollout: Rollout, hidden: bool) -> tuple[CallView, ...]:
    """Return an episode's turns, from the first call to the answer."""
    views = []
    for call in rollout.tool_calls:
        arguments = "; ".join(f"{key}: {_argument(value)}" for key, value in call.arguments.items())
        refused = str(call.result.get("error", "no message was stored"))
        text = refused if call.violation else describe_call(call)
        views.append(CallView(call.turn + 1, call.name or "(no call)", arguments, text, call.violation))
    if rollout.predicted_emotion is None:
        text = "turns used up without an answer" if rollout.truncated else "no answer"
        return (*views, CallView(None, "end", "", text))
    given = "given by the script, and not shown: it says nothing of this picture"
    return (*views, CallView(rollout.turns, "answer", "", given if hidden else rollout.predicted_emotion))


def _argument(value: Any) -> str:
    """Return a list of names as words, and anything else as JSON."""
    names = isinstance(value, list) and value and all(isinstance(item, str) for item in value)
    return ", ".join(value) if names else _plain(value)


def _units(rollout: Rollout) -> tuple[tuple[UnitRow, ...], str]:
    """Return the answer's Action Units against the target's, and a note on them."""
    answer, target = rollout.predicted_aus, rollout.aus
    if target is None:
        note = "no labels to compare with" if answer is not None else "none named, and no labels"
        return (_row("named", "named", answer or frozenset()),), note
    found = answer or frozenset()
    notes = []
    if rollout.meta.get("aus_derived"):
        notes.append("the answer's Action Units are derived from its emotion")
    elif rollout.predicted_emotion is not None and answer is None:
        notes.append("the answer names no Action Units")
    if not target and not answer:
        notes.append("none active by the label")
    if dropped := rollout.meta.get("dropped_aus"):
        notes.append(f"outside the set in use: {', '.join(map(str, dropped))}")
    rows = (
        _row("hit", "hit", target & found), _row("missed", "missed", target - found),
        _row("false", "false alarm", found - target),
    )  # fmt: skip
    return rows, "; ".join(notes)


def _row(kind: str, word: str, units: frozenset[int]) -> UnitRow:
    return UnitRow(kind, word, tuple((facs.format_au(au), facs.AU_NAMES.get(au, "")) for au in sorted(units)))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("actfer_env.evaluation"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["signed"] = signed
    environment.filters["counted"] = counted
    return environment
