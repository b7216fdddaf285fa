"""Recompute a verl run's numbers from what it stored, and compare. One line and exit code 1 at the first difference.

| claim                                            | compared                                                         |
|--------------------------------------------------|------------------------------------------------------------------|
| verl uses the library's scores and advantages    | values read back from verl's queue, with `UCGRPO.score` of the   |
|                                                  | stored rollouts                                                  |
| the scorer's state survives checkpoint, resume   | state at each step's start and in each checkpoint, with the one  |
|                                                  | that the rollouts give when nothing ever stops                   |
| the loss covers the policy's own tokens, no other| text of each masked run of tokens, with the rollout's turns;     |
|                                                  | no picture placeholder is masked in                              |
| placeholders equal picture features              | each run of placeholders, with the patches of its picture        |
| the policy calls tools                           | pictures behind the prompt, zooms, and an EMA that moved         |
| weights change, a frozen vision tower's do not   | checkpoints, with the one before                                 |
| merging keeps them                               | the merged folder, with the shards of the last checkpoint        |
| the merged model still plays                     | learn_eval.py's share of episodes with an answer, no violation   |
| a run can be watched                             | names in the metrics' file                                       |
| engine and trainer agree on what was sampled     | `training/rollout_probs_diff_max`, with a bound                  |
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import _installed  # noqa: F401
import numpy as np

from actfer_env import facs
from actfer_env.errors import ActFERError, DataError
from actfer_env.rewards import UCGRPO
from actfer_env.rollout import VIOLATIONS, Rollout, read_rollouts
from actfer_env.verl_plugin.scoring import STATE_FILE, reward_config

TOLERANCE = 1e-6
IMAGE, END = "<|image_pad|>", "<|im_end|>"
MERGED = 4
"""Patches behind one placeholder: Qwen3-VL merges 2 x 2."""
TERMS = ("task", "structure", "utility", "quality", "total", "accuracy", "zoom", "contrasts", "lost_share",
         "lost_advantage", "detection_failed", "sessions_failed", "advantage_gap_to_verl", "cost/model_share",
         "cost/tools_share", "cost/rewards_share")  # fmt: skip


def main() -> None:
    """Audit every step of a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="trainer.default_local_dir")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--group-size", type=int, required=True)
    parser.add_argument("--variant", default="full")
    parser.add_argument("--model", type=Path, help="the model's folder; checks tokens and weights")
    parser.add_argument("--frozen-tower", action="store_true", help="no weight of the vision tower may change")
    parser.add_argument("--merged", type=Path, help="folder of verl's merger, made of the last step's checkpoint")
    parser.add_argument("--evaluated", type=Path, help="what learn_eval.py wrote of a model that knows the format")
    parser.add_argument("--match", type=float, help="bound on the difference of sampled probabilities")
    parser.add_argument("--metrics", type=Path, nargs="*", default=[], help="files of verl's logger 'file'")
    options = parser.parse_args()
    try:
        lines = list(_all(options))
    except ActFERError as error:
        sys.exit(f"audit: {error}")
    sys.stdout.write("".join(f"audit: {line}\n" for line in lines))


def _all(options: argparse.Namespace) -> Iterator[str]:
    yield audit_scores(options.folder, options.steps, options.group_size, options.variant)
    if options.model is not None:
        yield audit_tokens(options.folder, options.steps, options.model)
        yield audit_weights(options.folder, options.steps, options.model, options.frozen_tower)
    if options.merged is not None:
        yield audit_merged(options.folder / f"global_step_{options.steps}" / "actor", options.merged)
    if options.evaluated is not None:
        yield audit_evaluation(options.evaluated)
    if options.metrics:
        yield audit_metrics(options.metrics, options.steps)
    if options.match is not None:
        yield audit_match(options.metrics, options.steps, options.match)


def audit_scores(folder: Path, steps: int, group_size: int, variant: str) -> str:
    """Compare scores, advantages and the EMA of steps 1 to `steps`.

    Raises:
        DataError: the first difference, or an EMA that never moved.
    """
    scorer, worst = UCGRPO(reward_config({"variant": variant})), 0.0
    for step in range(1, steps + 1):
        rollouts, record = _step(folder, step)
        if record["state"] != scorer.state_dict():
            raise DataError(f"step {step}: the run began it with another state than its rollouts give")
        scores = scorer.score(rollouts)
        for name, wanted in (("total", scores.total), ("advantage", scores.advantage)):
            gaps = [abs(have - want) for have, want in zip(record[name], wanted, strict=True) if have is not None]
            worst = max(worst, *gaps)
        worst = max(worst, record["spread"], record["leak"])
        sizes = {scores.group_ids.count(group) for group in set(scores.group_ids)}
        if worst > TOLERANCE or sizes != {group_size}:
            raise DataError(f"step {step}: difference {worst:.2e}, group sizes {sorted(sizes)}")
        scorer.commit(scores)
        _compare_state(folder / f"global_step_{step}" / STATE_FILE, scorer)
    moved = sum(abs(value) > TOLERANCE for value in scorer.ema.values())
    if moved == 0:
        raise DataError("the EMA never moved: no group had a contrast")
    return f"{steps} steps, largest difference {worst:.1e}; state equal in each checkpoint, EMA of {moved} emotions"


