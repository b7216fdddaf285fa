"""The injected groups of the verl example: their hand-made numbers, with real episodes and without verl."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import ROOT, VERL_CHECKS, VERL_EXAMPLE

from actfer_env.agents.qwen.tiny import BRIEF_CHAT
from actfer_env.chat import ChatEpisode, chat_tools
from actfer_env.data import Sample, load_dataset
from actfer_env.episode import EpisodeConfig
from actfer_env.errors import DataError
from actfer_env.files import write_text_atomic
from actfer_env.rollout import Rollout, read_rollouts
from actfer_env.verl_plugin.scoring import STATE_FILE, StepScorer, write_step


@pytest.fixture(scope="module")
def injected() -> Any:
    sys.path.insert(0, str(VERL_CHECKS))
    try:
        import injected
    finally:
        sys.path.remove(str(VERL_CHECKS))
    return injected


@pytest.fixture(scope="module")
def samples(injected: Any) -> list[Sample]:
    return injected.choose()


@pytest.fixture
def own_tool(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, ...]]:
    """The tools of a run with examples/own_tool.py, as the smoke test is told of them."""
    from actfer_env.tools.toolkit import TOOLS

    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.delitem(sys.modules, "own_tool", raising=False)
    importlib.import_module("own_tool")
    monkeypatch.setenv("TOOLS", "detect_align,zoom_in,brighten")
    yield "detect_align", "zoom_in", "brighten"
    TOOLS._known.pop("brighten", None)


def rows(
    injected: Any, samples: list[Sample], config: EpisodeConfig | None = None
) -> tuple[list[str], list[dict[str, str]]]:
    """Play every session that does not fail; return prompts and the agent loop's fields."""
    tools, uids, fields = chat_tools("auto", BRIEF_CHAT), [], []
    for sample, (group, plan) in zip(samples, injected.GROUPS.items(), strict=True):
        for member, does in enumerate(plan):
            if does == injected.FAILS:
                continue
            episode = ChatEpisode(sample, tools, BRIEF_CHAT, config, member=member)
            for text in injected.script(sample, does):
                episode.step(text)
            uids.append(group)
            fields.append({"rollout": json.dumps(episode.rollout().to_dict())})
    return uids, fields


def store(
    injected: Any, samples: list[Sample], run: Path, before: Path, config: EpisodeConfig | None = None
) -> dict[str, Any]:
    """Score a step behind two others as verl's trainer does, four rows of padding at its end; return its record."""
    scorer = StepScorer()
    uids, fields = rows(injected, samples, config)
    for _ in range(2):
        scorer.score(uids, fields, [False] * len(uids))
    scorer.save(before)
    state = json.loads((before / STATE_FILE).read_text())
    padding = [False] * len(uids) + [True] * injected.FAILED
    copies = [uids[0]] * injected.FAILED, [fields[0]] * injected.FAILED
    _, rollouts, scores = scorer.score(uids + copies[0], fields + copies[1], padding)
    scorer.save(run / "global_step_3")
    record = {"state": state, "total": scores.total.tolist(), "advantage": scores.advantage.tolist(),
              "rows_padding": injected.FAILED}  # fmt: skip
    write_step(run / "rollouts", 3, rollouts, record)
    return record


def test_the_hand_made_numbers_are_the_librarys(injected: Any, samples: list[Sample], tmp_path: Path) -> None:
    store(injected, samples, tmp_path / "run", tmp_path / "before")
    injected.check(tmp_path / "run", 3, tmp_path / "before" / STATE_FILE)


def test_the_numbers_are_the_same_for_a_tool_of_ones_own_that_looks_closer(
    injected: Any, samples: list[Sample], own_tool: tuple[str, ...], tmp_path: Path
) -> None:
    store(injected, samples, tmp_path / "run", tmp_path / "before", EpisodeConfig(tools=own_tool))
    injected.check(tmp_path / "run", 3, tmp_path / "before" / STATE_FILE)
    played = read_rollouts(tmp_path / "run" / "rollouts" / "step_000003.jsonl")
    assert {call.name for rollout in played for call in rollout.tool_calls} == {"detect_align", "brighten"}


