"""The second pass of UC-GRPO over the rollouts of one verl step; all numbers come from `actfer_env.rewards`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from actfer_env.errors import DataError
from actfer_env.files import write_text_atomic
from actfer_env.identity import refuse_other
from actfer_env.rewards import UCGRPO, Scores, UCGRPOConfig
from actfer_env.rewards.config import FORMATS, VARIANTS, RewardError
from actfer_env.rewards.guards import collapse_figures
from actfer_env.rewards.other_papers import AnswerReward, reward_facts, whole_facts
from actfer_env.rewards.registry import OTHER_REWARDS
from actfer_env.rewards.task import task_reward
from actfer_env.rewards.thoughts import repairs, thought_share
from actfer_env.rewards.utility import in_contrast
from actfer_env.rollout import VIOLATIONS, Rollout, write_rollouts

STATE_FILE, REWARD_FILE = "ucgrpo_state.json", "ucgrpo_reward.json"
"""The scorer's state and the reward's constants within a checkpoint's folder."""


def reward_config(options: Mapping[str, Any] | None) -> UCGRPOConfig | AnswerReward:
    """Return the reward's constants from the section ``ucgrpo`` of verl's configuration.

    Args:
        options: "variant", a name in `VARIANTS` (default "full"), "format", a name in `FORMATS` (default "lenient"),
            and fields of `UCGRPOConfig`; or as "variant" a name in `OTHER_REWARDS` and fields of that reward, whose
            format term is its own. None is the default.

    Returns:
        Constants of UC-GRPO, or the reward of another paper.

    Raises:
        RewardError: the variant or a field is unknown, or a value is out of range.
    """
    chosen = dict(options or {})
    name = chosen.pop("variant", "full")
    form = chosen.pop("format", "lenient")
    if form not in FORMATS:
        raise RewardError(f"unknown ucgrpo.format {form!r}: use one of {', '.join(FORMATS)}")
    if name in VARIANTS:
        return UCGRPOConfig.from_dict({**FORMATS[form], **VARIANTS[name], **chosen})
    if name not in OTHER_REWARDS:
        raise RewardError(f"unknown ucgrpo.variant {name!r}: use one of {', '.join([*VARIANTS, *OTHER_REWARDS])}")
    known = [field.name for field in fields(OTHER_REWARDS[name])]
    for key in chosen:
        if key not in known:
            raise RewardError(f"unknown field {key!r} of ucgrpo.variant {name!r}: use one of {', '.join(known)}")
    return OTHER_REWARDS[name](**chosen)


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Return the first pass for one trajectory: verl's ``reward.custom_reward_function``.

    Validation sees this pass alone; in training the trainer replaces it by the whole reward.

    Args:
        data_source: Unused.
        solution_str: Unused; the agent loop has parsed the turns.
        ground_truth: Unused; the rollout carries its target.
        extra_info: The agent loop's extra fields, "rollout" among them.
        **options: as `reward_config`; others that verl passes are ignored when their names begin with "reward_".

    Returns:
        "score" (the task reward, or the whole reward of another paper), and
        "acc", "zoomed", "violations" as floats; "reward_seconds" is what it took.

    Raises:
        DataError: the agent loop was not this project's.
    """
    start = time.perf_counter()
    kept = {key: value for key, value in options.items() if not key.startswith("reward_")}
    rollout, reward = rollout_of(extra_info or {}), reward_config(kept)
    if isinstance(reward, AnswerReward):
        score = float(reward.score([rollout]).total[0])
    else:
        score = task_reward(rollout, reward)
    return {
        "score": score,
        "acc": float(bool(rollout.correct)),
        "zoomed": float(rollout.zoomed), "violations": float(len(rollout.violations)),
        "reward_seconds": time.perf_counter() - start,
    }  # fmt: skip


def rollout_of(fields: Mapping[str, Any]) -> Rollout:
    """Return the rollout that an agent loop left in its extra fields.

    Raises:
        DataError: there is none.
    """
    if not isinstance(fields.get("rollout"), str):
        raise DataError("the trajectory has no rollout: set rollout.agent.default_agent_loop=actfer_agent")
    return Rollout.from_dict(json.loads(fields["rollout"]))


class StepScorer:
    """Scores the trajectories of a step and keeps the emotion-wise EMA.

    Args:
        config: The reward's constants, or the reward of another paper, which keeps no EMA.

    Attributes:
        scorer: The library's scorer.
    """

    def __init__(self, config: UCGRPOConfig | AnswerReward | None = None) -> None:
        self.scorer: UCGRPO | AnswerReward = config if isinstance(config, AnswerReward) else UCGRPO(config)

    def score(
        self, uids: Sequence[str], fields: Sequence[Mapping[str, Any]], padding: Sequence[bool]
    ) -> tuple[list[int], list[Rollout], Scores]:
        """Score the rows of a step and move the EMA once.

        Args:
            uids: The prompt of each row: rows of one prompt form a query group.
            fields: The agent loop's extra fields of each row.
            padding: Whether a row is padding, which copies another row and counts for nothing.

        Returns:
            The rows that count, their rollouts, and their scores, in one order. A session that failed has no row: its
            group is smaller.

        Raises:
            DataError: a row without rollout, or only padding.
        """
        kept = [row for row, filled in enumerate(padding) if not filled]
        if not kept:
            raise DataError("the step has no trajectory: every session failed; see the agent loop's log")
        rollouts = [replace(rollout_of(fields[row]), group_id=str(uids[row])) for row in kept]
        scores = self.scorer.score(rollouts)
        self.scorer.commit(scores)
        return kept, rollouts, scores

    def metrics(self, rollouts: Sequence[Rollout], scores: Scores) -> dict[str, float]:
        """Return what a training log should show of a step, under names that begin with ``ucgrpo/``."""
        found = {f"ucgrpo/{name}": float(getattr(scores, name).mean())
                 for name in ("task", "structure", "utility", "quality", "total")}  # fmt: skip
        found["ucgrpo/accuracy"] = float(np.mean([bool(rollout.correct) for rollout in rollouts]))
        found |= {f"ucgrpo/{name}": value for name, value in collapse_figures(rollouts, scores).items()}
        found["ucgrpo/detection_failed"] = float(np.mean([rollout.detection == "failed" for rollout in rollouts]))
        for name in VIOLATIONS:
            found[f"ucgrpo/violations/{name}"] = float(np.mean([name in rollout.violations for rollout in rollouts]))
        share = thought_share(rollouts)
        found |= {} if np.isnan(share) else {"ucgrpo/thoughts": share}
        found["ucgrpo/repairs"] = float(np.mean([repairs(rollout) for rollout in rollouts]))
        if isinstance(self.scorer, UCGRPO):
            members = [in_contrast(rollout, self.scorer.config) for rollout in rollouts]
            found["ucgrpo/contrast_members"] = float(np.mean(members))
        deltas = [delta for delta in scores.delta.values() if delta is not None]
        found["ucgrpo/contrasts"] = float(len(deltas))
        if deltas:
            found["ucgrpo/delta"] = float(np.mean(deltas))
        for emotion in sorted({rollout.emotion for rollout in rollouts if rollout.emotion}):
            rows = [i for i, rollout in enumerate(rollouts) if rollout.emotion == emotion]
            found[f"ucgrpo/zoom/{emotion}"] = float(scores.zoomed[rows].mean())
        ema = self.scorer.ema if isinstance(self.scorer, UCGRPO) else {}
        found |= {f"ucgrpo/ema/{emotion}": value for emotion, value in ema.items()}
        # How much advantage arises in groups in which every answer is wrong.
        right = {rollout.group_id for rollout in rollouts if rollout.correct is not False}  # None: without an emotion
        lost = np.array([rollout.group_id not in right for rollout in rollouts])
        found["ucgrpo/lost_share"] = float(lost.mean())
        found["ucgrpo/lost_advantage"] = float(np.abs(scores.advantage[lost]).mean()) if lost.any() else 0.0
        return found

    def save(self, folder: str | Path) -> None:
        """Write the state, and the reward's constants, into a checkpoint's folder."""
        write_text_atomic(Path(folder) / REWARD_FILE, json.dumps(reward_facts(self.scorer)))
        write_text_atomic(Path(folder) / STATE_FILE, json.dumps(self.scorer.state_dict()))

    def load(self, folder: str | Path) -> None:
        """Restore the state from a checkpoint's folder.

        Raises:
            DataError: the checkpoint holds none, or one of a reward with other constants.
            RewardError: the state is malformed.
        """
        path = Path(folder) / STATE_FILE
        reward = Path(folder) / REWARD_FILE
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            # Checkpoints of older versions do not name their reward.
            made = json.loads(reward.read_text(encoding="utf-8")) if reward.exists() else None
        except (OSError, ValueError) as error:
            raise DataError(
                f"cannot resume: no readable {path}; set trainer.resume_mode=disable to begin anew"
            ) from error
        if made is not None:
            refuse_other(folder, "run", {"ucgrpo": whole_facts(made)}, {"ucgrpo": reward_facts(self.scorer)})
        self.scorer.load_state_dict(state)


def write_step(folder: str | Path, step: int, rollouts: Sequence[Rollout], record: Mapping[str, Any]) -> None:
    """Write a step's rollouts (JSON lines) and what was made of them (JSON), so that anybody can audit it.

    Args:
        folder: Folder of the steps.
        step: The policy update.
        rollouts: Its rollouts.
        record: JSON values: the scores, the advantages, the EMA before the step.

    Raises:
        DataError: the folder cannot be written.
    """
    write_rollouts(Path(folder) / f"step_{step:06d}.jsonl", rollouts)
    write_text_atomic(Path(folder) / f"step_{step:06d}.json", json.dumps(record))


def write_tokens(folder: str | Path, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write what an update was fed, a row a rollout, beside `write_step`: ``step_N.tokens.json``.

    Args:
        folder: Folder of the steps.
        step: The policy update.
        rows: For each rollout, "prompts", "responses" and "loss_mask" (token ids and 0 or 1), "grids" (frames, rows and
            columns of each picture) and "patches" (rows of `pixel_values`).

    Raises:
        DataError: the folder cannot be written.
    """
    write_text_atomic(Path(folder) / f"step_{step:06d}.tokens.json", json.dumps(list(rows)))


