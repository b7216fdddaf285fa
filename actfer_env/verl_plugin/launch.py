"""Checks of a machine before verl starts: each yields a line for every thing that would stop the run later.

A run on several GPUs loads models and engines for minutes before it meets any of these (see docs/verl.md).
"""

from __future__ import annotations

import json
import math
import netrc
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from actfer_env.errors import ActFERError
from actfer_env.rewards import UCGRPOConfig
from actfer_env.rewards.guards import IDLE_AUS
from actfer_env.verl_plugin.scoring import reward_config

TRAINING_BYTES = 12
"""Bytes of a parameter in a checkpoint: float32 weights and Adam's two moments."""
VALIDATION_ROWS = 1024
"""Rows of a validation set that may be in flight at once; beyond it `data.val_batch_size` must be set (chosen here)."""
DRIVER = Path("/proc/driver/nvidia/version")
LEAST_DRIVER, LEAST_GLIBC = 580, (2, 31)
"""The oldest NVIDIA driver that CUDA 13 starts on, and the oldest glibc that llguidance is built for."""
FIXED_PICTURES = 2
"""Pictures of a conversation besides its crops: the raw one and the aligned face."""
LOCAL_FILE_SYSTEMS = frozenset(
    ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "overlay", "tmpfs", "ramfs", "squashfs", "zfs")
)
KEYS: Mapping[str, tuple[str, str | None]] = {
    "wandb": ("wandb", "WANDB_API_KEY"), "swanlab": ("swanlab", "SWANLAB_API_KEY"), "mlflow": ("mlflow", None),
    "comet_ml": ("comet_ml", "COMET_API_KEY"), "clearml": ("clearml", None), "tensorboard": ("tensorboard", None),
    "trackio": ("trackio", None),
}  # fmt: skip
"""verl's loggers: the package that each needs, and the variable that holds its key."""
NO_KEY = "set trainer.logger=[console,file]"
"""The cure where a logger cannot be used."""


def machine_problems(config: Any) -> Iterator[str]:
    """Yield a line for everything that verl would stumble over after models and engines are up.

    Args:
        config: verl's configuration, as Hydra composed it.
    """
    loops = _agent_loops(_at(config, "actor_rollout_ref.rollout.agent.agent_loop_config_path"))
    yield from _system(config)
    yield from _attention(config)
    yield from _engine(config)
    yield from _loggers(config)
    yield from _pictures(config, loops)
    yield from _detector(loops)
    yield from _validation(config)
    yield from _disk(config)
    yield from _nodes(config)


def machine_notes(config: Any) -> Iterator[str]:
    """Yield a line for everything that stops nothing and that a user should know.

    Args:
        config: verl's configuration, as Hydra composed it.
    """
    from actfer_env.tools.detectors.hardware import offers_gpu

    for spec in _specs(_agent_loops(_at(config, "actor_rollout_ref.rollout.agent.agent_loop_config_path"))):
        if spec.removeprefix("unturned:").startswith("insightface") and offers_gpu():
            yield (
                f"detector {spec} runs on the CPU here, since no GPU belongs to an agent worker: to use one, run "
                f"actfer data precompute DATASET --detector {spec} --out FOLDER first, and set DETECTOR=cached:FOLDER"
            )
    options = {name: value for name, value in (config.get("ucgrpo") or {}).items() if name != "record_tokens"}
    reward = reward_config(options)
    if isinstance(reward, UCGRPOConfig) and reward.dense_au and _unit_targets(_at(config, "data.train_files")) is False:
        yield IDLE_AUS


def _system(config: Any) -> Iterator[str]:
    """Wheels for CUDA 13 start on a recent driver alone, and vLLM's llguidance with a recent glibc."""
    if _on_cpu(config) or _at(config, "actor_rollout_ref.rollout.name") != "vllm":
        return
    try:
        found = re.search(r"Kernel Module.*?\s(\d+)\.", DRIVER.read_text(encoding="utf-8"))
    except OSError:  # no driver that can be asked, as under WSL
        found = None
    if found and int(found[1]) < LEAST_DRIVER:
        yield (
            f"the NVIDIA driver is of release {found[1]}, and the wheels for CUDA 13 need {LEAST_DRIVER}: install a "
            "newer driver, or torch and vLLM for an older CUDA"
        )
    name, version = platform.libc_ver()
    if name == "glibc" and tuple(int(part) for part in version.split(".")[:2]) < LEAST_GLIBC:
        wanted = ".".join(map(str, LEAST_GLIBC))
        yield f"glibc is {version}, and llguidance, which vllm needs, asks for {wanted}: use a newer container"


