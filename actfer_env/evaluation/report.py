"""The HTML report of a stored run: it stands for itself and asks no network for anything."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actfer_env import facs
from actfer_env.envs.panel import NOBODY_LOOKED
from actfer_env.evaluation.classes import NO_ANSWER, class_tables
from actfer_env.evaluation.episodes import (
    DEMONSTRATIONS,
    VERDICTS,
    EpisodeView,
    GroupView,
    answer_source,
    draw_spread,
    group_views,
    plain,
    verdict,
)
from actfer_env.evaluation.listing import Beside, Group, Item, Listing, PageConfig, choices, occurring
from actfer_env.evaluation.metrics import summarize
from actfer_env.evaluation.page import page_templates, render_page, write_page
from actfer_env.evaluation.pictures import PictureConfig, Pictures
from actfer_env.evaluation.run import REPORT_FILE, Run, read_run
from actfer_env.evaluation.sections import extra_sections
from actfer_env.evaluation.tables import DASH, summary_rows, summary_tables
from actfer_env.rewards import UCGRPOConfig
from actfer_env.rewards.groups import group_rollouts

__all__ = [
    "DEMONSTRATIONS", "VERDICTS", "Audit", "answer_source", "audit", "rebuild", "render_report", "script_notice",
    "verdict", "write_report",
]  # fmt: skip

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


def write_report(
    folder: str | os.PathLike[str], run: Run | None = None, *, pictures: PictureConfig | None = None,
    au_set: Iterable[int] | None = None, keep: bool = True, pages: PageConfig | None = None,
) -> Path:  # fmt: skip
    """Write `report.html` of a run, rebuilt from the stored run alone; no detector and no model runs.

    A report of more than `PageConfig.single` episodes has a folder `report_files` beside it, with its pictures and its
    episodes; both together can be moved and opened anywhere, without a server.

    Args:
        folder: Folder of the run and of its report.
        run: The run, if it is at hand; else it is read from the folder.
        pictures: Sizes and number of the pictures.
        au_set: Action Units that the tables average; None is the run's own set.
        keep: If source pictures cannot be found, do not replace a report that shows more of them.
        pages: Sizes of the list of episodes.

    Returns:
        The report's path.

    Raises:
        DataError: there is no run, its rollouts are malformed, the folder cannot be written, or the report is kept.
    """
    run = read_run(folder) if run is None else run
    return rebuild(folder, run, Pictures(run, pictures, folder), keep, au_set, pages)


def rebuild(
    folder: str | os.PathLike[str], run: Run, pictures: Pictures, keep: bool = True,
    au_set: Iterable[int] | None = None, pages: PageConfig | None = None,
) -> Path:  # fmt: skip
    """Write a report as `write_report` does; afterwards ``pictures.lost`` tells what it lacks."""
    path = Path(folder) / REPORT_FILE
    write_page(
        path, len(run.rollouts), pages or PageConfig(), (pictures,),
        lambda beside, config: _render(run, pictures, au_set, Path(folder), beside, config), keep=keep,
    )  # fmt: skip
    return path


def render_report(
    run: Run, *, pictures: PictureConfig | None = None, au_set: Iterable[int] | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> str:  # fmt: skip
    """Return the report of a run as one HTML document, whatever its size.

    Args:
        run: The run.
        pictures: Sizes and number of the pictures.
        au_set: Action Units that the tables average; None is the run's own set.
        folder: The run's, where it carries its pictures.

    Raises:
        DataError: its rollouts are malformed.
    """
    place = None if folder is None else Path(folder)
    html = _render(run, Pictures(run, pictures, folder), au_set, place, None, PageConfig())
    return html.encode("utf-8", "replace").decode("utf-8")


def _render(
    run: Run, pictures: Pictures, au_set: Iterable[int] | None, folder: Path | None, beside: Beside | None,
    config: PageConfig,
) -> str:  # fmt: skip
    """Return the page, from its head to its episodes; what does not stand in it goes to files beside it."""
    groups = group_rollouts(run.rollouts)
    views = group_views(run, groups, draw_spread(run, groups, pictures))
    rewarded = any(view.rewarded for view in views)
    units = run.au_set if au_set is None else frozenset(au_set)
    summary = summarize(run.rollouts, run.scores if rewarded else None, units)
    return render_page(
        "report.html.j2", _listing(views, config), beside,
        title=run_title(run),
        audit=audit(run),
        notice=script_notice(run),
        facts=run_facts(run, rewarded),
        tiles=summary_rows(summary),
        classes=class_tables(run.rollouts, units),
        tables=summary_tables(summary),
        failures=run.failures,
        sections=extra_sections(run, folder),
        list_title="Episodes",
    )  # fmt: skip


def _listing(views: Sequence[GroupView], config: PageConfig) -> Listing:
    """Return the list of a run's groups with its filters."""
    macros: Any = page_templates().get_template("episode.html.j2").module
    groups = []
    for number, view in enumerate(views, 1):
        shown = tuple(
            Item(episode.number, macros.episode_article(episode, view.rewarded), _values(episode))
            for episode in view.episodes
        )
        head = macros.group_head(view, number, view.rewarded)
        groups.append(Group(head, shown, f"{view.sample_id} {view.name}", view.played))
    items = [item for group in groups for item in group.items]
    emotions = {name: name for name in facs.EMOTIONS if any(item.values["emotion"] == name for item in items)}
    answers = {name: name for name in facs.EMOTIONS if any(item.values["answer"] == name for item in items)}
    columns = (
        choices("emotion", "Target emotion", emotions | {"-": "without label"}),
        choices("answer", "Answer", answers | {NO_ANSWER: "none"}),
        choices("outcome", "Outcome", VERDICTS),
        choices("zoom", "Zoom", {"yes": "zoomed", "no": "did not zoom"}),
        choices("violations", "Violations", {"yes": "has violations", "no": "has none"}),
        choices("pictures", "Pictures", {"yes": "with pictures", "no": "without"}),
        occurring("agent", "Agent", items, {"": ""}),
        occurring("quality", "Picture quality", items, {"": ""}),
    )
    return Listing("episode", "wrong answers first", tuple(filter(None, columns)), tuple(groups), config)


