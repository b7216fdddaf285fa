"""vLLM reads the very tokens and pictures that the trainer reads: ids after its own expansion, and log-probabilities.

Runs where vLLM is installed, on a CPU too:
``python -m pytest -o addopts= -q tests/verl_plugin/test_verl_vllm_tokens.py``.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from helpers import ROOT
from token_cases import SHAPES, box, drawn, episode

from actfer_env.chat.turns import call_text

for name, where in (("vllm", "examples/verl_grpo/requirements-gpu.txt"), ("verl", "pip install 'actfer-env[verl]'")):
    if find_spec(name) is None:  # asked, not imported: the engine runs in a process of its own
        pytest.skip(f"needs {name}: {where}", allow_module_level=True)

SHIM = ROOT / "examples" / "verl_grpo" / "vllm_cpu"
"""What vLLM's build for the CPU needs, where it is here."""
ENGINE = """
import json, pickle, sys

if __name__ == "__main__":
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    model, cases, out = sys.argv[1:]
    prompts = [TokensPrompt(prompt_token_ids=ids, multi_modal_data={"image": pictures})
               for ids, pictures in pickle.load(open(cases, "rb"))]
    engine = LLM(model, dtype="float32", enforce_eager=True, max_model_len=8192, max_num_seqs=8,
                 limit_mm_per_prompt={"image": 6, "video": 0}, disable_log_stats=True, seed=0)
    made = engine.generate(prompts, SamplingParams(max_tokens=1, prompt_logprobs=0), use_tqdm=False)
    rows = [{"ids": list(one.prompt_token_ids),
             "logs": [next(iter(place.values())).logprob for place in one.prompt_logprobs[1:]]} for one in made]
    json.dump(rows, open(out, "w"))
"""


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Prompts of one to six pictures: our ids, vLLM's, and the log-probabilities of vLLM and of transformers."""
    from actfer_env.agents.qwen.torchvision_guard import guard

    os.environ.setdefault("VERL_PLATFORM", "cpu")
    guard()
    import torch
    from PIL import Image
    from verl.utils.tokenizer import hf_processor
    from verl.workers.rollout.utils import qwen2_5_vl_dedup_image_tokens

    from actfer_env.agents.qwen.agent import QwenVLAgent
    from actfer_env.agents.qwen.conversation import Conversation, TokenCodec
    from actfer_env.agents.qwen.tiny import TinyQwenConfig, build

    work = tmp_path_factory.mktemp("vllm")
    # Heads of 32, the least that vLLM's kernels for the CPU take.
    model = build(work / "model", TinyQwenConfig(hidden=128, vision_hidden=64, max_pixels=512 * 512))
    agent, processor = QwenVLAgent(model, device="cpu", dtype="float32"), hf_processor(str(model))
    codec = TokenCodec(processor.tokenizer, processor.image_processor)  # as the agent loop makes it
    cases, found = [], []
    for seed, shape in enumerate(SHAPES):
        rng = np.random.default_rng(seed)
        played = episode(rng, drawn(rng, shape), max_turns=12)
        conversation = Conversation(played, codec)
        turns = ["nothing to see", call_text("detect_align"), *(call_text("zoom_in", boxes=[box(rng)]) for _ in "abcd")]
        for place, turn in enumerate([*turns, ""]):
            if place in (seed % len(turns), len(turns)):  # a prompt of every length among them, and the longest ones
                pictures = [Image.fromarray(image) for image in conversation.images]
                cases.append((qwen2_5_vl_dedup_image_tokens(list(conversation.ids), processor), pictures))
                with torch.no_grad():
                    logits = agent.model(**agent.collate([conversation])).logits[0, :-1].float()
                logs = torch.log_softmax(logits, -1).gather(-1, torch.tensor(conversation.ids[1:])[:, None])[:, 0]
                found.append({"ours": list(conversation.ids), "pictures": len(pictures), "logs": logs.numpy()})
            if turn:
                conversation.write(codec.cut([*codec.encode(turn), codec.end_id]))
    (work / "cases").write_bytes(pickle.dumps(cases))
    (work / "engine.py").write_text(ENGINE, encoding="utf-8")
    paths = [str(SHIM)] if SHIM.exists() else []
    places = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_LOGGING_LEVEL": "WARNING",
              "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
              "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}  # fmt: skip
    command = [sys.executable, *(str(work / name) for name in ("engine.py", "model", "cases", "out.json"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **places})
    assert done.returncode == 0, done.stderr[-3000:]
    made = json.loads((work / "out.json").read_text("utf-8"))
    return [{**ours, "theirs": theirs} for ours, theirs in zip(found, made, strict=True)]


def test_ids_after_vllms_own_expansion_are_ours(compared: list[dict[str, Any]]) -> None:
    assert {one["pictures"] for one in compared} == set(range(1, 7)) and len(compared) == 2 * len(SHAPES)
    for one in compared:
        assert one["theirs"]["ids"] == one["ours"]


def test_vllm_and_transformers_agree_on_every_tokens_log_probability(compared: list[dict[str, Any]]) -> None:
    worst = max(float(np.abs(one["logs"] - np.array(one["theirs"]["logs"])).max()) for one in compared)
    print(f"largest difference of a log-probability: {worst:.2g}, of {len(compared)} prompts")
    assert worst < 1e-4
