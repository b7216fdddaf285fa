"""Tools of others: what examples/own_tool.py brings works everywhere, and the package itself names no tool."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from helpers import ROOT

from actfer_env.boxes import Box
from actfer_env.chat import ChatConfig, ChatEpisode, chat_tools, parse_turn, system_prompt
from actfer_env.chat.turns import answer_text, call_text
from actfer_env.data import load_dataset
from actfer_env.episode import Episode, EpisodeConfig, Rollout, ToolCall
from actfer_env.errors import ToolError
from actfer_env.evaluation.report import render_report
from actfer_env.evaluation.run import Run
from actfer_env.rewards import UCGRPO
from actfer_env.sample import Sample
from actfer_env.testing import check_tool
from actfer_env.tools import TOOLS, FaceTools, Tool, ToolOutput, ViolationError, function_schema, register_tool
from actfer_env.tools.base import RESERVED

THREE = ("detect_align", "zoom_in", "brighten")
NAMED_IN = {
    "actfer_env/envs/actions.py": "Gym's action formats",
    "actfer_env/episode.py": "the shortcuts Episode.detect_align and Episode.zoom_in",
    "actfer_env/rollout.py": "records from before there were other tools",
    "actfer_env/rewards/explain.py": "a sentence on answers without a look",
    "agents/scripted.py": "plays Gym's actions",
    "agents/person.py": "plays Gym's actions, by keyboard",
    "agents/light/agent.py": "the light policy",
    "agents/light/evaluate.py": "the light policy",
    "agents/toolkits.py": "plays Gym's actions",
    "actfer_env/curate/template.py": "writes trajectories of the paper, which have its two tools",
    "actfer_env/curate/views.py": "keeps what these two tools show",
    "actfer_env/integrations/mcp.py": "offers the two by name to clients",
    "actfer_env/integrations/served.py": "offers the two by name to clients",
    "actfer_env/integrations/openenv/environment.py": "offers the two as buttons of its page",
    "actfer_env/integrations/verifiers.py": "offers the two by name to clients",
    "actfer_env/integrations/trl/turns.py": "a turn that cannot be read travels under a name that TRL knows",
}


@pytest.fixture(scope="module")
def own() -> Iterator[Any]:
    """The example, imported as a module of a user's; it registers its tool."""
    spec = importlib.util.spec_from_file_location("own_tool", ROOT / "examples" / "own_tool.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["own_tool"] = module
    spec.loader.exec_module(module)
    yield module
    TOOLS._known.pop("brighten", None)
    del sys.modules["own_tool"]


@pytest.fixture(scope="module")
def sample() -> Sample:
    return next(one for one in load_dataset("synthetic", split="test", n=12) if one.meta["quality"] == "good")


@pytest.fixture(scope="module")
def shared() -> FaceTools:
    return chat_tools("simulated")


def chat(sample: Sample, shared: FaceTools, *texts: str, config: EpisodeConfig | None = None, **options: Any) -> Any:
    episode = ChatEpisode(sample, shared, ChatConfig(**options), config or EpisodeConfig(tools=THREE))
    for text in texts:
        episode.step(text)
    return episode


def said(episode: Any) -> dict[str, Any]:
    return dict(json.loads(episode.messages[-1]["content"][-1]["text"]))


DETECT, BRIGHTEN = call_text("detect_align"), call_text("brighten", gain=2)


def strings(path: Path) -> Iterator[str]:
    """The texts of a module but for its docstrings, and the names that it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names if alias.name.isupper())


def test_no_module_outside_the_tools_names_a_tool() -> None:
    words = ("detect_align", "zoom_in", "DETECT_ALIGN", "ZOOM_IN")
    files = [path for name in ("actfer_env", "agents", "wrappers") for path in (ROOT / name).rglob("*.py")]
    names = {path.relative_to(ROOT).as_posix(): path for path in files}
    outside = {name: path for name, path in names.items() if not name.startswith("actfer_env/tools/")}
    found = {name for name, path in outside.items() if any(word in text for text in strings(path) for word in words)}
    assert found <= set(NAMED_IN), sorted(found - set(NAMED_IN))
    assert set(NAMED_IN) <= found, "an exception that is none any more"
    templates = (ROOT / "actfer_env").rglob("*.j2")
    assert not [path for path in templates if any(word in path.read_text(encoding="utf-8") for word in words)]


@pytest.mark.parametrize("name", ["detect_align", "zoom_in"])
def test_the_tools_that_come_along_keep_the_contract(name: str) -> None:
    check_tool(name)


def test_the_example_keeps_the_contract(own: Any) -> None:
    check_tool("brighten")
    check_tool(own.Brighten())


# In conversations


def test_the_prompt_and_the_schemas_offer_it(own: Any, sample: Sample, shared: FaceTools) -> None:
    prompt = system_prompt(ChatConfig(schemas_in_prompt=True), EpisodeConfig(tools=THREE))
    assert "3. If the face is too dark to read, call brighten.\n4. If no face is found" in prompt
    assert '"name": "brighten"' in prompt and "brighten" not in system_prompt(ChatConfig(), EpisodeConfig())
    episode = chat(sample, shared)
    assert [schema["function"]["name"] for schema in episode.tools] == list(THREE)


def test_a_call_shows_its_picture_and_says_what_is_legal(own: Any, sample: Sample, shared: FaceTools) -> None:
    episode = chat(sample, shared, DETECT)
    before = len(episode.images)
    step = episode.step(BRIGHTEN)
    assert step.messages[0]["name"] == "brighten" and len(episode.images) == before + 1
    assert episode.images[-1].shape == (224, 224, 3) and episode.images[-1].mean() > episode.images[-2].mean()
    assert said(episode)["gain"] == 2 and "brighten or answer" in said(episode)["message"]
    assert set(said(chat(sample, shared, DETECT, BRIGHTEN, brief=True))) == {"message"}


@pytest.mark.parametrize("text", [
    "<function=brighten><parameter=gain>2</parameter></function>",
    '<invoke name="brighten"><parameter name="gain">2</parameter></invoke>',
    "brighten <arg_key>gain</arg_key><arg_value>2</arg_value>", '[TOOL_CALLS]brighten[ARGS]{"gain": 2}',
    '{"name": "brighten", "parameters": {"gain": 2}}', call_text("Brighten", gain="2"),
])  # fmt: skip
def test_other_notations_are_read(text: str, own: Any, sample: Sample, shared: FaceTools) -> None:
    episode = chat(sample, shared, DETECT, text)
    assert episode.episode.calls[-1].violation is None and episode.episode.calls[-1].result["gain"] == 2


def test_native_calls_are_read(own: Any) -> None:
    call = {"id": "1", "function": {"name": "brighten", "arguments": '{"gain": 2}'}}
    (parsed,) = parse_turn(None, None, [call], THREE).calls
    assert (parsed.name, parsed.arguments, parsed.id, parsed.problem) == ("brighten", {"gain": 2}, "1", None)


@pytest.mark.parametrize(("turns", "violation", "why"), [
    ((BRIGHTEN,), "illegal_order", "brighten cannot be called now"),
    ((DETECT, call_text("brighten")), "bad_arguments", "lacks 'gain'"),
    ((DETECT, call_text("brighten", gain=9)), "bad_arguments", "at least 1 and at most 4"),
    ((DETECT, call_text("brighten", gain="much")), "bad_arguments", "must be number"),
    ((DETECT, call_text("brighten", gain=2, boxes=[])), "bad_arguments", "takes these arguments: gain"),
    ((DETECT, call_text("darken")), "unknown_tool", "there is no tool 'darken'"),
])  # fmt: skip
def test_wrong_calls_are_violations(
    turns: tuple[str, ...], violation: str, why: str, own: Any, sample: Sample, shared: FaceTools
) -> None:
    episode = chat(sample, shared, *turns)
    assert episode.episode.calls[-1].violation == violation
    assert said(episode)["error"] == violation and why in said(episode)["message"]
    assert "Legal now: " in said(episode)["message"]


def test_who_does_not_ask_for_it_has_it_not(own: Any, sample: Sample, shared: FaceTools) -> None:
    episode = chat(sample, shared, DETECT, BRIGHTEN, config=EpisodeConfig())
    assert episode.episode.calls[-1].violation == "unknown_tool"
    without = chat(sample, shared, DETECT, call_text("zoom_in", regions=["nose"]), config=EpisodeConfig(
        tools=("detect_align", "brighten")))  # fmt: skip
    assert without.episode.calls[-1].violation == "unknown_tool"
    assert "zoom_in" not in system_prompt(ChatConfig(), without.episode.config)


def test_the_text_environment_offers_it(own: Any) -> None:
    env = gym.make("ActFER-Chat-v0", config=EpisodeConfig(tools=THREE), max_turns=4)
    env.reset(seed=1)
    env.step(DETECT)
    info = env.step(BRIGHTEN)[4]
    assert info["tool"] == "brighten" and "Legal now" in str(info["messages"][-1]["content"])
    assert env.unwrapped.config.max_turns == 4  # type: ignore[attr-defined]


# In rewards and records


def finished(sample: Sample, shared: FaceTools, *turns: str, answer: str, **changes: Any) -> Rollout:
    return replace(chat(sample, shared, DETECT, *turns, answer_text(answer, ())).rollout(), group_id="g", **changes)


def test_the_contrast_counts_a_call_that_looks_closer(own: Any, sample: Sample, shared: FaceTools) -> None:
    right, wrong = str(sample.emotion), "fear" if sample.emotion != "fear" else "anger"
    group = [finished(sample, shared, BRIGHTEN, answer=right), finished(sample, shared, answer=wrong, member=1)]
    scores = UCGRPO().score(group)
    assert [rollout.zoomed for rollout in group] == [True, False] and scores.rules == ("agreed", "missed")
    assert scores.delta["g"] is not None and scores.delta["g"] > 0
    assert scores.structure.tolist() == UCGRPO().score([replace(r, tool_calls=r.tool_calls[:1]) for r in group]
                                                       ).structure.tolist()  # fmt: skip


def test_a_record_knows_that_it_zoomed_where_the_tool_is_unknown(own: Any, sample: Sample, shared: FaceTools) -> None:
    lines = json.dumps(finished(sample, shared, BRIGHTEN, answer="fear").to_dict())
    code = "import json, sys; from actfer_env.rollout import Rollout; r = Rollout.from_dict(json.load(sys.stdin))"
    code += "; print(r.zoomed, r.tool_calls[1].name, 'own_tool' in sys.modules, 'cv2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], input=lines, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "brighten", "False", "False"]


def test_records_of_before_stay_as_they_were() -> None:
    old = ToolCall.from_dict({"name": "zoom_in", "arguments": {}, "boxes": [[0, 0, 1, 1]]})
    assert old.zoomed and not replace(old, violation="over_budget").zoomed
    assert "looks_closer" not in old.to_dict() and ToolCall.from_dict(old.to_dict()) == old
    assert not ToolCall("detect_align").zoomed and not ToolCall("brighten").zoomed
    assert ToolCall("brighten", looks_closer=True).to_dict()["looks_closer"] is True
    assert not ToolCall("brighten", violation="bad_arguments", looks_closer=True).zoomed


# In reports


def test_the_report_shows_and_describes_it(own: Any, sample: Sample, shared: FaceTools) -> None:
    rollout = finished(sample, shared, BRIGHTEN, answer="fear")
    run = Run((rollout,), dataset=load_dataset("synthetic", split="test", n=12).arguments)
    html = render_report(run)
    assert "face brightened by 2" in html and "brighter face" in html and "<code>brighten gain: 2</code>" in html
    with_one, without = html.count("data:image/jpeg"), render_report(replace(run, rollouts=(
        replace(rollout, tool_calls=rollout.tool_calls[:1]),))).count("data:image/jpeg")  # fmt: skip
    assert with_one == without + 1


def test_the_report_of_an_unknown_tool_shows_what_the_record_says(sample: Sample, shared: FaceTools) -> None:
    call = ToolCall("never_heard_of", {"gain": 2}, None, 1, (), {"gain": 2}, looks_closer=True)
    base = chat(sample, shared, DETECT, answer_text("fear", ()), config=EpisodeConfig()).rollout()
    run = Run((replace(base, tool_calls=(*base.tool_calls, call)),),
              dataset=load_dataset("synthetic", split="test", n=12).arguments)  # fmt: skip
    html = render_report(run)
    assert "never_heard_of" in html and "pictures of never_heard_of are not drawn" in html


# In training with verl


def test_the_rows_for_verl_offer_it(own: Any, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'actfer-env[verl]'")
    from actfer_env.verl_plugin.rows import write_parquet

    data = load_dataset("synthetic", split="train", n=2)
    (shard,) = write_parquet(data, tmp_path, episode=EpisodeConfig(tools=THREE))
    (prompt, _), _ = (row["prompt"] for row in parquet.read_table(shard).to_pylist())
    assert "call brighten" in prompt["content"]


def test_the_agent_loop_of_verl_plays_it(own: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("verl") is None:  # verl looks at its environment when it is imported
        pytest.skip("needs verl: pip install 'actfer-env[verl]'")
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    import asyncio
    from types import SimpleNamespace

    from actfer_env.agents.qwen.agent import load
    from actfer_env.agents.qwen.conversation import TokenCodec
    from actfer_env.agents.qwen.tiny import TinyQwenConfig, build
    from actfer_env.verl_plugin.agent_loop import ActFERAgentLoop
    from actfer_env.verl_plugin.rows import reference
    from actfer_env.verl_plugin.scoring import compute_score

    _, tokenizer, image_processor = load(build(tmp_path / "model", TinyQwenConfig()), "float32")
    codec = TokenCodec(tokenizer, image_processor)
    turns = iter((DETECT, BRIGHTEN, answer_text("fear", ())))

    class Scripted:
        async def generate(self, **asked: Any) -> Any:
            text = next(turns)
            ids = [*tokenizer(text, add_special_tokens=False).input_ids, codec.end_id]
            return SimpleNamespace(token_ids=ids, log_probs=[0.0] * len(ids), extra_fields={}, asked=asked)

    loop = ActFERAgentLoop.__new__(ActFERAgentLoop)
    loop.tokenizer, loop.codec, loop.threads, loop.score_here = tokenizer, codec, None, False
    loop.rollout_config = SimpleNamespace(prompt_length=16384, response_length=8192)
    loop.chat, loop.turn_tokens = ChatConfig(), 1024
    loop.limits = EpisodeConfig(**{"tools": list(THREE)})  # as the YAML file of an agent loop has it
    loop.tools, loop.server_manager = chat_tools("simulated", loop.chat), Scripted()
    loop.forbidden = (set(tokenizer.all_special_ids) | {codec.image_id}) - {codec.end_id}
    loop.stops = [codec.end_id]
    data = load_dataset("synthetic", split="train", n=1, preset="easy")
    row = {"extra_info": {"sample": json.dumps(reference(data[0], data))}, "uid": "u"}
    output = asyncio.run(loop.run({}, **row))
    rollout = Rollout.from_dict(json.loads(output.extra_fields["rollout"]))
    assert [call.name for call in rollout.tool_calls] == ["detect_align", "brighten"] and not rollout.violations
    assert len(output.multi_modal_data["images"]) == 3 and sum(output.response_mask) > 0
    assert compute_score("", "", "", {"rollout": output.extra_fields["rollout"]})["zoomed"] == 1.0


# Registering, and what a tool may be


def test_names_and_tools_that_cannot_be_are_refused_in_one_line(own: Any) -> None:
    class Named(own.Brighten):  # type: ignore[misc,name-defined]
        name = "other"

    for name in ("", "two words", "a:b", *RESERVED):
        with pytest.raises(ToolError):
            register_tool(name, own.Brighten)
    with pytest.raises(ToolError, match="registered already"):
        register_tool("brighten", own.Brighten)
    for tools, why in (
        (("nothing",), "unknown tool 'nothing'"), ((3,), "is no tool"), ((), "at least one"),
        (("zoom_in", "zoom_in"), "each once"),
    ):  # fmt: skip
        with pytest.raises(ToolError, match=why) as error:
            EpisodeConfig(tools=tools)  # type: ignore[arg-type]
        assert "\n" not in str(error.value)
    register_tool("misnamed", Named)
    try:
        with pytest.raises(ToolError, match="calls itself 'other'"):
            EpisodeConfig(tools=("misnamed",))
    finally:
        TOOLS._known.pop("misnamed")


class Bare:
    """A tool that derives from nothing."""

    name = "bare"

    def schema(self, wire: Any) -> dict[str, Any]:
        box = {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}
        return function_schema(self.name, f"Look at a box, {wire.words()}.", {"box": box}, ["box"])

    def run(self, episode: Episode, box: Any) -> ToolOutput:
        read = episode.wire.read(box)
        return ToolOutput("Looked.", boxes=(read,), result={"box": list(read)})


def test_an_object_with_name_schema_and_run_is_a_tool(sample: Sample, shared: FaceTools) -> None:
    check_tool(Bare())
    config = EpisodeConfig(tools=("detect_align", Bare()))  # type: ignore[arg-type]
    episode = chat(sample, shared, call_text("bare", box=[100, 200, 300, 400]), config=config)
    (call,) = episode.episode.calls
    assert call.boxes == ((0.1, 0.2, 0.3, 0.4),) and call.result == {"box": [0.1, 0.2, 0.3, 0.4]}
    outside = chat(sample, shared, call_text("bare", box=[100, 200, 300, 4000]), config=config).episode.calls[0]
    assert outside.violation == "bad_arguments" and "within 0 and 1000" in outside.result["error"]
    assert pickle.loads(pickle.dumps(config)).toolkit.keys() == config.toolkit.keys()


def test_a_tool_says_what_becomes_of_its_calls(sample: Sample, shared: FaceTools) -> None:
    class Moody(Bare):
        name = "moody"

        def run(self, episode: Episode, box: Any) -> ToolOutput:
            raise ViolationError("not twice", "repeated_call")

    episode = Episode(sample, shared, EpisodeConfig(tools=(Moody(),)))  # type: ignore[arg-type]
    result = episode.call("moody", {"box": [0, 0, 1, 1]})
    assert result.violation == "repeated_call" and result.message == "not twice. Legal now: moody or answer."


class Broken(Tool):
    name = "broken"

    def schema(self, wire: Any) -> dict[str, Any]:
        return function_schema(
            self.name, "Do something.", {"n": {"type": "integer", "minimum": 0, "maximum": 2}}, ["n"]
        )

    def run(self, episode: Episode, n: int) -> ToolOutput:
        return ToolOutput("Done.")


class Unclosed(Broken):
    def schema(self, wire: Any) -> dict[str, Any]:
        made = super().schema(wire)
        made["function"]["parameters"]["additionalProperties"] = True
        return made


class Deaf(Broken):
    def run(self, episode: Episode) -> ToolOutput:  # type: ignore[override]
        return ToolOutput("Done.")


class Meddling(Broken):
    def run(self, episode: Episode, n: int) -> ToolOutput:
        episode.turn += 1
        return ToolOutput("Done.")


class Random(Broken):
    def run(self, episode: Episode, n: int) -> ToolOutput:
        return ToolOutput("Done.", result={"x": float(np.random.default_rng().random())})


class Grey(Broken):
    def run(self, episode: Episode, n: int) -> ToolOutput:
        return ToolOutput("Done.", pictures=(np.zeros((8, 8), np.uint8),))


class Outside(Broken):
    def run(self, episode: Episode, n: int) -> ToolOutput:
        return ToolOutput("Done.", boxes=(Box(0.5, 0.5, 1.5, 0.9),))


class Careless(Broken):
    checked = True


class Wordy(Broken):
    def describe(self, call: ToolCall) -> str:
        return "one\ntwo"


class Shy(Broken):
    def legal(self, episode: Episode) -> bool:
        return False


@pytest.mark.parametrize(("tool", "why"), [
    (Unclosed, "additionalProperties false"), (Deaf, "fails: TypeError"), (Meddling, "changes the episode"),
    (Random, "two answers"), (Grey, "picture of uint8"), (Outside, "a box that is none"),
    (Careless, "which its schema forbids, fails"), (Wordy, "one line"), (Shy, "neither before nor after"),
])  # fmt: skip
def test_the_check_names_what_is_broken(tool: type[Tool], why: str) -> None:
    check_tool(Broken())
    with pytest.raises(AssertionError, match=why):
        check_tool(tool())


@dataclass
class Unhashable(Bare):
    """A data class that compares by value has no hash."""

    side: int = 3


def test_a_tool_that_cannot_travel_is_named() -> None:
    with pytest.raises(AssertionError, match="unhashable"):
        check_tool(Unhashable())
    with pytest.raises(ToolError, match="hashable"):
        EpisodeConfig(tools=(Unhashable(),))  # type: ignore[arg-type]


def test_what_a_tool_returns_becomes_json(sample: Sample, shared: FaceTools) -> None:
    class Numbers(Bare):
        def run(self, episode: Episode, box: Any) -> ToolOutput:
            return ToolOutput("Done.", result={"mean": np.float32(0.5), "all": np.arange(3), "nan": float("nan")})

    episode = Episode(sample, shared, EpisodeConfig(tools=(Numbers(),)))  # type: ignore[arg-type]
    episode.call("bare", {"box": [0, 0, 1, 1]})
    episode.stop()
    assert episode.rollout().tool_calls[0].result == {"mean": 0.5, "all": [0, 1, 2], "nan": "nan"}
    json.dumps(episode.rollout().to_dict(), allow_nan=False)


def test_the_command_line_knows_a_tool_of_a_module(tmp_path: Path) -> None:
    (tmp_path / "my_tools.py").write_text((ROOT / "examples" / "own_tool.py").read_text())
    code = "from actfer_env.episode import EpisodeConfig; print(*EpisodeConfig(tools=('zoom_in', 'brighten')).toolkit)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "ACTFER_IMPORT": "my_tools"},
    )  # fmt: skip
    assert done.stdout.split() == ["zoom_in", "brighten"], done.stderr


def test_settings_of_an_evaluation_name_tools_only_where_they_are_others(own: Any) -> None:
    assert "tools" not in EpisodeConfig().facts()
    assert EpisodeConfig(tools=THREE).facts()["tools"] == list(THREE)
