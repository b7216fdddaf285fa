"""The plugin as verl finds it; the whole path is run by examples/verl_grpo/train_cpu_smoke.sh."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import DETECT, ROOT, VERL_CHECKS, ZOOM
from PIL import Image

if find_spec("verl") is None:
    pytest.skip("needs verl: pip install 'actfer-env[verl]'", allow_module_level=True)


LOADED = """
import verl
from omegaconf import OmegaConf
from verl.experimental.agent_loop.agent_loop import _agent_loop_registry
from verl.trainer.ppo.v1.trainer_base import get_trainer_cls
from actfer_env.errors import ActFERError
from actfer_env.verl_plugin.check import check_config
from actfer_env.verl_plugin.trainer import UCGRPOTrainer
from verl.workers.engine.fsdp import transformer_impl
assert not hasattr(transformer_impl.CPUOffloadPolicy(pin_memory=True), "pin_memory")  # there is no memory to pin
assert get_trainer_cls("ucgrpo_sync") is UCGRPOTrainer and "actfer_agent" in _agent_loop_registry
good = {"adv_estimator": "grpo", "use_kl_in_reward": False}
check_config(OmegaConf.create({"algorithm": good}))
for wrong in ({"adv_estimator": "gae"}, {"use_kl_in_reward": True}, {"filter_groups": {"enable": True}}):
    try:
        check_config(OmegaConf.create({"algorithm": good | wrong}))
    except ActFERError as error:
        print(min(wrong), "|", error)
"""


def test_verl_finds_the_trainer_and_the_loop_and_wrong_settings_give_one_line() -> None:
    places = {"VERL_PLATFORM": "cpu", "VERL_ENGINE_DEVICE": "cuda"}
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, env={**os.environ, **places}, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stdout.splitlines() if " | " in line]
    assert len(lines) == 3 and all(line.split(" | ")[0] in line.split(" | ")[1] for line in lines)


WRONG = {
    "+ucgrpo.variant=typo": "unknown ucgrpo.variant 'typo'",
    "trainer.v1.trainer_mode=ucgrpo_snyc": "trainer.v1.trainer_mode is 'ucgrpo_snyc': set it to ucgrpo_sync",
    "actor_rollout_ref.rollout.agent.agent_loop_config_path=no.yaml": "there is no file no.yaml",
    "+ucgrpo.alhpa=0.5": "unknown field 'alhpa' of UCGRPOConfig",
    "algorithm.use_kl_in_reward=True": "set actor.use_kl_loss=True instead",
}
LAUNCH = f"""
import sys
from hydra import compose, initialize_config_module
from actfer_env.verl_plugin.train import run
with initialize_config_module("verl.trainer.config", version_base=None):
    for wrong in {list(WRONG)!r}:
        good = ["algorithm.adv_estimator=grpo", "trainer.logger=[console]", "actor_rollout_ref.rollout.name=hf"]
        good += ["trainer.v1.trainer_mode=ucgrpo_sync"] if "trainer_mode" not in wrong else []
        try:
            run(compose("ppo_trainer", overrides=[*good, wrong]))
        except SystemExit as end:
            print(wrong, "|", end.code)
