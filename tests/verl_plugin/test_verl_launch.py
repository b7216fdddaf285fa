"""What is said before verl starts, on settings of which each would stop or mislead a run on several GPUs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from configparser import ConfigParser
from copy import deepcopy
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import cv2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import VERL_CHECKS, VERL_EXAMPLE

from actfer_env.tools.detectors.hardware import hardware
from actfer_env.verl_plugin import launch

NVIDIA = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build\nGCC version: gcc 12.2.0\n"


@pytest.fixture
def good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings and a machine with nothing wrong."""
    monkeypatch.delenv("VERL_PLATFORM", raising=False)
    monkeypatch.setattr(launch, "find_spec", lambda name: ModuleSpec(name, None))
    monkeypatch.setattr(launch, "DRIVER", tmp_path / "version")
    (tmp_path / "version").write_text(NVIDIA.format("580.65.06"))
    loop = tmp_path / "loop.yaml"
    loop.write_text("- {name: actfer_agent, detector: auto, episode: {max_zooms: 4}}\n")
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"dtype": "bfloat16"}))
    (model / "model.safetensors").write_bytes(bytes(2_000))
    pq.write_table(pa.table({"a": range(100)}), tmp_path / "rows.parquet")
    rows = str(tmp_path / "rows.parquet")
    return {
        "trainer": {"logger": ["console", "file"], "save_freq": 20, "default_local_dir": str(tmp_path / "out"),
                    "total_epochs": 1, "nnodes": 1, "device": "cuda"},
        "data": {"train_files": [rows], "val_files": [rows], "train_batch_size": 4},
        "actor_rollout_ref": {
            "model": {"path": str(model)},
            "rollout": {"name": "vllm", "agent": {"agent_loop_config_path": str(loop)},
                        "engine_kwargs": {"vllm": {"limit_mm_per_prompt": {"image": 6, "video": 0}}}},
        },
    }  # fmt: skip


