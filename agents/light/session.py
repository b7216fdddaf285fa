"""From nothing to a trained and measured policy: data, warm start, UC-GRPO, held-out figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from actfer_env._version import GENERATOR_VERSION
from actfer_env.agents.light.evaluate import ZOOM_MODES, as_numbers, figures, hold_out
from actfer_env.agents.light.policy import Features, LightPolicy
from actfer_env.agents.light.record import CONFIG, PolicyRecord, write_policy
from actfer_env.agents.light.rollouts import encode_all
from actfer_env.agents.light.samples import (
    TrainingData,
    class_weights,
    is_sized,
    named_weights,
    repeats,
    training_data,
)
from actfer_env.agents.light.settings import PRESETS, SessionConfig
from actfer_env.agents.light.trainer import (
    CHECKPOINT,
    Trainer,
    check_begun,
    load_checkpoint,
    versions,
    weights_hash,
)
from actfer_env.agents.light.warmstart import warm_start
from actfer_env.agents.torch_files import save_atomic
from actfer_env.data import Dataset, load_dataset
from actfer_env.data.subset import subset
from actfer_env.data.views import PreparedImages, ViewConfig, ViewTools, prepare, views_name
from actfer_env.errors import DataError
from actfer_env.files import check_writable, write_text_atomic
from actfer_env.identity import as_json, dataset_facts, detector_facts, digest, refuse_other
from actfer_env.progress import Watch
from actfer_env.rewards import VARIANTS, UCGRPOConfig
from actfer_env.rewards.registry import OTHER_REWARDS
from actfer_env.wrappers.group_vec import GroupVectorEnv

__all__ = [
    "PRESETS", "SessionConfig", "SplitData", "cached_warm_start", "check_variant", "held_out", "known_features",
    "measure", "policy_record", "read_result", "run", "session_facts", "split_data",
]  # fmt: skip
ENV_ID = "ActFER-MultiDiscrete-v0"
WARM, RESULT = "warmstart.pt", "result.json"
CACHE_VERSION = 1
"""Raised whenever the same settings give another warm start or other features."""
Say = Callable[[str], None]


@dataclass
class SplitData:
    """The samples of a split and their pictures.

    Attributes:
        dataset: N samples.
        views: Their pictures, in the same order.
        config: Sizes of the pictures.
    """

    dataset: Dataset
    views: PreparedImages
    config: ViewConfig

    def groups(self, groups: int, size: int, reward: UCGRPOConfig, **kwargs: Any) -> GroupVectorEnv:
        """Return group environments over the split; the next step overwrites their observations."""
        return GroupVectorEnv(
            ENV_ID, groups, size, dataset=self.dataset, tools=ViewTools(self.dataset, self.views, self.config),
            reward=reward, image_size=self.config.image_size, face_size=self.config.face_size,
            crop_size=self.config.crop_size, **{"copy": False, **kwargs},
        )  # fmt: skip

    def balanced(self) -> SplitData:
        """Return the same with samples of rare emotions again, so that environments draw emotions equally often."""
        rows = np.arange(len(self.dataset))
        return SplitData(subset(self.dataset, rows, repeats(self.views.emotion)), self.views, self.config)


def split_data(
    split: str, n: int, config: SessionConfig, cache: Path, say: Say = print, workers: int | None = None,
    data: TrainingData | None = None,
) -> SplitData:  # fmt: skip
    """Return the samples of a part with their pictures, made if they are not in the cache.

    Args:
        split: "train", "rl", "val" or "test"; see `samples.TrainingData`.
        n: Samples of drawn faces, from the first on.
        config: The run's.
        cache: Folder of pictures.
        say: Called with lines of progress.
        workers: Processes that make pictures.
        data: The run's samples, where they are chosen already.
    """
    if data is None and is_sized(config.dataset) and not config.rl_share:
        options = {} if config.data_preset is None else {"preset": config.data_preset}
        dataset = load_dataset(config.dataset, config.root, split=split, n=n, **options)
    else:
        dataset = (data or training_data(config)).parts[split]

    def watch(phase: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        if done % 512 == 0 or done == total:
            say(f"{phase} of {split}: {done} of {total}")

    return SplitData(dataset, prepare(dataset, cache, config.views, workers=workers, watch=watch), config.views)


def held_out(config: SessionConfig, cache: Path, say: Say = print, workers: int | None = None) -> tuple[str, SplitData]:
    """Return the part that measures a run, "test" or "val", and its samples with their pictures."""
    if is_sized(config.dataset):
        split, n = ("test", config.test) if config.test else ("val", config.val)
        return split, split_data(split, n, config, cache, say, workers)
    data = training_data(config)
    return data.held, split_data(data.held, 0, config, cache, say, workers, data)


def run(
    config: SessionConfig, folder: Path, cache: Path, say: Say = print, workers: int | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train one policy and measure it; an interrupted run goes on where it stopped.

    Args:
        config: The run.
        folder: Place of checkpoints, the log and the result.
        cache: Folder of pictures, warm starts and features, shared between runs.
        say: Called with lines of progress.
        workers: Processes that draw pictures.
        watch: Called after each epoch of the warm start and each step of training; `say` takes a line if left out.

    Returns:
        The result: figures, the warm start's skill, the weights' hash.

    Raises:
        DataError: the folder holds another run, or cannot be written.
    """
    torch.set_num_threads(config.threads)
    watch = watch or (lambda *progress: say(line_of(*progress)))
    data = training_data(config)
    facts = session_facts(config, data)
    if (folder / RESULT).exists():
        result = read_result(folder / RESULT)
        check_result(folder, result, facts)
        if not (folder / CONFIG).exists() and (folder / CHECKPOINT).exists():  # of an older version
            policy = LightPolicy(config.policy, config.views.sides)
            policy.load_state_dict(load_checkpoint(folder / CHECKPOINT)["policy"])
            write_policy(folder, policy, policy_record(config, result))
        return result
    # A run that goes on shares all facts with its beginning but for the test split, and for how often it saves and,
    # where that changes no rates, how long it is.
    free = {"save_every"} if config.trainer.anneal else {"save_every", "steps"}
    begun = {name: value for name, value in facts.items() if name != "test"}
    begun["trainer"] = {name: value for name, value in facts["trainer"].items() if name not in free}
    begun["data"] = {split: value for split, value in facts["data"].items() if split != "test"}
    check_begun(folder, {"session": begun})
    check_writable(folder)

    # The data and the warm start, both from the cache where they are.
    for note in data.notes:
        say(note)
    train = split_data("train", config.train, config, cache, say, workers, data)
    rl = train if data.parts["rl"] is data.parts["train"] else split_data("rl", 0, config, cache, say, workers, data)
    val = split_data("val", config.val, config, cache, say, workers, data)
    told = picture_notes(train.views)
    for note in told:
        say(note)
    policy, skill = cached_warm_start(config, train, val, cache, watch, data.balanced, data.weighted)
    say(f"warm start: good pictures {skill['good_never']:.3f} without, {skill['good_always']:.3f} with zoom; "
        f"poor ones {skill['poor_never']:.3f}, {skill['poor_always']:.3f}")  # fmt: skip

    # UC-GRPO.
    reward, frozen = config.rewards(), config.trainer.freeze_vision
    known = known_features(policy, rl, cache) if frozen else None
    drawn = rl.balanced() if data.balanced else rl
    venv = drawn.groups(config.trainer.groups, config.trainer.group_size, reward, max_zooms=config.max_zooms)
    if config.variant in OTHER_REWARDS:
        venv.scorer = OTHER_REWARDS[config.variant]()
    trainer = Trainer(policy, venv, config.trainer, config.seed, folder, known, {"session": begun})
    if trainer.resume():
        say(f"going on from step {trainer.done}")
    trainer.train(watch)

    # What the policy is worth on people that it has not seen.
    held = val if data.held == "val" else split_data("test", config.test, config, cache, say, workers, data)
    known = known_features(policy, held, cache) if frozen else None
    shown = measure(policy, held, UCGRPOConfig(zoom_cost=reward.zoom_cost), config.max_zooms, known)
    result = {
        "config": asdict(config), "generator": GENERATOR_VERSION, "split": data.held,
        "warm": as_numbers(skill), "figures": as_numbers(shown), "weights": weights_hash(trainer.policy),
        "facts": facts,
    }  # fmt: skip
    if data.facts:
        result["data"] = {
            **data.facts, **({"weights": named_weights(train.views.emotion)} if data.weighted else {}),
            "notes": [*data.notes, *told], "good": "labels" if labelled(held) else "focus",
        }  # fmt: skip
    write_policy(folder, trainer.policy, policy_record(config, result))
    write_text_atomic(folder / RESULT, json.dumps(result, indent=1) + "\n")
    return result


