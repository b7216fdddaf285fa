"""TRL's own GRPOTrainer over the tiny Qwen3-VL: what reaches the update, and that a resumed run goes on alike."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import DETECT, ROOT, ZOOM, portraits
from integrations.test_doors import FACES, SAMPLE, TEXTS, digest, of_chat
from integrations.test_trl_parts import BROKEN, FEAR, HAPPY

pytestmark = pytest.mark.slow
pytest.importorskip("trl", reason="needs pip install 'actfer-env[trl]'")
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

from actfer_env.agents.qwen.torchvision_guard import guard  # noqa: E402

guard()
pytest.importorskip("torchvision", reason="transformers saves no Qwen3-VL processor without torchvision")
import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from transformers import AutoModelForImageTextToText, AutoProcessor  # noqa: E402
from trl import GRPOConfig, GRPOTrainer  # noqa: E402

from actfer_env.agents.qwen import tiny  # noqa: E402
from actfer_env.integrations.trl import (  # noqa: E402
    FaceEnv,
    UCGRPOReward,
    last_checkpoint,
    read_turns,
    rows,
)
from actfer_env.rewards import UCGRPO, RewardError, UCGRPOConfig  # noqa: E402
from actfer_env.rollout import read_rollouts  # noqa: E402

PLANS = ([HAPPY], [DETECT, ZOOM, HAPPY], [DETECT, FEAR], [DETECT, BROKEN, FEAR])


class Scripted(GRPOTrainer):
    """Samples a script's turns in place of the model's; everything else is TRL's."""

    def _generate_and_score_completions(self, inputs):
        self.turn, self.playing = 0, list(range(len(inputs)))
        return super()._generate_and_score_completions(inputs)

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations, has_tool_images=False):
        plans = [PLANS[row % 4] for row in self.playing]
        said = [plan[self.turn] for plan in plans]
        self.turn += 1
        self.playing = [row for row, plan in zip(self.playing, plans, strict=True) if self.turn < len(plan)]
        encode = self.processing_class.tokenizer.encode
        ids = [[*encode(text, add_special_tokens=False), self.processing_class.tokenizer.eos_token_id] for text in said]
        return ids, None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.build(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def processor(folder):
    return read_turns(AutoProcessor.from_pretrained(folder, padding_side="left"))


def trainer_of(kind, folder, processor, out, reward, train_dataset=None, environment_factory=None, **changes):
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    settings = {
        "num_generations": 4, "per_device_train_batch_size": 4, "max_steps": 3, "save_steps": 1, "logging_steps": 1,
        "max_completion_length": 2048, "report_to": "none", "use_cpu": True, "bf16": False, "learning_rate": 1e-3,
        "beta": 0.0, "max_tool_calling_iterations": 6, "gradient_checkpointing": False, "seed": 0,
        "scale_rewards": "none" if reward.returns == "advantage" else "group",
    }  # fmt: skip
    return kind(
        model=model, args=GRPOConfig(str(out), **{**settings, **changes}), reward_funcs=reward,
        train_dataset=train_dataset or rows(portraits()), processing_class=processor, callbacks=[reward.callback()],
        environment_factory=environment_factory or (lambda: FaceEnv("mtcnn")),
    )  # fmt: skip


def test_an_update_is_fed_what_the_library_scored_and_its_ema_is_kept(folder, processor, tmp_path):
    seen = []

    class Watched(Scripted):
        def _generate_and_score_completions(self, inputs):
            fed = super()._generate_and_score_completions(inputs)
            seen.append((fed, *self.reward_funcs[0].last))
            return fed

    config = UCGRPOConfig(ema_min_count=1)
    whole = UCGRPOReward(config, returns="advantage")
    trainer = trainer_of(Watched, folder, processor, tmp_path / "whole", whole)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    assert any((before[name] != value).any() for name, value in trainer.model.named_parameters())
    assert len(seen) == 3 and whole.scorer.commits == 3 and any(whole.scorer.ema.values())
    for fed, rollouts, scores in seen:
        assert fed["advantages"].tolist() == pytest.approx(scores.advantage.tolist(), abs=1e-6)
        assert [one.zoomed for one in rollouts] == [False, True, False, False]
        assert [one.violations for one in rollouts] == [(), (), (), ("parse_error",)]  # answered, and gone on
        assert len(fed["pixel_values"]) == int(fed["image_grid_thw"].prod(-1).sum())
        text = processor.tokenizer.decode(fed["completion_ids"][1][fed["tool_mask"][1].bool()])
        assert text.count("tool_call>") == 4 and "happiness" in text and "Aligned" not in text  # its own words alone
    log = [entry for entry in trainer.state.log_history if "ucgrpo/zoom" in entry]
    assert len(log) == 3 and log[0]["ucgrpo/zoom"] == 0.25 and log[0]["ucgrpo/spread"] > 0
    saved = json.loads((tmp_path / "whole" / "checkpoint-3" / "trainer_state.json").read_text())
    kept = saved["stateful_callbacks"]["UCGRPOCallback"]["attributes"]["saved"]
    assert kept["scorer"] == whole.scorer.state_dict()


def test_totals_give_the_same_advantages_up_to_trls_epsilon(folder, processor, tmp_path):
    reward = UCGRPOReward()
    trainer = trainer_of(Scripted, folder, processor, tmp_path, reward, max_steps=1, save_strategy="no")
    trainer.train()
    fed = trainer._buffered_inputs[0]["advantages"].tolist()  # TRL has shuffled the batch by now
    assert sorted(fed) == pytest.approx(sorted(reward.last[1].advantage.tolist()), rel=1e-3)


def test_parts_of_groups_are_refused_before_the_first_step(folder, processor, tmp_path):
    trainer = trainer_of(Scripted, folder, processor, tmp_path, UCGRPOReward(), per_device_train_batch_size=2,
                         steps_per_generation=2, save_strategy="no")  # fmt: skip
    trainer.args.steps_per_generation = 1  # as on two processes, whose batches are whole only together
    with pytest.raises(RewardError, match="no multiple of num_generations 4"):
        trainer.train()


def test_the_rows_are_those_of_verl(tmp_path):
    from actfer_env.verl_plugin.rows import write_parquet

    write_parquet(portraits(), tmp_path / "rows")
    kept, made = rows(tmp_path / "rows"), rows(portraits())
    assert isinstance(kept, Dataset) and kept.column_names == ["prompt", "extra_info"]
    assert kept["extra_info"] == made["extra_info"] and kept["prompt"] == made["prompt"]
    assert [message["role"] for message in kept[0]["prompt"]] == ["system", "user"]


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A small model that SFT has taught the format: ACTFER_TAUGHT, else it is taught here, in about a minute."""
    if given := os.environ.get("ACTFER_TAUGHT"):
        return Path(given)
    folder = tmp_path_factory.mktemp("taught")
    sizes = {"FACES": "24", "RL": "4", "SIZE": "tiny", "VISION_STEPS": "1", "REGIONS": "1", "THREADS": "1"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [ROOT / "examples" / "sft" / "teach_small.sh", folder, "--max_steps", "120", "--warmup_steps", "20",
               "--per_device_train_batch_size", "16", "--learning_rate", "3e-3"]  # fmt: skip
    done = subprocess.run(
        command, env={**os.environ, **sizes, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "sft"


def begin(taught, out, *options):
    """Start the example on the taught model, as a process of its own."""
    command = [sys.executable, ROOT / "examples" / "trl_grpo.py", "--tiny", "--model", taught, "--out", out, *options]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with Path(f"{out}.log").open("a") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd="/", env=env)


def ended(process, out):
    assert process.wait() == 0, Path(f"{out}.log").read_text()[-2000:]
    last = max(out.glob("checkpoint-*"), key=lambda place: int(place.name[11:]))
    state = json.loads((last / "trainer_state.json").read_text())
    log = [
        {name: value for name, value in entry.items() if name != "step_time"}
        for entry in state["log_history"] if "ucgrpo/total" in entry
    ]  # fmt: skip
    return last, log, state["stateful_callbacks"]["UCGRPOCallback"]["attributes"]["saved"]["scorer"]


def test_twenty_real_steps_killed_on_the_way_end_as_if_they_had_never_stopped(taught, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    never_stopped = begin(taught, whole, "--steps", "20")
    killed = begin(taught, parts, "--steps", "20")
    while not (parts / "checkpoint-8").is_dir():  # it is being written, and lacks what is written last
        assert killed.poll() is None, Path(f"{parts}.log").read_text()[-2000:]
        time.sleep(0.01)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    again = begin(taught, parts, "--steps", "20")
    last, log, scorer = ended(never_stopped, whole)
    other_last, other_log, other_scorer = ended(again, parts)
    assert last.name == other_last.name == "checkpoint-20" and len(log) == 20
    assert (last / "model.safetensors").read_bytes() == (other_last / "model.safetensors").read_bytes()
    assert (last / "model.safetensors").read_bytes() != (taught / "model.safetensors").read_bytes()
    assert log == other_log and scorer == other_scorer and any(scorer["ema"].values())
    assert {"reward", "ucgrpo/zoom", "ucgrpo/spread", "ucgrpo/flat_groups", "ucgrpo/wrong_groups"} <= set(log[0])

    # Anybody can work the log and the EMA out again from the rollouts that were kept.
    library, stories = UCGRPO(), sorted((whole / "rollouts").iterdir())
    assert [one.name for one in stories] == [one.name for one in sorted((parts / "rollouts").iterdir())]
    for entry, story in zip(log, stories, strict=True):
        scores = library.score(rollouts := read_rollouts(story))
        assert rollouts == read_rollouts(parts / "rollouts" / story.name)
        assert entry["ucgrpo/total"] == pytest.approx(scores.total.mean())
        able = [one.zoomed for one in rollouts if one.detection != "failed"]
        assert entry["ucgrpo/zoom"] == (np.mean(able) if able else 0)
        assert entry["reward_std"] == pytest.approx(scores.advantage.std(ddof=1), abs=1e-6)
        deltas = [value for value in scores.delta.values() if value is not None]
        assert entry.get("ucgrpo/delta") == (pytest.approx(np.mean(deltas)) if deltas else None)
        library.commit(scores)
    assert library.state_dict() == scorer
    warned = Path(f"{whole}.log").read_text()
    assert ("no rollout zoomed" in warned) == any(entry["ucgrpo/zoom"] == 0 for entry in log)


def test_the_example_is_short_and_trains_adapters(taught, tmp_path):
    pytest.importorskip("peft", reason="needs peft")
    assert len((ROOT / "examples" / "trl_grpo.py").read_text().splitlines()) < 60
    out = tmp_path / "lora"
    last, log, _ = ended(begin(taught, out, "--steps", "2", "--lora"), out)
    assert len(log) == 2 and (last / "adapter_model.safetensors").is_file()


def test_a_run_goes_on_from_the_last_whole_checkpoint(tmp_path):
    assert last_checkpoint(tmp_path / "none") is None
    for name, text in (("9", "{}"), ("10", "{}"), ("11", '{"half'), ("12", None), ("best", "{}")):
        (tmp_path / f"checkpoint-{name}").mkdir()
        if text is not None:
            (tmp_path / f"checkpoint-{name}" / "trainer_state.json").write_text(text)
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")


def test_trl_itself_gives_the_digest_of_every_door(folder, processor, tmp_path):
    class Says(Scripted):
        def _generate_single_turn(self, prompt_ids, images, *rest, **named):
            encode = self.processing_class.tokenizer.encode
            turn = [*encode(TEXTS[self.turn], add_special_tokens=False), self.processing_class.tokenizer.eos_token_id]
            self.turn += 1
            return [turn] * len(prompt_ids), None

    class Seeing(UCGRPOReward):
        def __call__(self, completions, prompts=None, **columns):
            self.shown = [*prompts[0], *completions[0]]
            return super().__call__(completions, **columns)

    reward, chosen = Seeing(), rows(FACES)
    place = next(i for i, row in enumerate(chosen) if json.loads(row["extra_info"]["sample"])["id"] == SAMPLE.id)
    trainer = trainer_of(Says, folder, processor, tmp_path, reward, max_steps=1, save_strategy="no",
                         train_dataset=chosen.select([place]), environment_factory=FaceEnv)  # fmt: skip
    trainer.train()
    parts = [part for message in reward.shown if isinstance(message["content"], list) for part in message["content"]]
    pictures = [np.asarray(part["image"]) for part in parts if part["type"] == "image"]
    rollouts, scores = reward.last
    assert len(rollouts) == 4 and len(pictures) == 3
    assert {digest(one, pictures, scores.terms(row)) for row, one in enumerate(rollouts)} == {digest(*of_chat())}