def put(config: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy of the settings with another value at a dotted path."""
    config = deepcopy(config)
    place = config
    *names, last = path.split(".")
    for name in names:
        place = place.setdefault(name, {})
    place[last] = value
    return config


def only(config: dict[str, Any]) -> str:
    """Return the one line that is said of the settings."""
    (line,) = launch.machine_problems(config)
    assert "\n" not in line
    return line


def missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "find_spec", lambda asked: None if asked == name else ModuleSpec(asked, None))


def test_nothing_is_said_where_nothing_is_wrong(good: dict[str, Any]) -> None:
    assert list(launch.machine_problems(good)) == []


def test_a_driver_or_a_library_that_is_too_old(
    good: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "version").write_text(NVIDIA.format("550.54.15").replace("Open Kernel Module for", "Kernel Module for"))
    assert "release 550" in only(good) and "580" in only(good)
    assert list(launch.machine_problems(put(good, "actor_rollout_ref.rollout.name", "hf"))) == []
    (tmp_path / "version").unlink()
    monkeypatch.setattr(launch.platform, "libc_ver", lambda: ("glibc", "2.28"))
    assert only(good).startswith("glibc is 2.28, and llguidance")
    monkeypatch.setattr(launch.platform, "libc_ver", lambda: ("", ""))
    assert list(launch.machine_problems(good)) == []


def test_flash_attention_that_is_not_installed(good: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    missing("flash_attn", monkeypatch)
    assert "ATTN=sdpa" in only(good)
    chosen = put(good, "actor_rollout_ref.model.override_config.attn_implementation", "sdpa")
    assert list(launch.machine_problems(chosen)) == []
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    assert list(launch.machine_problems(good)) == []


def test_an_engine_that_is_not_installed_or_not_supported(
    good: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "not supported" in only(put(good, "actor_rollout_ref.rollout.name", "sglang"))
    missing("vllm", monkeypatch)
    assert "requirements-gpu.txt" in only(good)
    assert list(launch.machine_problems(put(good, "actor_rollout_ref.rollout.name", "hf"))) == []


@pytest.mark.parametrize(("name", "key"), [("wandb", "WANDB_API_KEY"), ("swanlab", "SWANLAB_API_KEY")])
def test_a_logger_without_its_key(
    name: str, key: str, good: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in (key, "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    config = put(good, "trainer.logger", ["console", name])
    assert f"set {key}" in only(config)
    monkeypatch.setenv(key, "secret-of-a-test")
    assert list(launch.machine_problems(config)) == []
    missing(name, monkeypatch)
    assert f"pip install {name}" in only(config)


def test_wandb_takes_a_netrc_file_or_the_offline_mode(
    good: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    config = put(good, "trainer.logger", "wandb")
    assert "WANDB_API_KEY" in only(config)
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password none\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert list(launch.machine_problems(config)) == []
    (tmp_path / ".netrc").unlink()
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert list(launch.machine_problems(config)) == []


def test_checkpoints_that_do_not_fit(good: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    # 1,000 parameters are 12 kB a checkpoint; 25 steps of 4 rows, saved every 20, are 2 checkpoints.
    usage = shutil.disk_usage(good["trainer"]["default_local_dir"].rsplit("/", 1)[0])
    monkeypatch.setattr(launch.shutil, "disk_usage", lambda place: usage._replace(free=23_999))
    assert "2 checkpoints" in only(good)
    monkeypatch.setattr(launch.shutil, "disk_usage", lambda place: usage._replace(free=24_001))
    assert list(launch.machine_problems(good)) == []
    often = put(good, "trainer.save_freq", 1)
    assert "25 checkpoints" in only(often)
    kept = put(often, "trainer.max_actor_ckpt_to_keep", 1)  # and the one that is being written
    assert list(launch.machine_problems(kept)) == []


def test_fewer_pictures_than_a_zooming_conversation_has(good: dict[str, Any], tmp_path: Path) -> None:
    image = "actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt.image"
    assert "5 pictures" in only(put(good, image, 5)) and "limit_mm_per_prompt.image=6" in only(put(good, image, 5))
    assert "3 pictures" in only(put(good, "actor_rollout_ref.rollout.limit_images", 3))  # it overwrites the other
    (tmp_path / "loop.yaml").write_text("- {name: actfer_agent, episode: {max_zooms: 7}}\n")
    assert "one that zooms has 9" in only(good)


def test_a_detector_that_is_unknown_or_lacks_its_weights(good: dict[str, Any], tmp_path: Path) -> None:
    for spec in ("mtcnnn", f"yunet:{tmp_path / 'no.onnx'}", f"cached:{tmp_path / 'nowhere'}"):
        (tmp_path / "loop.yaml").write_text(f"- {{name: actfer_agent, detector: '{spec}'}}\n")
        assert only(good).startswith(f"detector {spec}: ")


@pytest.mark.parametrize("spec", ["auto", "simulated", "mtcnn", "unturned:mtcnn", "cached-only:{}", "cached:{}"])
def test_a_detector_that_works_is_not_complained_of(spec: str, good: dict[str, Any], tmp_path: Path) -> None:
    from actfer_env.tools.detectors.cached import DetectionStore

    DetectionStore.create(tmp_path / "faces", "simulated", 1)
    text = f"- {{name: actfer_agent, detector: '{spec.format(tmp_path / 'faces')}'}}\n"
    (tmp_path / "loop.yaml").write_text(text)
    before = cv2.getNumThreads(), hardware()
    assert list(launch.machine_problems(good)) == [] == list(launch.machine_notes(good))
    assert (cv2.getNumThreads(), hardware()) == before


def test_a_detector_that_would_like_a_gpu_is_told_of_and_stops_nothing(
    good: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loop.yaml").write_text("- {name: actfer_agent, detector: 'insightface:buffalo_l'}\n")
    monkeypatch.setattr("actfer_env.tools.detectors.hardware.offers_gpu", lambda: True)
    (note,) = launch.machine_notes(good)
    assert "runs on the CPU" in note and "cached:FOLDER" in note and "\n" not in note
    monkeypatch.setattr("actfer_env.tools.detectors.hardware.offers_gpu", lambda: False)
    assert list(launch.machine_notes(good)) == []


def test_a_validation_set_that_would_be_in_flight_as_a_whole(good: dict[str, Any], tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": range(7000)}), tmp_path / "many.parquet")
    config = put(good, "data.val_files", str(tmp_path / "many.parquet"))
    assert "all 7000 validation rows" in only(config)
    assert list(launch.machine_problems(put(config, "data.val_batch_size", 256))) == []


def test_several_nodes_need_shared_folders(good: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    config = put(good, "trainer.nnodes", 2)
    monkeypatch.setattr(launch, "_file_system", lambda path: "nfs4")
    assert list(launch.machine_problems(config)) == []
    assert "absolute" in only(put(config, "trainer.default_local_dir", "runs/full"))
    monkeypatch.setattr(launch, "_file_system", lambda path: "xfs" if path.name == "out" else "lustre")
    assert only(config).startswith("OUT ") and "ACTFER_SHARED=1" in only(config)
    monkeypatch.setenv("ACTFER_SHARED", "1")
    assert list(launch.machine_problems(config)) == []


def test_the_kind_of_file_system_is_that_of_the_innermost_mount() -> None:
    assert launch._file_system(Path("/proc/self")) == "proc"


def test_all_that_is_wrong_is_said_at_once(good: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    missing("flash_attn", monkeypatch)
    config = put(put(good, "trainer.logger", ["mlflow", "file"]), "actor_rollout_ref.rollout.limit_images", 2)
    assert len(list(launch.machine_problems(config))) == 2


SCRIPTS = sorted([*VERL_EXAMPLE.glob("*.sh"), *VERL_EXAMPLE.glob("*.py"), *VERL_CHECKS.glob("*.py")])
NEED_NOTHING = ("costs.py",)  # reads JSON alone


@pytest.mark.parametrize("script", [one for one in SCRIPTS if one.name not in NEED_NOTHING], ids=lambda path: path.name)
def test_a_script_without_the_package_says_so_in_one_line(script: Path, tmp_path: Path) -> None:
    bare = tmp_path / "python"  # without any installed package
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "$@"\n')
    bare.chmod(0o755)
    runner = "bash" if script.suffix == ".sh" else str(bare)
    done = subprocess.run([runner, str(script)], cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=False)  # fmt: skip
    (line,) = done.stderr.strip().splitlines()
    assert done.returncode == 2 and line.startswith("error: No module named 'actfer_env': pip install")


def test_a_script_without_verl_says_so_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(VERL_EXAMPLE / "_installed.py"), "verl_of_another_name"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: No module named 'verl_of_another_name': pip install")


@pytest.mark.parametrize(
    ("engine", "line"), [("vllm", "vllm is not installed: see"), ("x", "ENGINE=x: use vllm or hf")]
)
def test_the_smoke_test_names_an_engine_that_it_cannot_take(engine: str, line: str, tmp_path: Path) -> None:
    for name in ("actfer_env", "verl"):  # in place of the packages, and no vllm beside them
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "actfer_env" / "rollout.py").touch()
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    places = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(tmp_path), "ENGINE": engine}
    done = subprocess.run(["bash", str(VERL_EXAMPLE / "train_cpu_smoke.sh"), "out"], cwd=tmp_path, capture_output=True,
                          text=True, env=places, check=False)  # fmt: skip
    assert done.returncode == 2 and done.stderr.startswith(f"error: {line}") and not (tmp_path / "out").exists()


def test_the_gpu_requirements_hold_every_need_of_the_package() -> None:
    from packaging.requirements import Requirement

    settings = ConfigParser()
    settings.read(VERL_EXAMPLE.parent.parent / "setup.cfg")
    needs = [line for line in settings["options"]["install_requires"].splitlines() if line and line[0] != "#"]
    lines = (line.split("#")[0].strip() for line in (VERL_EXAMPLE / "requirements-gpu.txt").read_text().splitlines())
    listed = {one.name.lower(): one.specifier for one in map(Requirement, filter(None, lines))}
    for need in map(Requirement, needs):
        if need.name == "opencv-python":  # vLLM brings its headless twin
            continue
        # numpy is in verl's own range, which lies above ours
        wanted = "numpy>=2" if need.name == "numpy" else str(need)
        assert str(Requirement(wanted).specifier) == str(listed[need.name.lower()]), need


def command_of(tmp_path: Path, **settings: str) -> list[str]:
    """Return the command that the GPU script would run."""
    import shlex

    (tmp_path / "sft").mkdir(exist_ok=True)
    (tmp_path / "sft" / "config.json").write_text("{}")
    for split in ("train", "val"):
        (tmp_path / "data" / split).mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / split / "part-00000.parquet").write_bytes(b"")
    (tmp_path / "bin").mkdir(exist_ok=True)
    if not (tmp_path / "bin" / "python").exists():
        (tmp_path / "bin" / "python").symlink_to(sys.executable)
    places = {"SFT": "sft", "DATA": "data", "OUT": "out", "DRY_RUN": "1", **settings}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", str(VERL_EXAMPLE / "train_qwen3vl_4b.sh")], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PATH": path, **places}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return shlex.split(done.stdout)


def test_the_script_asks_for_as_many_pictures_as_its_conversations_have(tmp_path: Path) -> None:
    for zooms in ("4", "2"):
        command = command_of(tmp_path, MAX_ZOOMS=zooms)
        (limit,) = [one for one in command if "limit_mm_per_prompt" in one]
        assert limit.endswith(f"={{image: {int(zooms) + 2}, video: 0}}")
        assert f"max_zooms: {zooms}" in (tmp_path / "out" / "agent_loop.yaml").read_text()


def test_the_script_gives_the_agent_loop_other_tools(tmp_path: Path) -> None:
    import yaml

    for settings, tools in (({}, None), ({"TOOLS": "detect_align,brighten"}, ["detect_align", "brighten"])):
        command_of(tmp_path, LOOP=str(VERL_EXAMPLE / "agent_loop_cpu.yaml"), **settings)
        loops = yaml.safe_load((tmp_path / "out" / "agent_loop.yaml").read_text())
        assert [loop["episode"].get("tools") for loop in loops] == [tools] * 2


def test_the_script_names_whole_paths_and_the_logger(tmp_path: Path) -> None:
    command = command_of(tmp_path)
    assert f"actor_rollout_ref.model.path={tmp_path / 'sft'}" in command
    assert f"trainer.default_local_dir={tmp_path / 'out'}" in command
    assert "trainer.logger=[console,file]" in command and "trainer.max_actor_ckpt_to_keep=2" in command
    assert "trainer.logger=[console,wandb]" in command_of(tmp_path, LOGGER="[console,wandb]")
    assert not [one for one in command if "attn_implementation" in one]
    assert [one for one in command_of(tmp_path, ATTN="sdpa") if one.endswith("attn_implementation=sdpa")]


def test_the_script_avoids_what_would_cost_time_or_memory(tmp_path: Path) -> None:
    import yaml

    command = command_of(tmp_path)
    for wanted in ("data.val_batch_size=256", "actor_rollout_ref.actor.use_dynamic_bsz=True",
                   "actor_rollout_ref.rollout.log_prob_use_dynamic_bsz=True",
                   "actor_rollout_ref.ref.log_prob_use_dynamic_bsz=True",
                   "actor_rollout_ref.rollout.calculate_log_probs=True"):  # fmt: skip
        assert wanted in command
    assert not [one for one in command if "micro_batch_size_per_gpu" in one]  # a pass for each rollout
    (loop,) = yaml.safe_load((tmp_path / "out" / "agent_loop.yaml").read_text())
    assert loop["score_here"] is True  # else verl's reward workers process every picture once more


def test_rows_without_units_leave_the_au_term_idle(good: dict[str, Any], tmp_path: Path) -> None:
    def rows(*units: list[str] | None) -> dict[str, Any]:
        truths = [{"style": "rule", "ground_truth": json.dumps({"emotion": "fear", "aus": one})} for one in units]
        path = tmp_path / "train.parquet"
        pq.write_table(pa.table({"reward_model": truths}), path)
        return put(good, "data.train_files", [str(path)])

    told = [line for line in launch.machine_notes(rows(None, None)) if "AU term" in line]
    assert len(told) == 1 and "actfer data curate" in told[0]
    assert not [line for line in launch.machine_notes(rows(None, [])) if "AU term" in line]  # an empty list is a target
    emotion = put(rows(None), "ucgrpo.variant", "emotion_only")
    assert not [line for line in launch.machine_notes(emotion) if "AU term" in line]


def test_the_script_is_strict_unless_told_otherwise_and_asks_as_the_reward_reads(tmp_path: Path) -> None:
    import yaml

    def chat(**settings: str) -> tuple[dict[str, Any], list[str]]:
        command = command_of(tmp_path, **settings)
        (loop,) = yaml.safe_load((tmp_path / "out" / "agent_loop.yaml").read_text())
        return loop["chat"], command

    found, command = chat()
    assert found == {"parsing": "strict"} and "+ucgrpo.format=strict" in command
    found, command = chat(FORMAT="lenient")
    assert found == {} and "+ucgrpo.format=lenient" in command
    found, command = chat(VARIANT="tag")
    assert found == {"parsing": "strict", "preset": "tag"} and "+ucgrpo.variant=tag" in command
    own = tmp_path / "own.yaml"
    own.write_text((VERL_EXAMPLE / "agent_loop.yaml").read_text().replace("chat: {}", "chat: {parsing: lenient}"))
    assert chat(LOOP=str(own))[0] == {"parsing": "lenient"}