def test_the_agent_loop_plays_the_script_with_a_tool_of_ones_own(
    injected: Any, samples: list[Sample], own_tool: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("verl") is None:  # verl looks at its environment when it is imported
        pytest.skip("needs verl: pip install 'actfer-env[verl]'")
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    monkeypatch.syspath_prepend(str(VERL_CHECKS))
    import yaml
    from injected_loop import InjectedAgentLoop

    from actfer_env.agents.qwen.agent import load
    from actfer_env.agents.qwen.conversation import TokenCodec
    from actfer_env.agents.qwen.tiny import TinyQwenConfig, build
    from actfer_env.chat import ChatConfig
    from actfer_env.data.references import reference

    _, tokenizer, image_processor = load(
        build(tmp_path / "model", TinyQwenConfig(hidden=128, vocabulary=900, max_pixels=64 * 64, brief=True)), "float32"
    )
    entry = yaml.safe_load((VERL_EXAMPLE / "agent_loop_cpu.yaml").read_text())[1]
    loop = InjectedAgentLoop.__new__(InjectedAgentLoop)
    loop.rollout_config = SimpleNamespace(prompt_length=128, response_length=512)
    loop.codec, loop.threads, loop.score_here = TokenCodec(tokenizer, image_processor), None, False
    loop.chat, loop.turn_tokens = ChatConfig(**entry["chat"]), entry["turn_tokens"]
    loop.limits = EpisodeConfig(**{**entry["episode"], "max_zooms": 1, "tools": list(own_tool)})
    loop.tools = chat_tools("auto", loop.chat)
    whole = load_dataset("synthetic", split="train", n=500)
    info = {"sample": json.dumps(reference(samples[0], whole)), "index": 0}
    assert next(iter(injected.GROUPS.values()))[0] == injected.ZOOM_RIGHT
    output = asyncio.run(loop.run({}, extra_info=info, session_id=0, global_steps=4, uid="u"))
    rollout = Rollout.from_dict(json.loads(output.extra_fields["rollout"]))
    assert [call.name for call in rollout.tool_calls] == ["detect_align", "brighten"] and rollout.zoomed
    assert rollout.correct and not rollout.violations
    assert len(output.multi_modal_data["images"]) == 3  # the raw one, the face, the brighter face


def test_one_face_is_not_found_and_the_others_are(samples: list[Sample], injected: Any) -> None:
    tools = chat_tools("auto", BRIEF_CHAT)
    lost = [tools.alignment(sample) is None for sample in samples]
    assert lost == [group == "no face found" for group in injected.GROUPS]
    assert len({sample.emotion for sample in samples}) == len(injected.GROUPS)


@pytest.mark.parametrize(
    ("field", "message"), [("total", "total of 'all zoomed'"), ("advantage", "advantage of"), ("state", "begin")]
)
def test_a_difference_is_found(
    field: str, message: str, injected: Any, samples: list[Sample], tmp_path: Path
) -> None:  # fmt: skip
    record = store(injected, samples, tmp_path / "run", tmp_path / "before")
    record[field] = {} if field == "state" else [value + 0.01 * (i == 4) for i, value in enumerate(record[field])]
    write_text_atomic(tmp_path / "run" / "rollouts" / "step_000003.json", json.dumps(record))
    with pytest.raises(DataError, match=message):
        injected.check(tmp_path / "run", 3, tmp_path / "before" / STATE_FILE)


def test_injected_rows_name_a_loop_with_the_settings_of_the_others(injected: Any, tmp_path: Path) -> None:
    import pyarrow.parquet as pq
    import yaml

    loops = {one.pop("name"): one for one in yaml.safe_load((VERL_EXAMPLE / "agent_loop_cpu.yaml").read_text())}
    targets = {name: one.pop("_target_") for name, one in loops.items()}
    assert targets[injected.LOOP] == "injected_loop.InjectedAgentLoop" and len(targets) == 2
    assert loops["actfer_agent"] == loops[injected.LOOP]
    injected.write_data(tmp_path / "rows")
    rows = pq.read_table(tmp_path / "rows" / "part-00000.parquet").to_pylist()
    assert [row["agent_name"] for row in rows] == [injected.LOOP] * len(injected.GROUPS)
    assert [row["extra_info"]["index"] for row in rows] == list(range(len(injected.GROUPS)))
