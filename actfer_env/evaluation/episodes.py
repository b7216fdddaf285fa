"""Episodes as a page shows them: the answer beside the label, the calls in words, the reward as bars."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from actfer_env import facs
from actfer_env.evaluation.pictures import Drawn, Picture, Pictures, stratified
from actfer_env.evaluation.run import Run
from actfer_env.rewards import TERMS
from actfer_env.rewards.explain import explain_rollout
from actfer_env.rollout import Rollout
from actfer_env.tools.toolkit import describe_call

VERDICTS: Mapping[str, str] = {
    "right": "right", "wrong": "wrong", "none": "no answer", "unlabelled": "no label to compare",
    "script": "played by a script",
}  # fmt: skip
"""Worth of an answer beside the label, as the filter's values and words."""
RANKS: Mapping[str, int] = {name: i for i, name in enumerate(("wrong", "none", "unlabelled", "script", "right"))}
"""Verdicts in the order of the list: what went wrong comes first."""
DEMONSTRATIONS = ("synthetic", "portrait")
"""Data sets of this package's own pictures, on which a script's answers are part of the demonstration."""


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
    played: int

    @property
    def rewarded(self) -> bool:
        """True where a group was played: an episode alone has nothing that its reward is compared with."""
        return len(self.episodes) > 1


def draw_spread(run: Run, groups: Mapping[str, Sequence[int]], pictures: Pictures) -> dict[int, Drawn]:
    """Draw pictures of a run's episodes, spread over outcomes, emotions and zooming if there is a bound on them.

    Args:
        run: The run.
        groups: Name of each query group -> numbers of its episodes.
        pictures: Drawer of the pictures, with the bound.

    Returns:
        Number of each episode -> its pictures, and what is missing.
    """
    strata = {}
    for name, members in groups.items():
        rollouts = [run.rollouts[i] for i in members]
        worst = min(RANKS[verdict(rollout)] for rollout in rollouts)
        strata[name] = (worst, rollouts[0].emotion or "", any(rollout.zoomed for rollout in rollouts))
    return {i: pictures.of(run.rollouts[i]) for name in stratified(strata) for i in groups[name]}


def group_views(run: Run, groups: Mapping[str, Sequence[int]], drawn: Mapping[int, Drawn]) -> list[GroupView]:
    """Return what a page shows of a run's groups: those with a wrong answer first, and first those with pictures."""
    scores = run.scores
    largest = [float(np.abs(getattr(scores, name)).max()) for name in TERMS if len(scores)]
    scale = max(1.0, *largest) if largest else 1.0  # fills half a chart, the same in all charts of a page
    views = []
    for played, (name, members) in enumerate(groups.items()):
        first, delta = run.rollouts[members[0]], scores.delta.get(name)
        zoomed = sum(run.rollouts[i].zoomed for i in members)
        sides = f"{zoomed} zoomed, {len(members) - zoomed} did not"
        if delta is None:
            words = f"no zoom contrast: {sides}"
        else:
            small = abs(delta) <= run.reward.margin
            words = f"zooming {'made no difference' if small else 'helped' if delta > 0 else 'hurt'}: {sides}"
        episodes = tuple(episode_view(run, i, drawn[i], scale) for i in members)
        views.append(GroupView(name, first.sample_id, first.emotion, delta, words, episodes, played))

    def place(view: GroupView) -> tuple[int, bool]:
        return (min(RANKS[one.verdict] for one in view.episodes), not any(one.pictures for one in view.episodes))

    return sorted(views, key=place)


def episode_view(run: Run, i: int, drawn: Drawn, scale: float = 1.0) -> EpisodeView:
    """Return what a page shows of an episode; of an answer that is hidden, nothing.

    Args:
        run: The run.
        i: Number of the episode.
        drawn: Its pictures, and what is missing.
        scale: Reward that fills half a chart.
    """
    rollout, scores = run.rollouts[i], run.scores
    source = answer_source(rollout)
    units: tuple[UnitRow, ...] = ()
    words: tuple[str, ...] = ()
    note = ""
    if source != "hidden":
        units, note = _units(rollout)
        words = tuple(explain_rollout(rollout, scores, i, run.reward))
    return EpisodeView(
        number=i, rollout=rollout, verdict=verdict(rollout), pictures=tuple(drawn[0]), missing=drawn[1], source=source,
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


def plain(value: Any) -> str:
    """Return a text as it is, and any other value as JSON with three digits behind the point."""
    if isinstance(value, str):
        return value
    return json.dumps(_rounded(value), ensure_ascii=False, default=str)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value


def _argument(value: Any) -> str:
    """Return a list of names as words, and anything else as JSON."""
    names = isinstance(value, list) and value and all(isinstance(item, str) for item in value)
    return ", ".join(value) if names else plain(value)


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