"""


def test_a_wrong_launch_ends_with_one_line_before_ray_starts() -> None:
    places = {"VERL_PLATFORM": "cpu", "VERL_ENGINE_DEVICE": "cuda"}
    done = subprocess.run(
        [sys.executable, "-c", LAUNCH], capture_output=True, text=True, env={**os.environ, **places}, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = dict(line.split(" | ", 1) for line in done.stdout.splitlines() if " | " in line)
    assert set(found) == set(WRONG)
    for wrong, message in WRONG.items():
        assert found[wrong].startswith("error: ") and message in found[wrong]


def test_the_launcher_exits_with_an_error_code(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "actfer_env.verl_plugin.train", "+ucgrpo.variant=typo"], cwd=tmp_path,
        capture_output=True, text=True, env={**os.environ, "VERL_PLATFORM": "cpu"}, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    head, *lines = done.stderr[done.stderr.index("error: ") :].strip().splitlines()
    assert head == f"error: {len(lines)} things would stop this run:" and all(line.startswith("  - ") for line in lines)
    for wanted in ("trainer.v1.trainer_mode is 'sync'", "unknown ucgrpo.variant 'typo'", "trainer.logger has wandb"):
        assert sum(wanted in line for line in lines) == 1


def test_requests_that_come_one_after_another_share_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    monkeypatch.setenv("VERL_ENGINE_DEVICE", "cuda")
    from actfer_env.agents.qwen.tiny import TinyQwenConfig, build
    from actfer_env.verl_plugin import hf_rollout

    server = hf_rollout.HFServer(str(build(tmp_path / "model", TinyQwenConfig())))
    write, batches = server._write, []

    def noted(batch: list[Any], key: tuple[float, float]) -> Any:
        batches.append(len(batch))
        return write(batch, key)

    monkeypatch.setattr(server, "_write", noted)
    picture = Image.new("RGB", (64, 64))
    ids = server.codec.tokenizer("<|vision_start|>" + "<|image_pad|>" * 4 + "<|vision_end|>look").input_ids

    async def late(place: int) -> Any:
        await asyncio.sleep(0.25 * hf_rollout.GATHER_SECONDS * place)
        return await server.generate(str(place), ids, {"max_tokens": 3, "temperature": 1.0}, [picture])

    async def all_of_them() -> Any:
        return await asyncio.gather(*map(late, range(6)))

    made = asyncio.run(all_of_them())
    assert batches == [6]
    assert all(1 <= len(one.token_ids) <= 3 and len(one.log_probs) == len(one.token_ids) for one in made)


def test_a_rollout_that_never_frees_its_cache_is_never_asleep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    from actfer_env.agents.qwen.tiny import TinyQwenConfig, build
    from actfer_env.verl_plugin.hf_rollout import HFServer

    folder = str(build(tmp_path / "model", TinyQwenConfig()))

    async def asked(server: HFServer) -> int:
        await server.sleep()  # as verl does before it sends weights
        ids = server.codec.tokenizer("<|vision_start|>" + "<|image_pad|>" * 4 + "<|vision_end|>look").input_ids
        made = await server.generate("0", ids, {"max_tokens": 2}, [Image.new("RGB", (64, 64))])
        return len(made.token_ids)

    assert asyncio.run(asked(HFServer(folder, sleeps=False))) > 0
    with pytest.raises(RuntimeError, match="the rollout server sleeps"):
        asyncio.run(asked(HFServer(folder)))


def test_a_frozen_tower_has_no_gradients_and_the_language_model_keeps_its_own(tmp_path: Path) -> None:
    from torch import nn

    from actfer_env.agents.qwen.agent import load
    from actfer_env.agents.qwen.tiny import TinyQwenConfig, build
    from actfer_env.verl_plugin.frozen import freeze_tower

    model, _, _ = load(build(tmp_path / "model", TinyQwenConfig()), "float32")
    freeze_tower(model)
    asked = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert any(".visual." in name for name in asked)
    assert all(wanted == (".visual." not in name) for name, wanted in asked.items())
    with pytest.raises(ValueError, match="Linear has no vision tower"):
        freeze_tower(nn.Linear(2, 2))


@pytest.fixture
def loop(the_loop: Any) -> Any:
    return copy.copy(the_loop)


@pytest.fixture(scope="module")
def the_loop(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An agent loop without verl's servers."""
    os.environ.setdefault("VERL_PLATFORM", "cpu")

    from actfer_env.agents.qwen.agent import load
    from actfer_env.agents.qwen.conversation import TokenCodec
    from actfer_env.agents.qwen.tiny import TinyQwenConfig, build
    from actfer_env.chat import ChatConfig, chat_tools
    from actfer_env.episode import EpisodeConfig
    from actfer_env.verl_plugin.agent_loop import ActFERAgentLoop

    folder = build(tmp_path_factory.mktemp("tiny") / "model", TinyQwenConfig())
    _, tokenizer, image_processor = load(folder, "float32")
    made = ActFERAgentLoop.__new__(ActFERAgentLoop)
    made.tokenizer, made.codec = tokenizer, TokenCodec(tokenizer, image_processor)
    made.rollout_config = SimpleNamespace(prompt_length=8192, response_length=4096)
    made.chat, made.limits, made.turn_tokens, made.score_here = ChatConfig(), EpisodeConfig(), 1024, False
    made.tools, made.threads = chat_tools("simulated", made.chat), None
    return made