def engine_figures(metrics: Mapping[str, Any], asked: int) -> dict[str, float]:
    """Return what `collapse_warnings` takes besides `collapse_figures`, from verl's metrics of a step.

    Args:
        metrics: Metrics with "ucgrpo/sessions_failed"; verl adds "training/rollout_probs_diff_mean" where
            ``rollout.calculate_log_probs`` is on, and says whether it is valid.
        asked: Rollouts of a step.
    """
    found = {"sessions_failed": float(metrics["ucgrpo/sessions_failed"]) / asked}
    if metrics.get("training/rollout_probs_diff_valid"):
        found["rollout_probs_diff"] = float(metrics["training/rollout_probs_diff_mean"])
    return found


MODEL_TIMERS = ("gen", "old_log_prob", "ref", "values", "update_critic", "update_actor", "update_weights")
"""verl's timers of a step in which the model works; "gen" holds tools and the first pass too."""


def spent_seconds(fields: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return what tools and the first pass of a step's trajectories took, seconds summed over trajectories.

    Args:
        fields: The agent loop's extra fields of each row that counts.
    """
    tools = sum(float(one.get("tool_seconds", 0.0)) for one in fields)
    rewards = sum(float((one.get("reward_extra_info") or {}).get("reward_seconds", 0.0)) for one in fields)
    return tools, rewards


def cost_metrics(timing: Mapping[str, float], tools: float, rewards: float) -> dict[str, float]:
    """Return where a step's wall time went, as seconds and as shares under ``ucgrpo/cost/``.

    Tools and rewards are counted as if they ran one after the other and kept everything else waiting, so that their
    shares are upper bounds; the model's is what then remains of verl's own timers.

    Args:
        timing: verl's timers of the step in seconds, "step" among them.
        tools: CPU seconds of tools, tokenising and picture processing included, summed over trajectories.
        rewards: Seconds of both reward passes.
    """
    step = max(float(timing["step"]), 1e-9)
    model = max(sum(float(timing.get(name, 0.0)) for name in MODEL_TIMERS) - tools, 0.0)
    seconds = {"model": model, "tools": tools, "rewards": rewards, "rest": max(step - model - tools - rewards, 0.0)}
    shares = {f"ucgrpo/cost/{name}_share": value / step for name, value in seconds.items()}
    return {f"ucgrpo/cost/{name}_s": value for name, value in seconds.items()} | shares