def audit_tokens(folder: Path, steps: int, model: Path) -> str:
    """Compare what each update was fed with the stored rollouts.

    Raises:
        DataError: the first difference, or no tool ever showed a picture.
    """
    from transformers import AutoTokenizer

    tokenizer, shown, turns, zooms = AutoTokenizer.from_pretrained(model), 0, 0, 0
    for step in range(1, steps + 1):
        rollouts, _ = _step(folder, step)
        rows = json.loads((folder / "rollouts" / f"step_{step:06d}.tokens.json").read_text())
        for rollout, row in zip(rollouts, rows, strict=True):
            where = f"step {step}, sample {rollout.sample_id!r}, session {rollout.member}"
            _check_mask(row, rollout, tokenizer, where)
            shown += _check_pictures(row, tokenizer, where)
            turns, zooms = turns + rollout.turns, zooms + rollout.zoomed
    if not shown or not zooms:
        raise DataError(f"{shown} pictures in tool messages, {zooms} sessions zoomed: the policy called no tool")
    return f"loss on the text of {turns} turns alone; {shown} pictures in tool messages fit; {zooms} sessions zoomed"


def audit_weights(folder: Path, steps: int, model: Path, frozen_tower: bool = False) -> str:
    """Compare each checkpoint's weights with those before.

    Raises:
        DataError: a step changed none, or one of a frozen tower.
    """
    from safetensors.numpy import load_file

    before = {name: value.astype(np.float32) for name, value in load_file(model / "model.safetensors").items()}
    tower, shares = [name for name in before if ".visual." in name], []
    for step in range(1, steps + 1):
        after = _weights(folder / f"global_step_{step}" / "actor")
        known = [name for name in after if name in before]
        changed = [name for name in known if not np.array_equal(before[name], after[name])]
        if not changed:
            raise DataError(f"step {step} changed no weight")
        moved = [name for name in changed if name in tower]
        if frozen_tower and (moved or not set(tower) <= set(known)):
            raise DataError(f"step {step}: {len(moved)} of {len(tower)} tensors of the frozen vision tower moved")
        before = after
        shares.append(len(changed) / len(known))
    kept = f"; 0 of {len(tower)} tensors of the vision tower moved" if frozen_tower else ""
    return "tensors changed in each step: " + ", ".join(f"{share:.0%}" for share in shares) + kept


def audit_merged(shards: Path, merged: Path) -> str:
    """Compare a merged folder's weights with the shards that it was made of.

    Raises:
        DataError: a weight that is missing, or differs by more than bfloat16 rounds (2^-8 of it).
    """
    from safetensors.torch import load_file

    found = {
        name: value.float().numpy() for path in merged.glob("*.safetensors") for name, value in load_file(path).items()
    }
    wanted = _weights(shards)
    for name, value in wanted.items():
        if name in found and not np.allclose(found[name], value, rtol=2**-8, atol=1e-30):
            raise DataError(f"{name} is not merged as the shards hold it")
    missing = sorted(set(wanted) - set(found) - {"lm_head.weight"})  # tied to the embedding
    if missing:
        raise DataError(f"{missing[0]} is not in {merged}")
    ranks = len(list(shards.glob("model_world_size_*_rank_*.pt")))
    return f"{len(found)} tensors of {ranks} shards are merged as they are"


def audit_evaluation(folder: Path) -> str:
    """Look at what a merged model did in an evaluation.

    Raises:
        DataError: half of its episodes or more end without an answer, or with a violation.
    """
    figures = json.loads((folder / "figures.json").read_text())
    if not figures["format"] > 0.5:
        raise DataError(f"{figures['format']:.0%} of {figures['n']} episodes of {folder} keep the format")
    return f"{figures['format']:.0%} of {figures['n']} episodes of the merged model keep the format"


def audit_metrics(files: Sequence[Path], steps: int) -> str:
    """Look for every metric that a run should show.

    Raises:
        DataError: one that is missing.
    """
    wanted = {f"ucgrpo/{name}" for name in TERMS} | {f"ucgrpo/ema/{emotion}" for emotion in facs.EMOTIONS}
    wanted |= {f"ucgrpo/violations/{name}" for name in VIOLATIONS}
    found = _metrics(files)
    for step in range(1, steps + 1):
        for name in sorted(wanted - set(found.get(step, {}))):
            raise DataError(f"step {step} has no metric {name}")
        if not any(name.startswith("ucgrpo/zoom/") for name in found[step]):
            raise DataError(f"step {step} has no zoom ratio of an emotion")
    if not any("ucgrpo/delta" in row for row in found.values()):
        raise DataError("no step has a contrast: ucgrpo/delta is missing")
    return f"{len(wanted) + 2} kinds of metrics in each of {steps} steps"


