"""The page of two runs on the same samples: their episodes side by side, disagreements first."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actfer_env import facs
from actfer_env.errors import DataError
from actfer_env.evaluation.episodes import EpisodeView, answer_source, episode_view, verdict
from actfer_env.evaluation.evaluate import compare
from actfer_env.evaluation.listing import Beside, Group, Item, Listing, PageConfig, choices
from actfer_env.evaluation.page import page_templates, render_page, write_page
from actfer_env.evaluation.pictures import PictureConfig, Pictures, stratified
from actfer_env.evaluation.report import run_facts, run_title, script_notice
from actfer_env.evaluation.run import Run, read_run
from actfer_env.evaluation.tables import DASH, counted, number, share
from actfer_env.rollout import Rollout

PAGE_FILE = "side_by_side.html"
OUTCOMES = {
    "a": "only A right", "b": "only B right", "neither": "neither right", "both": "both right",
    "unlabelled": "no label to compare",
}  # fmt: skip
"""Verdicts on two answers, as the filter's values and words, in the order of the list."""
_SHARES = ("accuracy", "zoom_ratio", "violation_rate")


@dataclass(frozen=True)
class Pair:
    """Two episodes of one sample, by their numbers in their runs, and who is right."""

    first: int
    second: int
    outcome: str
    same: bool


def write_side_by_side(
    folder: str | os.PathLike[str], other: str | os.PathLike[str], runs: tuple[Run, Run] | None = None, *,
    pictures: PictureConfig | None = None, keep: bool = True, pages: PageConfig | None = None,
) -> Path:  # fmt: skip
    """Write `side_by_side.html` into the folder of the first of two runs; no detector and no model runs.

    The k-th episode of a sample in one run stands beside the k-th of the same sample in the other.

    Args:
        folder: Folder of the first run, and of the page.
        other: Folder of the second.
        runs: The runs, if they are at hand; else they are read from their folders.
        pictures: Sizes of the pictures, and number of pairs that have them.
        keep: If source pictures cannot be found, do not replace a page that shows more of them.
        pages: Sizes of the list of pairs.

    Returns:
        The page's path.

    Raises:
        DataError: a folder holds no run, the runs share no sample or label one differently, or the page cannot be
            written.
    """
    first, second = runs or (read_run(folder), read_run(other))
    groups = pair_up(first, second)
    pairs = sum(len(members) for members in groups.values())
    drawers = (Pictures(first, pictures, folder), Pictures(second, pictures, other))
    path, names = Path(folder) / PAGE_FILE, tuple(Path(one).resolve().name for one in (folder, other))

    def render(beside: Beside | None, config: PageConfig) -> str:
        return _render((first, second), names, groups, drawers, beside, config)

    write_page(path, 2 * pairs, pages or PageConfig(), drawers, render, keep=keep)
    return path


def pair_up(first: Run, second: Run) -> dict[str, list[Pair]]:
    """Return the pairs of each sample that both runs have, in the first run's order.

    Raises:
        DataError: there is no such sample, or one has other labels in one run than in the other.
    """
    mine, theirs = _by_sample(first.rollouts), _by_sample(second.rollouts)
    groups: dict[str, list[Pair]] = {}
    for name in mine:
        for one, two in zip(mine[name], theirs.get(name, ()), strict=False):
            a, b = first.rollouts[one], second.rollouts[two]
            if a.emotion != b.emotion:
                labels = f"{a.emotion or 'nothing'} in one run and {b.emotion or 'nothing'} in the other"
                raise DataError(f"sample {name} is labelled {labels}: compare runs of one data set")
            found = {(True, True): "both", (True, False): "a", (False, True): "b", (False, False): "neither"}
            states = verdict(a), verdict(b)
            known = not {"unlabelled", "script"} & set(states)
            outcome = found[states[0] == "right", states[1] == "right"] if known else "unlabelled"
            same = a.predicted_emotion == b.predicted_emotion and a.predicted_aus == b.predicted_aus
            groups.setdefault(name, []).append(Pair(one, two, outcome, same))
    if not groups:
        raise DataError("the two runs share no sample: compare runs of the same data set")
    return groups