def _attention(config: Any) -> Iterator[str]:
    """Verl asks for flash-attn unless it is told otherwise, and its extras do not bring it."""
    chosen = _at(config, "actor_rollout_ref.model.override_config.attn_implementation") or "flash_attention_2"
    if _on_cpu(config) or not chosen.startswith("flash_attention") or find_spec("flash_attn") is not None:
        return
    yield (
        f"attention is {chosen} and flash-attn is not installed: install it (docs/verl.md), or set ATTN=sdpa, which is "
        "+actor_rollout_ref.model.override_config.attn_implementation=sdpa "
        "with actor_rollout_ref.model.use_fused_kernels=True"
    )


def _engine(config: Any) -> Iterator[str]:
    name = _at(config, "actor_rollout_ref.rollout.name")
    if name == "sglang":
        yield (
            "rollout.name is sglang, which is not supported: its release demands another transformers than verl's, and "
            "it tokenises histories anew; set actor_rollout_ref.rollout.name=vllm"
        )
    elif name == "vllm" and find_spec("vllm") is None:
        yield "rollout.name is vllm and vllm is not installed: pip install -r examples/verl_grpo/requirements-gpu.txt"


def _loggers(config: Any) -> Iterator[str]:
    chosen = _at(config, "trainer.logger") or []
    for name in [chosen] if isinstance(chosen, str) else chosen:
        package, key = KEYS.get(name, (None, None))
        if package is not None and find_spec(package) is None:
            yield f"trainer.logger has {name} and {package} is not installed: pip install {package}, or {NO_KEY}"
        elif key is not None and not _has_key(name, key):
            yield f"trainer.logger has {name} and there is no key: set {key}, or {NO_KEY}"


def _has_key(name: str, variable: str) -> bool:
    if os.environ.get(variable):
        return True
    if name != "wandb":
        return False
    if os.environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun"):
        return True
    try:
        hosts = netrc.netrc().hosts
    except (OSError, RuntimeError, netrc.NetrcParseError):
        return False
    return any("wandb" in host for host in hosts)


def _pictures(config: Any, loops: list[dict[str, Any]]) -> Iterator[str]:
    """With too few pictures allowed, only the sessions that zoom are lost, which biases the contrast."""
    if _at(config, "actor_rollout_ref.rollout.name") != "vllm":
        return
    engine = _at(config, "actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt.image")
    limit = _at(config, "actor_rollout_ref.rollout.limit_images") or engine
    for loop in loops:
        wanted = FIXED_PICTURES + int((loop.get("episode") or {}).get("max_zooms", 4))
        if limit is not None and int(limit) < wanted:
            yield (
                f"vllm may see {limit} pictures of a conversation, and one that zooms has {wanted}: set "
                f"+actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt.image={wanted}, or less max_zooms"
            )


def _detector(loops: list[dict[str, Any]]) -> Iterator[str]:
    """Build each detector once and look at a black picture, as a worker would, so that weights are there and load."""
    import numpy as np

    from actfer_env.tools import make_detector
    from actfer_env.tools.detectors.hardware import Hardware, use_hardware

    before = use_hardware(Hardware(threads=1, gpu=False))
    try:
        for spec in _specs(loops):
            try:
                detector: Any = make_detector(spec)
                # What "cached" and "unturned" stand in front of; "cached-only" never asks it.
                while getattr(detector, "miss", "") != "error" and (inner := getattr(detector, "inner", None)):
                    detector = inner
                if not hasattr(detector, "detect_sample"):  # those that have it need a sample, such as a drawn one
                    detector.detect(np.zeros((64, 64, 3), np.uint8))
            except ActFERError as error:
                yield f"detector {spec}: {error}"
    finally:
        use_hardware(before)


def _specs(loops: list[dict[str, Any]]) -> list[str]:
    return [str(loop.get("detector", "auto")) for loop in loops]


def _validation(config: Any) -> Iterator[str]:
    if _at(config, "data.val_batch_size"):
        return
    rows = _rows(_at(config, "data.val_files"))
    if rows > VALIDATION_ROWS:
        yield f"all {rows} validation rows would be in flight at once, pictures included: set data.val_batch_size=256"