def policy_record(config: SessionConfig, result: Mapping[str, Any]) -> PolicyRecord:
    """Return what the folder of a finished run says about its policy.

    Args:
        config: The run's.
        result: Its figures and its weights' hash.
    """
    names = ("accuracy", "macro_f1", "au_f1", "zoom", "task", "task_never", "task_always")
    found = result["figures"]
    figures = {name: found[name] for name in names if found.get(name) is not None and np.isfinite(found[name])}
    sizes = {"train": config.train, "val": config.val, "test": config.test}
    training = {
        "dataset": config.dataset, "samples": result.get("data", {}).get("samples", sizes),
        "reward": config.variant, "zoom_cost": config.rewards().zoom_cost,
        **({"constants": dict(config.reward)} if config.reward else {}),
        "updates": config.trainer.steps, "seed": config.seed,
        "generator": result["generator"], "measured on": result["split"],
        "figures": {name: figures.get(name) for name in names if name in found},
    }  # fmt: skip
    views = config.views
    return PolicyRecord(
        policy=asdict(config.policy), weights=result["weights"], image_size=views.image_size, face_size=views.face_size,
        crop_size=views.crop_size, detector=views.detector, max_zooms=config.max_zooms, training=training,
    )  # fmt: skip


def labelled(part: SplitData) -> bool:
    """True if the pictures of a part have labels of quality; else the sharper half counts as good."""
    return bool((part.views.quality >= 0).any())