def row_of_a_sample() -> dict[str, Any]:
    from actfer_env.data import load_dataset
    from actfer_env.verl_plugin.rows import reference

    dataset = load_dataset("synthetic", split="train", n=1)
    return {"extra_info": {"sample": json.dumps(reference(dataset[0], dataset))}, "uid": "u"}


TURNS = {
    "a special token at its head": ("<|endoftext|>", ""), "nothing at all": ("", ""),
    "a special token behind its text": ("<think>x<|im_start|>y", "<think>x"), "a call": (DETECT, DETECT),
    "an end alone": ("<|im_end|>", "<|im_end|>"), "a picture's placeholder": ("a<|image_pad|>", "a"),
}  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"variant": "emotion_only"}])
def test_the_loop_scores_the_first_pass_as_the_reward_workers_would(options: dict[str, Any], loop: Any) -> None:
    from omegaconf import OmegaConf

    from actfer_env.verl_plugin.agent_loop import _Play
    from actfer_env.verl_plugin.scoring import compute_score

    loop.score_here = True
    loop.config = OmegaConf.create({"reward": {"custom_reward_function": {"reward_kwargs": options}}})
    play = _Play(loop, row_of_a_sample())
    episode = play.begin().episode
    for text in (DETECT, ZOOM):
        play.write(SimpleNamespace(token_ids=loop.codec.encode(text), log_probs=None, extra_fields={}))
    episode.stop("failed")
    output = play.output({})
    made = output.extra_fields["reward_extra_info"]
    wanted = compute_score("", "", "", {"rollout": output.extra_fields["rollout"]}, **options)
    assert {**made, "reward_seconds": 0} == {**wanted, "reward_seconds": 0} and output.reward_score == wanted["score"]


@pytest.mark.parametrize("name", TURNS)
def test_tokens_that_were_not_sampled_carry_no_loss(name: str, loop: Any) -> None:
    from actfer_env.verl_plugin.agent_loop import _Play

    written, kept = TURNS[name]
    ids = loop.tokenizer(written, add_special_tokens=False).input_ids
    play = _Play(loop, row_of_a_sample())
    conversation = play.begin()
    start = len(conversation.ids)
    logs = [-float(place + 1) for place in range(len(ids))]
    play.write(SimpleNamespace(token_ids=ids, log_probs=logs, extra_fields={}))
    conversation.episode.stop("failed")
    output = play.output({})
    mine = [place for place, flag in enumerate(conversation.written[start:]) if flag]
    wanted = loop.tokenizer(kept, add_special_tokens=False).input_ids
    assert [output.response_ids[place] for place in mine] == wanted == ids[: len(wanted)]
    assert [output.response_logprobs[place] for place in mine] == logs[: len(wanted)]
    assert sum(output.response_mask) == len(wanted) and len(output.response_ids) > 0


class Drawn:
    """A rollout server of an untaught model: it draws calls, nonsense, nothing, special tokens, and several stops."""

    def __init__(self, codec: Any, seed: int) -> None:
        self.codec, self.rng = codec, np.random.default_rng(seed)
        self.asked: list[dict[str, Any]] = []
        self.given: list[list[int]] = []

    async def generate(self, **asked: Any) -> Any:
        self.asked.append(asked)
        encode, rng = self.codec.encode, self.rng
        kinds = [
            encode(DETECT), encode(DETECT), encode(ZOOM), encode(ZOOM), [], encode("<|endoftext|>"),
            encode("<|endoftext|>x<|im_end|>"), encode("<|im_end|>"), encode("a<|image_pad|>b<|im_end|>"),
            encode("x<|im_end|><|im_end|>y</tool_call>"), encode("x</tool_call></tool_call><|im_end|>"),
            rng.integers(0, len(self.codec.tokenizer), int(rng.integers(1, 90))).tolist(),
        ]  # fmt: skip
        ids = kinds[rng.integers(len(kinds))][: asked["sampling_params"]["max_tokens"]]
        self.given.append(ids)
        logs = [-1.0 - 1000 * len(self.given) - place for place in range(len(ids))]
        return SimpleNamespace(token_ids=ids, log_probs=logs, extra_fields={"global_steps": 1})