def _values(episode: EpisodeView) -> dict[str, str]:
    """Return an episode's values of the filters."""
    rollout = episode.rollout
    return {
        "emotion": rollout.emotion or "-", "outcome": episode.verdict,
        "answer": NO_ANSWER if episode.source == "hidden" else rollout.predicted_emotion or NO_ANSWER,
        "zoom": "yes" if rollout.zoomed else "no", "violations": "yes" if rollout.violations else "no",
        "pictures": "yes" if episode.pictures else "no",
        "agent": str(rollout.meta.get("agent") or ""), "quality": str(rollout.meta.get("quality") or ""),
    }  # fmt: skip


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


def run_title(run: Run) -> str:
    """Return a run's agent and data set as a heading."""
    name, agent = run.dataset.get("name", "run"), str(run.settings.get("agent", ""))
    return f"{agent} on {name}" if agent and "," not in agent else f"Run on {name}"


def run_facts(run: Run, rewarded: bool = True) -> list[tuple[str, str]]:
    """Return what was run, as pairs of name and value; of a folder only its name, so that reports can be shared."""
    data = {key: value for key, value in run.dataset.items() if value is not None}
    if "root" in data:
        data["root"] = "…/" + Path(str(data["root"])).name
    name = str(data.pop("name", DASH))
    options = ", ".join(f"{key} {plain(value)}" for key, value in data.items())
    keys = [*(key for key in _FIRST if key in run.settings), *(key for key in run.settings if key not in _FIRST)]
    standard = UCGRPOConfig().to_dict()
    changed = [f"{key} {plain(value)}" for key, value in run.reward.to_dict().items() if value != standard[key]]
    return [
        ("data set", f"{name} ({options})" if options else name),
        *((key.replace("_", " "), plain(run.settings[key])) for key in keys),
        *([("reward", f"UC-GRPO with {', '.join(changed) or 'its default constants'}")] if rewarded else ()),
        ("made with", f"actfer-env {run.version}"),
    ]


def script_notice(run: Run) -> str | None:
    """Return a line where no policy looked at some or all of a run's pictures, or None."""
    played = sum(not rollout.looked for rollout in run.rollouts)
    if not played:
        return None
    some = "" if played == len(run.rollouts) else f"in {played} of {len(run.rollouts)} episodes "
    return some + NOBODY_LOOKED