def picture_notes(views: PreparedImages) -> list[str]:
    """Return what the user should know of the training pictures, a line each.

    Raises:
        DataError: no face was found in any of them.
    """
    notes, n = [], len(views)
    if not views.found.any():
        raise DataError(f"no face was found in any of {n} training pictures: try another detector, such as "
                        "--detector insightface:buffalo_l")  # fmt: skip
    if not views.found.all() and (views.quality < 0).all():
        notes.append(f"no face was found in {int((~views.found).sum())} of {n} training pictures")
    if not views.coded.any():
        notes.append("no Action Units are annotated: their head and their part of the reward rest")
    elif not views.coded.all():
        notes.append(f"Action Units are annotated of {int(views.coded.sum())} of {n} training pictures: they teach, "
                     "the others are left out there")  # fmt: skip
    if (views.quality < 0).all():
        notes.append("no labels of quality: the sharper half of the pictures, by the Laplacian of the face, counts as "
                     "good, and crops teach on all")  # fmt: skip
    return notes


def measure(
    policy: LightPolicy, held: SplitData, reward: UCGRPOConfig, max_zooms: int = 4, known: Features | None = None
) -> dict[str, Any]:
    """Return a policy's figures on a split: its own gate, and the same weights forced never and always to zoom.

    Every variant is measured by the same task reward, whatever it was trained on.
    """
    n = len(held.dataset)
    venv = held.groups(min(100, n), len(ZOOM_MODES), reward, max_zooms=max_zooms)
    return figures(hold_out(policy, venv, n, reward, known), np.array(held.views.good).tolist())


def known_features(policy: LightPolicy, part: SplitData, cache: Path) -> Features:
    """Return the features of a split by a policy's encoders, from the cache where they are: while the encoders are
    frozen, all variants of a seed share them.

    Raises:
        DataError: the cache holds a broken file, or cannot be written.
    """
    facts = [CACHE_VERSION, versions(), views_name(part.dataset, part.config), torch.get_num_threads()]
    path = cache / f"features-{digest([*facts, weights_hash(policy.encoders())])}.pt"
    if not path.exists():
        save_atomic(path, encode_all(policy.eval(), part.views))
    image, face, crops, fine = load_checkpoint(path)
    return image, face, crops, fine


def check_variant(name: str) -> None:
    """Refuse an unknown variant of the reward with a `DataError`."""
    known = (*VARIANTS, *OTHER_REWARDS)
    if name not in known:
        raise DataError(f"unknown variant {name!r}: use one of {', '.join(known)}")


