"""verl's synchronous GRPO trainer with the second pass of UC-GRPO (ActFER section 3.4)."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import torch
import transfer_queue as tq
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from actfer_env.rewards import UCGRPO
from actfer_env.rewards.guards import collapse_figures, collapse_warnings, idle_terms
from actfer_env.verl_plugin import TRAINER
from actfer_env.verl_plugin.check import check_config, split_options
from actfer_env.verl_plugin.scoring import (
    StepScorer,
    cost_metrics,
    engine_figures,
    spent_seconds,
    write_step,
    write_tokens,
)

logger = logging.getLogger(__name__)


@register_trainer(TRAINER)
class UCGRPOTrainer(PPOTrainerSync):
    """Scores whole query groups between rollout and update.

    Scores and advantages are those of `UCGRPO.score`: a group of one, and a group without spread, get zeros, which verl
    alone would not give. Each step's rollouts and scores are written to ``<default_local_dir>/rollouts``.

    Raises:
        RewardError: a setting of verl that would undo this.
    """

    def __init__(self, config: Any) -> None:
        check_config(config)
        options = config.get("ucgrpo")
        constants, self.record_tokens = split_options(None if options is None else OmegaConf.to_container(options))
        self.step_scorer, self.spent = StepScorer(constants), (0.0, 0.0)
        super().__init__(config)

    @property
    def trainer_mode(self) -> str:
        """Always "sync": verl chooses the replay buffer by this name, and takes the asynchronous one for any other."""
        return "sync"

    @trainer_mode.setter
    def trainer_mode(self, value: str) -> None:
        """Ignore the name under which this trainer is registered."""

    def _compute_advantage(self, batch: Any, metrics: dict[str, Any]) -> Any:
        """Score the step's query groups, let verl do its part, and put the library's advantages in place of verl's."""
        start = time.perf_counter()
        data = self._get(batch, "uid", "rm_scores", "extra_fields")
        uids, fields = data.pop("uid").tolist(), data.pop("extra_fields").tolist()
        padding = [bool(tag.get("is_padding", False)) for tag in batch.tags]
        before = self.step_scorer.scorer.state_dict()
        kept, rollouts, scores = self.step_scorer.score(uids, fields, padding)

        # The whole reward stands on the last token of each row; padding gets zeros.
        rewards = [torch.zeros_like(row) for row in data["rm_scores"].unbind(0)]
        for row, total in zip(kept, scores.total, strict=True):
            rewards[row][-1] = float(total)
        self._put(batch, rm_scores=rewards)
        own_seconds = time.perf_counter() - start

        batch = super()._compute_advantage(batch, metrics)

        # An advantage stands on every token that the policy wrote. verl's differs in groups of one or without spread.
        start = time.perf_counter()
        data = self._get(batch, "advantages", "response_mask")
        theirs, masks = list(data["advantages"].unbind(0)), list(data["response_mask"].unbind(0))
        ours = [torch.zeros_like(row) for row in theirs]
        for row, advantage in zip(kept, scores.advantage, strict=True):
            ours[row] = masks[row].to(theirs[row].dtype) * float(advantage)
        self._put(batch, advantages=ours, returns=ours)

        asked = self.config.data.train_batch_size * self.config.actor_rollout_ref.rollout.n
        gaps = (float((theirs[row] - ours[row]).abs().max()) for row in kept if len(theirs[row]))
        metrics.update(self.step_scorer.metrics(rollouts, scores))
        metrics["ucgrpo/advantage_gap_to_verl"] = max(gaps, default=0.0)
        metrics["ucgrpo/sessions_failed"] = float(asked - len(kept))
        for line in collapse_warnings(collapse_figures(rollouts, scores) | engine_figures(metrics, asked)):
            logger.warning("step %d: %s", self.global_steps, line)
        if self.global_steps <= 1 and isinstance(self.step_scorer.scorer, UCGRPO):
            for line in idle_terms(rollouts, self.step_scorer.scorer.config):
                logger.warning("%s", line)

        folder = Path(self.config.trainer.default_local_dir) / "rollouts"
        record = {"state": before, "step": self.global_steps, **self._read_back(batch, kept)}
        write_step(folder, self.global_steps, rollouts, record)
        if self.record_tokens:
            write_tokens(folder, self.global_steps, self._tokens(batch, kept))
        tool_seconds, reward_seconds = spent_seconds([fields[row] for row in kept])
        self.spent = tool_seconds, reward_seconds + own_seconds + time.perf_counter() - start
        return batch

    def _tokens(self, batch: Any, kept: list[int]) -> list[dict[str, Any]]:
        """Return what the update is fed for each row: tokens, loss mask, and the sizes of its pictures."""
        names = ["prompts", "responses", "loss_mask"]
        data = self._get(batch, *names, "multi_modal_inputs")
        pictures = data.pop("multi_modal_inputs").tolist()
        columns = [list(data[name].unbind(0)) for name in names]
        return [
            {**{name: column[row].tolist() for name, column in zip(names, columns, strict=False)},
             "grids": pictures[row]["image_grid_thw"].tolist(), "patches": len(pictures[row]["pixel_values"])}
            for row in kept
        ]  # fmt: skip

    def _compute_metrics(
        self, batch: Any, metrics: dict[str, Any], timing_raw: dict[str, float], **kwargs: Any
    ) -> None:
        super()._compute_metrics(batch, metrics, timing_raw, **kwargs)
        metrics.update(cost_metrics(timing_raw, *self.spent))

    def _read_back(self, batch: Any, kept: list[int]) -> dict[str, Any]:
        """Return the scores and advantages that lie in verl's queue, from where the update takes them.

        A sequence none of whose tokens carries a loss, as verl's `rollout_correction.rollout_rs` leaves it, has the
        advantage None. "leak" is the largest advantage on a token that the policy did not write, "rows_padding" how
        many rows are padding.
        """
        names = ["rm_scores", "advantages", "response_mask"]
        data = self._get(batch, *names)
        scores, found, masks = (list(data[name].unbind(0)) for name in names)
        pairs = [(found[row], masks[row].bool()) for row in kept]
        kept_values = [row[mask] for row, mask in pairs]
        return {
            "total": [float(scores[row].sum()) for row in kept],
            "advantage": [float(values.mean()) if len(values) else None for values in kept_values],
            "spread": max((float(values.max() - values.min()) for values in kept_values if len(values)), default=0.0),
            "leak": max((float(row[~mask].abs().sum()) for row, mask in pairs), default=0.0),
            "rows_padding": len(found) - len(kept),
        }

    def _get(self, batch: Any, *names: str) -> Any:
        """Return columns of the step's rows from verl's queue."""
        return tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=list(names))

    def _put(self, batch: Any, **columns: list[Any]) -> None:
        nested = {name: torch.nested.as_nested_tensor(rows, layout=torch.jagged) for name, rows in columns.items()}
        fields = TensorDict(nested, batch_size=len(batch.keys))
        tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)

    def _save_checkpoint(self) -> None:
        """Write the scorer's state first: verl names a checkpoint as the latest at the end of its own part."""
        self.step_scorer.save(Path(self.config.trainer.default_local_dir) / f"global_step_{self.global_steps}")
        super()._save_checkpoint()

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        if self.global_steps > 0:
            self.step_scorer.load(self._resumed_from())

    def _resumed_from(self) -> Path:
        settings = self.config.trainer
        if settings.resume_mode == "resume_path":
            return Path(settings.resume_from_path)
        return Path(settings.default_local_dir) / f"global_step_{self.global_steps}"