def audit_match(files: Sequence[Path], steps: int, bound: float) -> str:
    """Compare the probabilities of sampled tokens that the engine gave with the trainer's own.

    Raises:
        DataError: a step without the figure, a larger difference, or sessions that were lost.
    """
    rows, name = _metrics(files), "training/rollout_probs_diff_max"
    values = [rows.get(step, {}).get(name) for step in range(1, steps + 1)]
    if None in values:
        raise DataError(f"step {values.index(None) + 1} has no metric {name}: set rollout.calculate_log_probs=True")
    worst = max(value for value in values if value is not None)
    if not worst <= bound:
        raise DataError(f"{name} is {worst:.2e}, above {bound:g}")
    lost = sum(rows[step]["ucgrpo/sessions_failed"] for step in range(1, steps + 1))
    if lost:
        raise DataError(f"{lost:.0f} sessions were lost")
    return f"rollout_probs_diff max {worst:.1e} in {steps} steps; no session was lost"


def _metrics(files: Sequence[Path]) -> dict[int, dict[str, float]]:
    """Return each step's metrics, from files of verl's logger "file"."""
    found: dict[int, dict[str, float]] = {}
    for path in files:
        found |= {row["step"]: row["data"] for row in map(json.loads, path.read_text().splitlines())}
    return found


def _step(folder: Path, step: int) -> tuple[list[Rollout], dict[str, Any]]:
    stem = folder / "rollouts" / f"step_{step:06d}"
    return read_rollouts(stem.with_suffix(".jsonl")), json.loads(stem.with_suffix(".json").read_text())


def _compare_state(path: Path, scorer: UCGRPO) -> None:
    if json.loads(path.read_text()) != json.loads(json.dumps(scorer.state_dict())):
        raise DataError(f"{path} is not the state that the rollouts give")


def _check_mask(row: dict[str, Any], rollout: Rollout, tokenizer: Any, where: str) -> None:
    """Compare each run of tokens under the loss with a turn: text for text."""
    end, image = tokenizer.convert_tokens_to_ids(END), tokenizer.convert_tokens_to_ids(IMAGE)
    if len(row["loss_mask"]) != len(row["responses"]):
        raise DataError(f"{where}: {len(row['loss_mask'])} of {len(row['responses'])} tokens have a mask")
    pairs = list(zip(row["responses"], row["loss_mask"], strict=True))
    runs = [[token for token, _ in run] for mine, run in groupby(pairs, lambda pair: pair[1]) if mine]
    if any(image in run for run in runs):
        raise DataError(f"{where}: a picture placeholder is under the loss")
    texts = [tokenizer.decode([t for t in run if t != end], clean_up_tokenization_spaces=False) for run in runs]
    if [text for text in texts if text] != [text for text in rollout.texts if text]:  # empty turns carry no loss
        raise DataError(f"{where}: the loss covers {texts}, the policy wrote {list(rollout.texts)}")


def _check_pictures(row: dict[str, Any], tokenizer: Any, where: str) -> int:
    """Compare each run of placeholders with its picture; return how many stand behind the prompt."""
    image = tokenizer.convert_tokens_to_ids(IMAGE)
    tokens = row["prompts"] + row["responses"]
    runs = [sum(1 for _ in run) for found, run in groupby(tokens, lambda token: token == image) if found]
    wanted = [int(np.prod(grid)) // MERGED for grid in row["grids"]]
    if runs != wanted or sum(wanted) * MERGED != row["patches"]:
        raise DataError(f"{where}: placeholders {runs}, features {wanted}, {row['patches']} patches")
    return len(runs) - sum(found for found, _ in groupby(row["prompts"], lambda token: token == image))


def _weights(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's weights by name, the shards of several ranks joined along their first axis."""
    import torch

    paths = sorted(folder.glob("model_world_size_*_rank_*.pt"), key=lambda path: int(path.stem.rsplit("_", 1)[1]))
    if not paths:
        raise DataError(f"{folder} holds no model_world_size_N_rank_R.pt")
    ranks = [torch.load(path, weights_only=False, map_location="cpu") for path in paths]
    found = {}
    for name, first in ranks[0].items():
        sharded = any(placement.is_shard() for placement in getattr(first, "placements", ()))
        parts = [getattr(rank[name], "_local_tensor", rank[name]).float().numpy() for rank in ranks]
        found[name] = np.concatenate(parts) if sharded else parts[0]
    return found


if __name__ == "__main__":
    main()