def read_result(path: Path) -> dict[str, Any]:
    """Read a finished run's figures.

    Raises:
        DataError: the file is broken.
    """
    try:
        result = dict(json.loads(path.read_text(encoding="utf-8")))
        result["config"], result["generator"], result["figures"]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is broken ({error}): delete its folder and run again") from error
    return result


LATER = ("root", "data_preset", "split", "split_seed", "balance", "rl_share")
"""Fields of `SessionConfig` that older runs do not name; they count among a run's facts where they are set."""


def session_facts(config: SessionConfig, data: TrainingData | None = None) -> dict[str, Any]:
    """Return what a run is of, as JSON values: its settings, what its data hold, its detector, and versions."""
    chosen = data or training_data(config)
    parts = {name: part for name, part in chosen.parts.items() if name != "rl" or part is not chosen.parts["train"]}
    usual = {one.name: one.default for one in fields(SessionConfig) if one.name in LATER}
    settings = {name: value for name, value in asdict(config).items() if name not in usual or value != usual[name]}
    settings["warm"] = warm_facts(asdict(config.warm))
    own = {name: value for name, value in versions().items() if name != "torch"}  # a finished run outlives its torch
    return dict(as_json({
        **settings, "data": {name: dataset_facts(part, content=True) for name, part in parts.items()},
        "detector": detector_facts(config.views.detector), "package": own,
    }))  # fmt: skip


def warm_facts(constants: Mapping[str, Any]) -> dict[str, Any]:
    """Return the constants of a warm start; those that older runs do not name only where they are set."""
    return {name: value for name, value in constants.items() if name not in ("shift", "image_dropout") or value}


def check_result(folder: Path, result: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Compare a finished run with the one that is asked for; those of older versions tell less.

    Raises:
        DataError: it is another run.
    """
    if "facts" in result:
        refuse_other(folder, "run", result["facts"], facts)
        return
    both = [name for name in result["config"] if name in facts]
    kept = {**{name: result["config"][name] for name in both}, "package": {"generator": result["generator"]}}
    kept |= {"warm": warm_facts(kept["warm"])} if "warm" in kept else {}
    refuse_other(
        folder, "run", kept, {**{name: facts[name] for name in both}, "package": {"generator": GENERATOR_VERSION}}
    )


def cached_warm_start(
    config: SessionConfig,
    train: SplitData,
    val: SplitData,
    cache: Path,
    watch: Watch | None = None,
    balanced: bool = False,
    weighted: bool = False,
) -> tuple[LightPolicy, dict[str, float]]:
    """Return the warm start of a seed and its skill, trained if it is not in the cache.

    All variants of a seed begin from the same one.

    Raises:
        DataError: the cache holds a broken file, or cannot be written.
    """
    warm = config.warm if labelled(train) else replace(config.warm, sharp_only=False)
    again = repeats(train.views.emotion) if balanced else None
    weights = class_weights(np.asarray(train.views.emotion)) if weighted else None
    policy = LightPolicy(config.policy, config.views.sides)
    shapes = [(name, tuple(value.shape)) for name, value in policy.state_dict().items()]
    facts = [
        CACHE_VERSION, versions(), *(views_name(part.dataset, part.config) for part in (train, val)), config.threads,
        config.seed, warm_facts(asdict(warm)), asdict(config.policy), shapes, "weights" if weighted else balanced,
    ]  # fmt: skip
    path = cache / f"warm-{digest(facts)}-{WARM}"
    if path.exists():
        kept = load_checkpoint(path)
        policy.load_state_dict(kept["policy"])
        if not train.views.coded.any():
            policy.leave_aus()
        return policy.eval(), kept["skill"]
    policy, skill = warm_start(train.views, val.views, warm, config.seed, config.policy, watch, again, weights)
    save_atomic(path, {"policy": policy.state_dict(), "skill": skill})
    return policy, skill


def line_of(phase: str, done: int, total: int, figures: Mapping[str, float]) -> str:
    """Return a step's figures as a line; the arguments are those of `Watch`."""
    if phase != "training":
        return f"{phase}: epoch {done} of {total}, loss {figures['loss']:.3f}"
    return (f"step {done} of {total}: task {figures['task']:+.3f}, accuracy {figures['accuracy']:.3f}, "
            f"zoom {figures['zoom']:.2f}, delta {figures['delta']:+.3f}, kl {figures['kl']:.3f}")  # fmt: skip