def _by_sample(rollouts: Sequence[Rollout]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for i, rollout in enumerate(rollouts):
        found.setdefault(rollout.sample_id, []).append(i)
    return found


def _render(
    runs: tuple[Run, Run], names: tuple[str, ...], groups: dict[str, list[Pair]], drawers: tuple[Pictures, Pictures],
    beside: Beside | None, config: PageConfig,
) -> str:  # fmt: skip
    """Return the page: both runs' settings, the tables, and the pairs."""
    ranks = {name: min(list(OUTCOMES).index(pair.outcome) for pair in pairs) for name, pairs in groups.items()}
    emotions = {name: runs[0].rollouts[pairs[0].first].emotion or "" for name, pairs in groups.items()}
    drawn = {}
    for name in stratified({name: (ranks[name], emotions[name]) for name in groups}):
        for pair in groups[name]:
            drawn[pair] = drawers[0].of(runs[0].rollouts[pair.first]), drawers[1].of(runs[1].rollouts[pair.second])
    pictured = {name: any(one[0] for pair in pairs for one in drawn[pair]) for name, pairs in groups.items()}
    same = {name: all(pair.same for pair in pairs) for name, pairs in groups.items()}
    order = sorted(groups, key=lambda name: (ranks[name], same[name], not pictured[name]))

    macros: Any = page_templates().get_template("episode.html.j2").module
    places, listed = {name: i for i, name in enumerate(groups)}, []
    agents = [str(run.settings.get("agent", "")) for run in runs]
    titles = agents if all(agents) and agents[0] != agents[1] else list(names)
    for place, name in enumerate(order, 1):
        items = []
        for pair in groups[name]:
            views = (episode_view(runs[0], pair.first, drawn[pair][0]),
                     episode_view(runs[1], pair.second, drawn[pair][1]))  # fmt: skip
            article = macros.pair_article(pair.first, list(zip("AB", titles, views, strict=True)))
            items.append(Item(pair.first, article, _values(pair, views)))
        head = macros.pair_head(name, emotions[name], place)
        listed.append(Group(head, tuple(items), name, places[name]))
    listing = Listing("pair", "disagreements first", _columns([item for group in listed for item in group.items]),
                      tuple(listed), config)  # fmt: skip
    return render_page(
        "side_by_side.html.j2", listing, beside,
        title=f"{titles[0]} beside {titles[1]}",
        notes=_notes(runs, groups),
        runs=[(mark, f"{run_title(run)} ({name})", run_facts(run, rewarded=False))
              for mark, run, name in zip("AB", runs, names, strict=True)],
        outcomes=_outcomes(groups),
        differences=_differences(runs),
        sections=(),
        list_title="Pairs",
    )  # fmt: skip


def _values(pair: Pair, views: Sequence[EpisodeView]) -> dict[str, str]:
    """Return a pair's values of the filters."""
    zooms = {(True, True): "both", (True, False): "a", (False, True): "b", (False, False): "neither"}
    shown = all(view.source != "hidden" for view in views)
    return {
        "emotion": views[0].rollout.emotion or "-", "outcome": pair.outcome,
        "same": "yes" if pair.same else "no" if shown else "-",
        "zoom": zooms[views[0].rollout.zoomed, views[1].rollout.zoomed],
        "violations": "yes" if any(view.rollout.violations for view in views) else "no",
        "pictures": "yes" if any(view.pictures for view in views) else "no",
    }  # fmt: skip


def _columns(items: Sequence[Item]) -> tuple[Any, ...]:
    emotions = {name: name for name in facs.EMOTIONS if any(item.values["emotion"] == name for item in items)}
    return (
        choices("emotion", "Target emotion", emotions | {"-": "without label"}),
        choices("outcome", "Outcome", OUTCOMES),
        choices("same", "Answers", {"yes": "the same", "no": "differ"}),
        choices("zoom", "Zoom", {"a": "only A zoomed", "b": "only B zoomed", "both": "both", "neither": "neither"}),
        choices("violations", "Violations", {"yes": "one has violations", "no": "none"}),
        choices("pictures", "Pictures", {"yes": "with pictures", "no": "without"}),
    )


def _notes(runs: tuple[Run, Run], groups: dict[str, list[Pair]]) -> list[str]:
    """Return what a reader must know first: samples that only one run has, scripts that looked at no picture."""
    notes = []
    for mark, run in zip("AB", runs, strict=True):
        alone = {rollout.sample_id for rollout in run.rollouts} - groups.keys()
        if alone:
            notes.append(f"{counted(len(alone), 'sample')} of {mark} alone: not shown here.")
        if notice := script_notice(run):
            notes.append(f"{mark}: {notice}.")
    counts = [sum(rollout.sample_id in groups for rollout in run.rollouts) for run in runs]
    if counts[0] != counts[1]:
        pairs = sum(len(members) for members in groups.values())
        notes.append(f"Of these samples A has {counted(counts[0], 'episode')} and B {counts[1]}: {pairs} make pairs.")
    return notes


def _outcomes(groups: dict[str, list[Pair]]) -> list[tuple[str, list[tuple[str, int]]]]:
    """Return the rows of the table of who is right; empty without labels."""
    found = [pair.outcome for members in groups.values() for pair in members]
    counts = {name: found.count(name) for name in OUTCOMES}
    if not len(found) - counts["unlabelled"]:
        return []
    rows = (("A right", ("both", "a")), ("A not", ("b", "neither")))
    return [(word, [(name, counts[name]) for name in names]) for word, names in rows]


def _differences(runs: tuple[Run, Run]) -> list[dict[str, Any]]:
    """Return the rows of the table of figures; those of answers that are not shown are left out."""
    hidden = any(answer_source(rollout) == "hidden" for run in runs for rollout in run.rollouts)
    rows = []
    for found in compare(*runs):
        if hidden and found.metric in ("accuracy", "macro_f1", "au_instance_f1", "au_macro_f1"):
            continue
        shares = found.metric in _SHARES
        word = share if shares else number
        scale, digits, unit = (100, 1, " points") if shares else (1, 2, "")
        gap = f"{scale * found.difference:+.{digits}f}{unit}".replace("-", "−")
        ends = f"{scale * found.low:+.{digits}f} to {scale * found.high:+.{digits}f}".replace("-", "−")
        names = {"macro_f1": "macro-F1", "au_instance_f1": "AU F1, per episode", "au_macro_f1": "AU F1, macro",
                 "zoom_ratio": "zoomed", "violation_rate": "with violations"}  # fmt: skip
        rows.append({
            "name": names.get(found.metric, found.metric), "n": found.n, "first": word(found.first),
            "second": word(found.second), "difference": gap, "interval": ends if found.n > 1 else DASH,
        })  # fmt: skip
    return rows
