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

from actfer_env.rewards.guards import collapse_figures, collapse_warnings
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
_FIELDS = ["uid", "rm_scores", "extra_fields"]


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
        start = time.perf_counter()
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=_FIELDS)
        uids, fields = data.pop("uid").tolist(), data.pop("extra_fields").tolist()
        before = self.step_scorer.scorer.state_dict()
        padding = [bool(tag.get("is_padding", False)) for tag in batch.tags]
        kept, rollouts, scores = self.step_scorer.score(uids, fields, padding)
        self._put(batch, rm_scores=_last(list(data["rm_scores"].unbind(0)), kept, scores.total))
        middle = time.perf_counter()
        batch = super()._compute_advantage(batch, metrics)
        after = time.perf_counter()
        gap = self._replace_advantages(batch, kept, scores.advantage)
        asked = self.config.data.train_batch_size * self.config.actor_rollout_ref.rollout.n
        own = {"ucgrpo/advantage_gap_to_verl": gap, "ucgrpo/sessions_failed": float(asked - len(kept))}
        metrics.update(self.step_scorer.metrics(rollouts, scores) | own)
        figures = collapse_figures(rollouts, scores) | engine_figures(metrics, asked)
        for line in collapse_warnings(figures):
            logger.warning("step %d: %s", self.global_steps, line)
        record = {"state": before, "step": self.global_steps, **self._read_back(batch, kept)}
        self._write(batch, kept, rollouts, record)
        tools, rewards = spent_seconds([fields[row] for row in kept])
        self.spent = tools, rewards + middle - start + time.perf_counter() - after
        return batch

    def _write(self, batch: Any, kept: list[int], rollouts: list[Any], record: dict[str, Any]) -> None:
        folder = Path(self.config.trainer.default_local_dir) / "rollouts"
        write_step(folder, self.global_steps, rollouts, record)
        if self.record_tokens:
            write_tokens(folder, self.global_steps, self._tokens(batch, kept))

    def _tokens(self, batch: Any, kept: list[int]) -> list[dict[str, Any]]:
        """Return what the update is fed for each row: tokens, loss mask, and the sizes of its pictures."""
        names = ["prompts", "responses", "loss_mask", "multi_modal_inputs"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=names)
        pictures = data.pop("multi_modal_inputs").tolist()
        columns = [list(data[name].unbind(0)) for name in names[:3]]
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

    def _replace_advantages(self, batch: Any, kept: list[int], wanted: Any) -> float:
        """Put the library's advantages in place of verl's; return the largest difference between the two."""
        names = ["advantages", "response_mask"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=names)
        old, masks = list(data["advantages"].unbind(0)), list(data["response_mask"].unbind(0))
        new = [torch.zeros_like(row) for row in old]
        for row, value in zip(kept, wanted, strict=True):
            new[row] = masks[row].to(old[row].dtype) * float(value)
        self._put(batch, advantages=new, returns=new)
        return max((float((old[row] - new[row]).abs().max()) for row in kept if len(old[row])), default=0.0)

    def _read_back(self, batch: Any, kept: list[int]) -> dict[str, Any]:
        """Return the scores and advantages that lie in verl's queue, from where the update takes them.

        A sequence none of whose tokens carries a loss, as verl's `rollout_correction.rollout_rs` leaves it, has the
        advantage None. "leak" is the largest advantage on a token that the policy did not write, "rows_padding" how
        many rows are padding.
        """
        names = ["rm_scores", "advantages", "response_mask"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=names)
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


def _last(rows: list[Any], kept: list[int], values: Any) -> list[Any]:
    """Return per-token scores whose last token holds the value; rows of padding hold zeros."""
    new = [torch.zeros_like(row) for row in rows]
    for row, value in zip(kept, values, strict=True):
        new[row][-1] = float(value)
    return new