def _disk(config: Any) -> Iterator[str]:
    """The checkpoints that are kept, and the one that is being written beside them, must fit."""
    parameters = _parameters(_at(config, "actor_rollout_ref.model.path"))
    every, folder = int(_at(config, "trainer.save_freq") or 0), _at(config, "trainer.default_local_dir")
    if not parameters or every <= 0 or not folder:
        return
    batch, epochs = int(_at(config, "data.train_batch_size") or 1), int(_at(config, "trainer.total_epochs") or 1)
    steps = int(_at(config, "trainer.total_training_steps") or _rows(_at(config, "data.train_files")) // batch * epochs)
    saves = max(math.ceil(steps / every), 1)
    kept = min(int(_at(config, "trainer.max_actor_ckpt_to_keep") or saves) + 1, saves)
    place = next(path for path in (Path(folder).absolute(), *Path(folder).absolute().parents) if path.exists())
    wanted, free = TRAINING_BYTES * parameters * kept / 1e9, shutil.disk_usage(place).free / 1e9
    if wanted > free:
        yield (
            f"{kept} checkpoints take {wanted:.1f} GB and {place} has {free:.1f} GB left: set "
            "trainer.max_actor_ckpt_to_keep=2, a larger trainer.save_freq, or another OUT"
        )


def _nodes(config: Any) -> Iterator[str]:
    """With several nodes the driver may land on any of them, so that every path must be the same file everywhere."""
    if int(_at(config, "trainer.nnodes") or 1) < 2 or os.environ.get("ACTFER_SHARED") == "1":
        return
    named = {
        "OUT (trainer.default_local_dir)": _at(config, "trainer.default_local_dir"),
        "SFT (actor_rollout_ref.model.path)": _at(config, "actor_rollout_ref.model.path"),
        **{
            f"DATA ({path})": path
            for key in ("data.train_files", "data.val_files")
            for path in _files(_at(config, key))
        },
    }
    for name, path in named.items():
        if not path:
            continue
        if not Path(path).is_absolute():
            yield f"{name} is {path}: give an absolute path on a file system that all nodes share"
        elif (kind := _file_system(Path(path))) in LOCAL_FILE_SYSTEMS:
            yield (
                f"{name} lies on {kind} of this node: move it to a file system that all nodes share; where this one "
                "is shared all the same, set ACTFER_SHARED=1"
            )


def _agent_loops(path: Any) -> list[dict[str, Any]]:
    """Return the entries of the agent loop's file; whatever is wrong with it, `check_agent_loop` says."""
    import yaml

    try:
        found = yaml.safe_load(Path(str(path)).read_text(encoding="utf-8")) if path else None
    except (OSError, ValueError, yaml.YAMLError):
        return []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _parameters(folder: Any) -> int:
    """Return how many parameters a model's folder holds, from the sizes of its files; 0 where it is no folder."""
    place = Path(str(folder or ""))
    try:
        settings = json.loads((place / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0
    kind = settings.get("dtype") or settings.get("torch_dtype") or (settings.get("text_config") or {}).get("dtype")
    size = sum(path.stat().st_size for path in place.glob("*.safetensors"))
    return size // (4 if kind == "float32" else 2)


def _rows(files: Any) -> int:
    """Return how many rows parquet files hold, from their footers; files that cannot be read count nothing."""
    import pyarrow.parquet

    total = 0
    for path in _files(files):
        try:
            total += pyarrow.parquet.read_metadata(path).num_rows
        except (OSError, ValueError):
            continue
    return total


def _unit_targets(files: Any) -> bool | None:
    """Return whether a row of the first file has Action Units as its target; None where none can be read."""
    import pyarrow.parquet

    for path in _files(files)[:1]:
        try:
            column = pyarrow.parquet.ParquetFile(path).read(columns=["reward_model"])["reward_model"]
            return any(json.loads(row["ground_truth"]).get("aus") is not None for row in column.to_pylist())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
    return None


def _files(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(path) for path in value or []]


def _file_system(path: Path) -> str:
    """Return the kind of file system that holds a path, or "" where the machine does not say."""
    place = path.resolve()
    try:
        rows = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return ""
    mounts = [(row[1].replace("\\040", " "), row[2]) for row in rows if len(row) > 2]
    found = [(len(point), kind) for point, kind in mounts if place.is_relative_to(point)]
    return max(found)[1] if found else ""


def _on_cpu(config: Any) -> bool:
    return _at(config, "trainer.device") == "cpu" or os.environ.get("VERL_PLATFORM", "").lower() == "cpu"


def _at(config: Any, path: str) -> Any:
    """Return the value at a dotted path, or None where it is missing."""
    for name in path.split("."):
        config = config.get(name) if config is not None and hasattr(config, "get") else None
    return config
