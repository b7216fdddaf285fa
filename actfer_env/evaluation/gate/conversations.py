"""Playing a language policy in every pass of a gate report."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from actfer_env.chat import chat_tools
from actfer_env.data import Dataset
from actfer_env.episode import Zooming
from actfer_env.errors import ImageError
from actfer_env.evaluation.evaluate import EvalConfig, evaluate
from actfer_env.evaluation.gate.outcomes import (
    ALWAYS,
    FOLDER,
    FREE,
    SWAPS,
    Outcome,
    Plays,
    SampleFacts,
    facts_of,
)
from actfer_env.evaluation.run import Run
from actfer_env.progress import Watch

if TYPE_CHECKING:
    from actfer_env.agents.base import ChatAgent


def gate_configs(config: EvalConfig, swaps: bool = True) -> dict[str, EvalConfig]:
    """Return the evaluation of each pass: its name -> the settings; those with other crops last.

    Args:
        config: The evaluation of the pass "free".
        swaps: Add the passes with other crops.
    """
    ways: tuple[Zooming, ...] = get_args(Zooming)
    forced: dict[str, EvalConfig] = {way: replace(config, episode=replace(config.episode, zoom=way)) for way in ways}
    changed: dict[str, EvalConfig] = {swap: replace(forced[ALWAYS], swap=swap) for swap in SWAPS if swaps}
    return {**forced, **changed}


def evaluate_gate(
    agent: ChatAgent, dataset: Dataset, config: EvalConfig, out: str | os.PathLike[str], *, swaps: bool = True,
    watch: Watch | None = None,
) -> tuple[Plays, Run]:  # fmt: skip
    """Play a data set with a language policy in every pass.

    Each pass is an evaluation of its own, kept in ``out/gate/PASS``, that of the pass "free" in ``out``: a second start
    plays what is missing. In "never" the tool is neither in the prompt nor known. In "always" the prompt asks for a
    look, and an answer before it is refused.

    Args:
        agent: The policy.
        dataset: The samples.
        config: Formats, budgets and repeats.
        out: Folder of the run.
        swaps: Play the passes with other crops, too.
        watch: Called after each conversation with "conversations", how many of all passes are finished, and how many
            there are.

    Returns:
        The passes, and the run of the pass "free".

    Raises:
        DataError: as `evaluate`.
        AgentError: as `evaluate`; what is finished is kept.
    """
    runs: dict[str, Run] = {}
    done, passes = 0, gate_configs(config, swaps)
    total = min(config.number or len(dataset), len(dataset)) * config.repeats * len(passes)
    for way, settings in passes.items():
        place = Path(out) if way == FREE else Path(out) / FOLDER / way

        def add_up(phase: str, finished: int, _: int, figures: Mapping[str, float], before: int = done) -> None:
            if watch is not None:
                watch(phase, before + finished, total, figures)

        runs[way] = evaluate(agent, dataset, settings, place, add_up)
        done += len(runs[way].rollouts)
        if any(not failure["sample_id"] for failure in runs[way].failures):  # it was interrupted, or measured no policy
            break
    failures = [failure for run in runs.values() for failure in run.failures]
    tools, facts = chat_tools(config.detector, config.chat), list[SampleFacts]()
    played = {rollout.sample_id for rollout in runs[FREE].rollouts}
    for index in range(min(config.number or len(dataset), len(dataset))):
        if dataset[index].id in played:
            try:
                facts.append(facts_of(dataset[index], tools, config.episode.au_set))
            except ImageError as error:
                failures.append({"sample_id": dataset[index].id, "error": str(error)})
    outcomes = [Outcome.of(one, way, one.member) for way, run in runs.items() for one in run.rollouts]
    settings_of = {**runs[FREE].settings, "repeats": config.repeats}
    plays = Plays(tuple(facts), tuple(outcomes), (agent.name,), dataset.arguments, settings_of, True, tuple(failures))
    return plays, runs[FREE]
