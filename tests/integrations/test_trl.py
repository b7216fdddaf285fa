"""TRL's own GRPOTrainer over the tiny Qwen3-VL: what reaches the update, and that a resumed run goes on alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import DETECT, ROOT, ZOOM, portraits
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
from actfer_env.integrations.trl import FaceEnv, UCGRPOReward, forbidden_tokens, read_turns, rows  # noqa: E402
from actfer_env.rewards import RewardError, UCGRPOConfig  # noqa: E402

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


def trainer_of(kind, folder, processor, out, reward, **changes):
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
        train_dataset=rows(portraits()), processing_class=processor, environment_factory=lambda: FaceEnv("mtcnn"),
        callbacks=[reward.callback()],
    )  # fmt: skip


def test_an_update_is_fed_what_the_library_scored_and_a_resumed_run_has_the_same_ema(folder, processor, tmp_path):
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

    first = UCGRPOReward(config, returns="advantage")
    trainer_of(Scripted, folder, processor, tmp_path / "parts", first, max_steps=2).train()
    again = UCGRPOReward(config, returns="advantage")
    trainer_of(Scripted, folder, processor, tmp_path / "parts", again).train(resume_from_checkpoint=True)
    assert again.scorer.state_dict() == whole.scorer.state_dict()
    saved = json.loads((tmp_path / "parts" / "checkpoint-3" / "trainer_state.json").read_text())
    kept = saved["stateful_callbacks"]["UCGRPOCallback"]["attributes"]["saved"]
    assert kept["scorer"] == whole.scorer.state_dict()


def test_totals_give_the_same_advantages_up_to_trls_epsilon(folder, processor, tmp_path):
    reward = UCGRPOReward()
    trainer = trainer_of(Scripted, folder, processor, tmp_path, reward, max_steps=1, save_strategy="no")
    trainer.train()
    fed = trainer._buffered_inputs[0]["advantages"].tolist()
    assert fed == pytest.approx(reward.last[1].advantage.tolist(), rel=1e-3)


def test_a_model_without_knowledge_plays_and_learns_from_what_it_samples(folder, processor, tmp_path):
    reward = UCGRPOReward(out=tmp_path / "rollouts")
    kwargs = {"suppress_tokens": forbidden_tokens(processor)}
    trainer = trainer_of(GRPOTrainer, folder, processor, tmp_path, reward, max_steps=2, save_strategy="no",
                         max_completion_length=64, generation_kwargs=kwargs)  # fmt: skip
    trainer.train()
    rollouts, scores = reward.last
    assert len(rollouts) == 4 and (scores.task == -0.2).all()  # nothing that it says is an answer
    assert len(list((tmp_path / "rollouts").iterdir())) == 2


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


def test_the_example_goes_on_where_it_was_killed(tmp_path):
    script = ROOT / "examples" / "trl_grpo.py"
    assert len(script.read_text().splitlines()) < 60
    start = (
        "import runpy, sys; from actfer_env.agents.qwen.torchvision_guard import guard; guard(); "
        f"sys.argv[1:] = ['--tiny', '--out', {str(tmp_path)!r}, '--steps', sys.argv[1]]; "
        f"runpy.run_path({str(script)!r}, run_name='__main__')"
    )
    for steps in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", start, steps], capture_output=True, text=True, check=False, cwd="/"
        )
        assert done.returncode == 0, done.stderr[-2000:]
    assert (Path(tmp_path) / "checkpoint-2").is_dir() and len(list((tmp_path / "rollouts").iterdir())) == 2