@pytest.mark.parametrize("seed", range(20))
def test_whatever_an_engine_returns_the_loss_falls_on_its_tokens_alone(seed: int, loop: Any) -> None:
    length = int(np.random.default_rng(seed).integers(40, 1500))
    loop.rollout_config, loop.turn_tokens = SimpleNamespace(prompt_length=8192, response_length=length), 64
    loop.server_manager = server = Drawn(loop.codec, seed)
    output = asyncio.run(loop.run({"temperature": 1.0}, **row_of_a_sample()))
    sampled = [[-1.0 - 1000 * turn - place for place in range(len(loop.codec.cut(ids)))]
               for turn, ids in enumerate(server.given, 1)]  # fmt: skip
    tokens = [token for ids in server.given for token in loop.codec.cut(ids)]
    mine = [place for place, flag in enumerate(output.response_mask) if flag]
    assert [output.response_ids[place] for place in mine] == tokens
    assert [output.response_logprobs[place] for place in mine] == [log for turn in sampled for log in turn]
    assert len(output.response_ids) == len(output.response_mask) == len(output.response_logprobs) <= length
    assert not set(tokens) & set(loop.codec.forbidden)
    # What the engine was shown is what is trained on: each prompt is a beginning of the whole.
    whole = output.prompt_ids + output.response_ids
    assert all(asked["prompt_ids"] == whole[: len(asked["prompt_ids"])] for asked in server.asked)
    assert all(asked["sampling_params"]["stop_token_ids"] == loop.codec.stops()[0] for asked in server.asked)
    pictures = output.multi_modal_data["images"]
    _, grids = loop.codec.pictures([np.asarray(picture) for picture in pictures])
    assert whole.count(loop.codec.image_id) == sum(rows * columns // 4 for _, rows, columns in grids)


def test_a_worker_bounds_its_libraries_and_asks_for_no_gpu(loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    from actfer_env.tools.detectors.hardware import Hardware, hardware, use_hardware
    from actfer_env.verl_plugin import agent_loop

    def begin(self: Any, processor: Any) -> None:
        self.tokenizer, self.processor = loop.tokenizer, processor

    monkeypatch.setattr(agent_loop.AgentLoopBase, "__init__", begin)
    try:
        made = agent_loop.ActFERAgentLoop(SimpleNamespace(image_processor=loop.codec.image_processor), detector="mtcnn")
        assert hardware() == Hardware(threads=1, gpu=False) and cv2.getNumThreads() == 1
        assert made.codec.stops() == loop.codec.stops() and made.codec.forbidden == loop.codec.forbidden
    finally:
        use_hardware(Hardware())


def test_a_turn_cut_at_its_bound_is_noted_as_a_local_model_notes_it(loop: Any) -> None:
    from actfer_env.verl_plugin.agent_loop import _Play

    loop.rollout_config, loop.turn_tokens = SimpleNamespace(prompt_length=8192, response_length=4096), 5
    play = _Play(loop, row_of_a_sample())
    play.begin()
    for text in ("abcdefghijkl", "a<|im_end|>"):
        ids = loop.codec.encode(text)[:5]
        play.write(SimpleNamespace(token_ids=ids, log_probs=None, extra_fields={}))
    play.conversation.episode.stop("failed")
    assert play.conversation.episode.rollout().meta["cut_turns"] == 1


def test_pictures_that_verl_makes_larger_end_the_session_by_the_samples_name(loop: Any, tmp_path: Path) -> None:
    import torch
    from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
    from verl.utils.tokenizer import hf_processor

    from actfer_env.agents.qwen.tiny import TinyQwenConfig, build
    from actfer_env.errors import DataError
    from actfer_env.verl_plugin import register  # noqa: F401  as verl loads it

    loop.rollout_config, loop.turn_tokens = SimpleNamespace(prompt_length=8192, response_length=4096), 64
    loop.server_manager = Drawn(loop.codec, 0)
    output = asyncio.run(loop.run({}, **row_of_a_sample()))
    worker = AgentLoopWorker.__new__(AgentLoopWorker)
    worker.tokenizer, worker.processor = loop.tokenizer, hf_processor(str(build(tmp_path / "m", TinyQwenConfig())))
    ids, worker.mm_processor_kwargs = torch.tensor(output.prompt_ids + output.response_ids), {}
    made = worker._compute_multi_modal_inputs(output, ids)
    assert len(made["image_grid_thw"]) == len(output.multi_modal_data["images"])
    worker.mm_processor_kwargs = {"size": {"shortest_edge": 256 * 256, "longest_edge": 512 * 512}}
    sample = json.loads(output.extra_fields["rollout"])["sample_id"]
    line = rf"sample '{sample}' has \d+ picture placeholders .*: leave data.mm_processor_kwargs empty"
    with pytest.raises(DataError, match=line):
        worker._compute_multi_modal_inputs(output, ids)


def test_a_call_that_ends_in_several_tokens_stops_the_engine_by_its_text(loop: Any) -> None:
    assert loop._stops() == {"stop_token_ids": loop.codec.stops()[0]}
    split = loop.__class__.__new__(loop.__class__)
    split.codec = SimpleNamespace(stops=lambda: ([7], ["</tool_call>"]))
    assert split._stops() == {"stop_token_ids": [7], "stop": ["</tool_call>"], "include_stop_str_in_output": True}


def test_a_sequence_without_a_loss_has_no_advantage_to_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from actfer_env.verl_plugin import trainer

    rows = {"rm_scores": [[0.0, 1.0], [0.0, 2.0]], "advantages": [[0.5, 0.5], [0.0, 0.0]],
            "response_mask": [[1, 1], [0, 0]]}  # fmt: skip
    columns = {name: torch.tensor(values) for name, values in rows.items()}
    monkeypatch.setattr(trainer.tq, "kv_batch_get", lambda **asked: columns)
    made = trainer.UCGRPOTrainer.__new__(trainer.UCGRPOTrainer)
    batch = type("Batch", (), {"keys": ["a", "b"], "partition_id": "p"})()
    found = made._read_back(batch, [0, 1])
    assert found == {"total": [1.0, 2.0], "advantage": [0.5, None], "spread": 0.0, "leak": 0.0, "rows_padding": 0}


COMPOSED = """
import shlex, sys
from hydra import compose, initialize_config_module
import verl.trainer.main_ppo
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import omega_conf_to_dataclass, validate_config
overrides = shlex.split(sys.stdin.read())[3:]
with initialize_config_module("verl.trainer.config", version_base=None):
    config = compose("ppo_trainer", overrides=overrides)
validate_config(config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
for name in ("actor", "rollout", "model"):
    print(type(omega_conf_to_dataclass(config.actor_rollout_ref[name])).__name__)
print(config.actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt.image)
"""


def test_verl_itself_takes_the_gpu_scripts_settings(tmp_path: Path) -> None:
    from actfer_env.agents.qwen.tiny import TinyQwenConfig, build

    build(tmp_path / "sft", TinyQwenConfig())
    for split in ("train", "val"):
        (tmp_path / "data" / split).mkdir(parents=True)
        (tmp_path / "data" / split / "part-00000.parquet").write_bytes(b"")
    script = ROOT / "examples" / "verl_grpo" / "train_qwen3vl_4b.sh"
    places = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "ATTN": "sdpa",
              "SFT": "sft", "DATA": "data", "OUT": "out", "VERL_PLATFORM": "cpu",
              "VERL_ENGINE_DEVICE": "cuda"}  # fmt: skip
    command = subprocess.run(["bash", str(script)], cwd=tmp_path, capture_output=True, text=True, check=True,
                             env={**places, "DRY_RUN": "1"}).stdout  # fmt: skip
    done = subprocess.run([sys.executable, "-c", COMPOSED], input=command, cwd=tmp_path, capture_output=True,
                          text=True, env=places, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[-4:] == ["FSDPActorConfig", "RolloutConfig", "HFModelConfig", "6"]


class Engine:
    """Plays scripts in place of the servers; refuses a conversation of more pictures than its limit, as vLLM does."""

    def __init__(self, loop: Any, limit: int, scripts: list[list[str]]) -> None:
        self.loop, self.limit, self.scripts = loop, limit, iter(scripts)
        self.turns: dict[str, Any] = {}
        self.seen: list[int] = []

    async def generate(self, request_id: str, prompt_ids: list[int], image_data: list[Any], **_: Any) -> Any:
        from types import SimpleNamespace

        if len(image_data) > self.limit:
            raise ValueError(f"At most {self.limit} image(s) may be provided in one prompt.")
        starts = prompt_ids.count(self.loop.tokenizer.convert_tokens_to_ids("<|vision_start|>"))
        assert starts == len(image_data)
        self.seen.append(len(image_data))
        if request_id not in self.turns:
            self.turns[request_id] = iter(next(self.scripts))
        ids = self.loop.tokenizer(next(self.turns[request_id]), add_special_tokens=False).input_ids
        ids.append(self.loop.codec.end_id)
        return SimpleNamespace(token_ids=ids, log_probs=[-1.0] * len(ids), extra_fields={})


@pytest.mark.parametrize("most", [1, 2, 4])
def test_the_members_that_zoom_survive_the_smallest_legal_limit_of_pictures(most: int, loop: Any) -> None:
    from actfer_env.chat.turns import answer_text, call_text
    from actfer_env.data import load_dataset
    from actfer_env.episode import EpisodeConfig
    from actfer_env.facs import REGIONS
    from actfer_env.rewards import UCGRPO
    from actfer_env.rollout import Rollout
    from actfer_env.verl_plugin import launch
    from actfer_env.verl_plugin.rows import reference

    dataset = load_dataset("synthetic", split="train", n=1)
    sample = dataset[0]
    right = answer_text(str(sample.emotion), sample.aus or ())
    wrong = answer_text("fear" if sample.emotion != "fear" else "anger", ())
    crops = [call_text("zoom_in", regions=[region]) for region in REGIONS[:most]]
    zooms = [call_text("detect_align"), *crops, crops[0]]  # one more than the budget, which shows no picture
    scripts = [[*zooms, right], [*zooms, right], [call_text("detect_align"), right], [call_text("detect_align"), wrong]]
    loop.limits, loop.threads, loop.stops = EpisodeConfig(max_turns=10, max_zooms=most), None, []

    def played(limit: int) -> tuple[list[Any], list[int]]:
        loop.server_manager = Engine(loop, limit, [list(turns) for turns in scripts])
        info = {"sample": json.dumps(reference(sample, dataset))}

        async def group() -> list[Any]:
            rows = [{"extra_info": info, "uid": "g", "session_id": member} for member in range(4)]
            return [(await asyncio.gather(loop.run({}, **row), return_exceptions=True))[0] for row in rows]

        return asyncio.run(group()), loop.server_manager.seen

    legal = most + 2
    made, seen = played(legal)
    rollouts = [Rollout.from_dict(json.loads(one.extra_fields["rollout"])) for one in made]
    assert max(seen) == legal and [one.zoomed for one in rollouts] == [True, True, False, False]
    assert [len(one.multi_modal_data["images"]) for one in made] == [legal, legal, 2, 2]
    scores = UCGRPO().score(rollouts)
    assert scores.task.tolist() == pytest.approx([1, 1, 1, -0.2])
    assert scores.delta["g"] == pytest.approx(1 - (1 - 0.2) / 2)  # zoomed less not zoomed, over all four

    made, _ = played(legal - 1)  # with one picture less only those are lost whom the contrast is about
    assert [isinstance(one, ValueError) for one in made] == [True, True, False, False]
    rest = [Rollout.from_dict(json.loads(one.extra_fields["rollout"])) for one in made[2:]]
    assert UCGRPO().score(rest).delta["g"] is None
    for limit, lines in ((legal, 0), (legal - 1, 1)):  # and such a run does not start
        rollout = {"name": "vllm", "engine_kwargs": {"vllm": {"limit_mm_per_prompt": {"image": limit}}}}
        config = {"actor_rollout_ref": {"rollout": rollout}}
        assert len(list(launch._pictures(config, [{"episode": {"max_zooms": most}}]))) == lines


@pytest.mark.parametrize("mode", ["auto", "resume_path"])
def test_the_scorers_state_comes_from_the_checkpoint_that_verl_resumed(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from omegaconf import OmegaConf

    from actfer_env.verl_plugin.trainer import UCGRPOTrainer

    monkeypatch.setattr(UCGRPOTrainer.__mro__[1], "_load_checkpoint", lambda trainer: None)
    made, found = UCGRPOTrainer.__new__(UCGRPOTrainer), list[Path]()
    made.global_steps, made.step_scorer = 7, SimpleNamespace(load=found.append)
    settings = {"resume_mode": mode, "resume_from_path": "elsewhere/global_step_7", "default_local_dir": "run"}
    made.config = OmegaConf.create({"trainer": settings})
    made._load_checkpoint()
    assert found == [Path("run" if mode == "auto" else "elsewhere") / "global_step_7"]


def test_a_frozen_tower_does_not_move_in_a_step_and_the_audit_notices_one_that_does(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from actfer_env.agents.qwen.agent import load
    from actfer_env.agents.qwen.tiny import TinyQwenConfig, build
    from actfer_env.errors import DataError
    from actfer_env.verl_plugin.frozen import freeze_tower

    sys.path.insert(0, str(VERL_CHECKS))
    try:
        import audit
    finally:
        sys.path.remove(str(VERL_CHECKS))

    start = build(tmp_path / "model", TinyQwenConfig())
    for frozen in (True, False):
        model, tokenizer, image_processor = load(start, "float32")
        if frozen:
            freeze_tower(model)
        pictures = image_processor(images=[Image.new("RGB", (64, 64), "red")], return_tensors="pt")
        text = "<|vision_start|>" + "<|image_pad|>" * int(pictures["image_grid_thw"].prod() // 4) + "<|vision_end|>look"
        ids = torch.tensor([tokenizer(text).input_ids])
        kinds = (ids == tokenizer.convert_tokens_to_ids("<|image_pad|>")).int()
        optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-2)
        model(input_ids=ids, labels=ids, mm_token_type_ids=kinds, **pictures).loss.backward()
        optimizer.step()
        folder = tmp_path / f"run-{frozen}" / "global_step_1" / "actor"
        folder.mkdir(parents=True)
        weights = dict(model.state_dict())
        torch.save(weights, folder / "model_world_size_1_rank_0.pt")
        if frozen:
            line = audit.audit_weights(tmp_path / "run-True", 1, start, frozen_tower=True)
            vision = [name for name in weights if ".visual." in name]
            assert line.endswith(f"; 0 of {len(vision)} tensors of the vision tower moved") and vision
            save_file({name: value.bfloat16().contiguous() for name, value in weights.items() if "lm_head" not in name},
                      tmp_path / "model.safetensors")  # fmt: skip
            assert "of 1 shards are merged as they are" in audit.audit_merged(folder, tmp_path)
            (tmp_path / "figures.json").write_text('{"n": 16, "format": 1.0}')
            assert audit.audit_evaluation(tmp_path).startswith("100% of 16 episodes")
        else:
            with pytest.raises(DataError, match="tensors of the frozen vision tower moved"):
                audit.audit_weights(tmp_path / "run-False", 1, start, frozen_tower=True)
            (tmp_path / "figures.json").write_text('{"n": 16, "format": 0.25}')
            with pytest.raises(DataError, match="25% of 16 episodes"):
                audit.audit_evaluation(tmp_path)
            with pytest.raises(DataError, match="is not merged as the shards hold it"):
                audit.audit_merged(folder, tmp_path)


def test_the_audit_bounds_the_difference_of_engine_and_trainer(tmp_path: Path) -> None:
    from actfer_env.errors import DataError

    sys.path.insert(0, str(VERL_CHECKS))
    try:
        import audit
    finally:
        sys.path.remove(str(VERL_CHECKS))
    name, path = "training/rollout_probs_diff_max", tmp_path / "metrics.jsonl"

    def line(**data: float) -> str:
        path.write_text(json.dumps({"step": 1, "data": {"ucgrpo/sessions_failed": 0.0, **data}}) + "\n")
        return audit.audit_match([path], 1, 1e-3)

    assert line(**{name: 2e-6}) == "rollout_probs_diff max 2.0e-06 in 1 steps; no session was lost"
    for data, message in (({name: 0.1}, "above 0.001"), ({name: float("nan")}, "above"), ({}, "calculate_log_probs"),
                          ({name: 0.0, "ucgrpo/sessions_failed": 2.0}, "2 sessions were lost")):  # fmt: skip
        with pytest.raises(DataError, match=message):
            line(**data)
