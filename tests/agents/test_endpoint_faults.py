"""Whose fault a refusal is: the setting's, the conversation's, the server's; whatever the server's words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace as Names
from typing import Any

import pytest
from endpoint_server import Server, answering
from helpers import DETECT

from actfer_env.agents.base import Usage
from actfer_env.agents.endpoint import EndpointError
from actfer_env.data import Dataset, load_dataset
from actfer_env.errors import AgentError
from actfer_env.evaluation import EvalConfig, evaluate, read_run, summarize, write_run

openai = pytest.importorskip("openai", reason="needs openai: pip install 'actfer-env[api]'")
httpx = pytest.importorskip("httpx")

ANSWER = '<answer>{"emotion": "happiness", "aus": ["AU6", "AU12"]}</answer>'

OUTGROWN = {
    "openai": "This model's maximum context length is 4096 tokens. However, your messages resulted in 5120 tokens.",
    "openai, code": "context_length_exceeded",
    "openai, text": "Invalid 'messages[3].content': string too long. Expected a string with maximum length 1048576.",
    "vllm": "The decoder prompt (length 5120) is longer than the maximum model length of 4096. Make sure that "
            "`max_model_len` is no smaller than the number of text tokens plus multimodal tokens.",
    "vllm, both": "However, your request has 8 input tokens plus 2045 'max_tokens'. Please reduce one or the other. "
                  "(parameter=input_tokens, max_tokens, value=(8, 2045))",
    "vllm, below one": "max_tokens must be at least 1, got -186.",
    "sglang": "The input (61709 tokens) is longer than the model's context length (40960 tokens).",
    "llama.cpp": "the request exceeds the available context size, try increasing it",
    "llama.cpp, type": "exceed_context_size_error",
    "llama-cpp-python": "Requested tokens (2285) exceed context window of 2048",
    "tgi": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 3600 `inputs` tokens",
    "ollama": "input length exceeds the context length",
    "lm studio": "Trying to keep the first 15857 tokens when context the overflows. However, the model is loaded with "
                 "context length of only 4096 tokens, which is not enough.",
    "lm studio, keep": "The number of tokens to keep from the initial prompt is greater than the context length "
                       "(n_keep: 13055>= n_ctx: 4096).",
    "anthropic": "prompt is too long: 207310 tokens > 200000 maximum",
    "anthropic, both": "input length and `max_tokens` exceed context limit: 199000 + 8192 > 200000",
    "gemini": "The input token count (2845475) exceeds the maximum number of tokens allowed (1048576).",
    "bedrock": "Input is too long for requested model.",
    "cohere": "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5120.",
    "dashscope": "Range of input length should be [1, 30720]",
    "zhipu": "输入长度超过模型上下文上限",
    "gateway": "Request entity too large",
    "groq": "Please reduce the length of the messages or completion.",
    "terse": "prompt tokens: 5120 > 4096",
}  # fmt: skip
NONSENSE = ("Bad Request", "xyzzy", "Internal Server Error", "Something went wrong, please try again later", "")
NOT_LENGTH = (
    "At most 1 image(s) may be provided in one request.", "Conversation roles must alternate user/assistant",
    "Unexpected token '<' in JSON at position 0", "context canceled", "messages with role 'tool' must follow a call",
)  # fmt: skip


def said(content: Any, finish: str = "stop", usage: Any = None, **extra: Any) -> Any:
    message = Names(content=content, tool_calls=None, refusal=None)
    return Names(choices=[Names(message=message, finish_reason=finish)], usage=usage, **extra)


def refused(text: str, status: int = 400) -> Exception:
    request = httpx.Request("POST", "http://localhost/v1")
    kind = openai.InternalServerError if status >= 500 else openai.BadRequestError
    return kind(text, response=httpx.Response(status, request=request), body={"message": text})


def later(fault: Any, straight: int = 0) -> Any:
    """Return a server that answers first turns, and fails later ones; the first conversations answer at once."""
    seen = iter(range(10**6))

    def reply(sent: dict[str, Any]) -> Any:
        if len(sent["messages"]) < 3:
            return said(ANSWER if next(seen) < straight else DETECT)
        if isinstance(fault, Exception):
            raise fault
        return fault

    return reply


@pytest.fixture(scope="module")
def samples() -> Dataset:
    return load_dataset("synthetic", split="test", n=6)


@pytest.mark.parametrize(("words", "status"), [
    *((name, 400 if number % 2 else 500) for number, name in enumerate(OUTGROWN)), ("vllm", 413), ("vllm", 422),
])  # fmt: skip
def test_an_outgrown_conversation_ends_alone_whatever_the_words(words: str, status: int, samples: Dataset) -> None:
    run = evaluate(answering(later(refused(OUTGROWN[words], status), 4)), samples, EvalConfig())
    assert summarize(run.rollouts).outcomes == {"answered": 4, "too_long": 2} and run.failures == ()
    assert run.rollouts[-1].meta["stop"]["status"] == status


@pytest.mark.parametrize("words", [*NONSENSE, *NOT_LENGTH])
@pytest.mark.parametrize("status", [400, 500])
def test_other_refusals_of_a_later_turn_are_listed_alone_and_not_scored(
    words: str, status: int, samples: Dataset
) -> None:
    run = evaluate(answering(later(refused(words, status), 4)), samples, EvalConfig())
    assert len(run.rollouts) == 4
    assert [failure["sample_id"] for failure in run.failures] == [samples[4].id, samples[5].id]


@pytest.mark.parametrize("words", ["xyzzy", ""])
def test_413_says_enough(words: str, samples: Dataset) -> None:
    run = evaluate(answering(later(refused(words, 413), 4)), samples, EvalConfig())
    assert summarize(run.rollouts).outcomes == {"answered": 4, "too_long": 2}


INSIDE = {
    "an error of llama.cpp": said(None, error={"code": 500, "message": OUTGROWN["llama.cpp"]}),
    "an error in a text": Names(choices=None, usage=None, error=OUTGROWN["lm studio"]),
    "an error beside a choice": Names(choices=[Names(message=Names(content="", tool_calls=None, refusal=None),
                                                     finish_reason="error", error={"code": 400, "message":
                                                     OUTGROWN["anthropic"]})], usage=None),
    "no room for a token": said("", "length"),
    "no room for a token, counted": said(None, "length", Names(prompt_tokens=4096, completion_tokens=0)),
}  # fmt: skip


@pytest.mark.parametrize("name", INSIDE)
def test_an_outgrown_conversation_may_be_answered_with_200(name: str, samples: Dataset) -> None:
    run = evaluate(answering(later(INSIDE[name], 4)), samples, EvalConfig())
    assert summarize(run.rollouts).outcomes == {"answered": 4, "too_long": 2} and run.failures == ()


def test_hidden_reasoning_that_used_up_a_turn_is_no_outgrown_conversation(samples: Dataset) -> None:
    reply = later(said("", "length", Names(prompt_tokens=100, completion_tokens=1024)))
    run = evaluate(answering(reply), samples, EvalConfig(number=1))
    assert summarize(run.rollouts).outcomes == {"truncated": 1} and run.rollouts[0].meta["cut_turns"] == 5


@pytest.mark.parametrize("words", [
    "This model's maximum context length is 4096 tokens. However, you requested 8192 output tokens and your prompt "
    "contains at least 400 input tokens, for a total of at least 8592 tokens.",
    "'max_tokens' or 'max_completion_tokens' is too large: 8192. This model's maximum context length is 4096 tokens",
    "max_tokens is too large: 8192. This model supports at most 4096 completion tokens",
    "`max_new_tokens` must be strictly positive and <= 2048", *OUTGROWN.values(),
])  # fmt: skip
def test_a_first_turn_beyond_the_model_is_the_settings_fault(words: str, samples: Dataset) -> None:
    def reply(_: Any) -> Any:
        raise refused(words, 500 if len(words) % 2 else 400)

    with pytest.raises(AgentError, match="--max-new-tokens") as caught:
        evaluate(answering(reply, max_tokens=8192), samples, EvalConfig())
    assert "\n" not in str(caught.value) and caught.value.run is None


@pytest.mark.parametrize("number", [1, 2, 6])
@pytest.mark.parametrize("words", [*NONSENSE, OUTGROWN["vllm"]])
def test_a_fault_of_every_first_turn_ends_the_run_with_it(words: str, number: int, samples: Dataset) -> None:
    def reply(_: Any) -> Any:
        raise refused(words)

    with pytest.raises(AgentError, match="answered 400"):
        evaluate(answering(reply), samples, EvalConfig(number=number))


def test_a_first_turn_that_leaves_no_room_is_the_settings_fault(samples: Dataset) -> None:
    full = said("", "length", Names(prompt_tokens=4096, completion_tokens=0))
    with pytest.raises(AgentError, match="--max-new-tokens"):
        evaluate(answering(lambda _: full), samples, EvalConfig())


def test_one_question_that_does_not_fit_is_listed_and_not_scored(samples: Dataset, tmp_path: Any) -> None:
    count = iter(range(100))

    def reply(_: Any) -> Any:
        if next(count) == 2:
            raise refused(OUTGROWN["vllm"])
        return said(ANSWER)

    run = evaluate(answering(reply), samples, EvalConfig(), tmp_path)
    assert len(run.rollouts) == 5 and [failure["sample_id"] for failure in run.failures] == [samples[2].id]

    def again(_: Any) -> Any:
        raise refused(OUTGROWN["vllm"])

    run = evaluate(answering(again), samples, EvalConfig(), tmp_path)  # the kept ones count, too
    assert len(run.rollouts) == 5 and len(run.failures) == 1


def test_most_conversations_refused_at_their_first_turn_end_the_run_however_they_mix(samples: Dataset) -> None:
    count = iter(range(100))

    def reply(_: Any) -> Any:
        if next(count) % 3:
            raise refused("no such thing")
        return said(ANSWER)

    with pytest.raises(AgentError, match="4 of 6 conversations could not begin") as caught:
        evaluate(answering(reply), samples, EvalConfig())
    assert len(caught.value.run.rollouts) == 2


@pytest.mark.parametrize(("fault", "outcome", "kept"), [(OUTGROWN["vllm"], "too_long", 6), ("xyzzy", "failed", 0)])
def test_a_cause_that_ended_most_conversations_is_named(
    fault: str, outcome: str, kept: int, samples: Dataset, tmp_path: Any
) -> None:
    run = evaluate(answering(later(refused(fault))), samples, EvalConfig())
    assert len(run.rollouts) == kept
    assert f"6 of 6 conversations ended as '{outcome}'" in run.failures[-1]["error"]
    assert run.failures[-1]["sample_id"] == ""
    write_run(tmp_path, run)
    assert read_run(tmp_path).failures == run.failures


def test_a_filter_that_blocks_most_pictures_is_named_and_a_models_own_refusals_are_not(samples: Dataset) -> None:
    def blocked(_: Any) -> Any:
        raise refused("The response was filtered due to the prompt triggering content management policy")

    run = evaluate(answering(blocked), samples, EvalConfig())
    assert summarize(run.rollouts).outcomes == {"refused": 6} and "6 of 6" in run.failures[-1]["error"]
    own = said(None)
    own.choices[0].message.refusal = "I cannot judge faces."
    run = evaluate(answering(lambda _: own), samples, EvalConfig())
    assert run.failures == () and run.rollouts[0].meta["stop"]["why"] == "I cannot judge faces."


def test_hopeless_runs_stop_asking(samples: Dataset) -> None:
    many, asked = load_dataset("synthetic", split="test", n=40), []

    def reply(sent: dict[str, Any]) -> Any:
        asked.append(sent)
        return later(refused("xyzzy"))(sent)

    with pytest.raises(EndpointError, match="xyzzy"):
        evaluate(answering(reply), many, EvalConfig())
    assert len(asked) == 20


def test_the_end_of_a_conversation_by_its_server_is_asked_for_again(samples: Dataset, tmp_path: Any) -> None:
    evaluate(answering(later(refused(OUTGROWN["vllm"])), cache=str(tmp_path)), samples, EvalConfig(number=2))
    run = evaluate(answering(later(said(ANSWER)), cache=str(tmp_path)), samples, EvalConfig(number=2))
    assert summarize(run.rollouts).outcomes == {"answered": 2}


def test_a_local_models_bound_that_no_first_turn_fits_is_the_settings_fault(samples: Dataset, tmp_path: Any) -> None:
    class Small:
        name, settings = "small", {}

        def play(self, episodes: Any) -> Any:
            for episode in episodes:
                episode.stop("too_long", "1200 tokens and 20000 more for a turn are beyond 16384 (max_length)")
                yield Names(episode=episode), Usage()

    with pytest.raises(AgentError, match=r"6 of 6 .* beyond 16384 .*; lower --max-new-tokens"):
        evaluate(Small(), samples, EvalConfig(), tmp_path)
    assert not (tmp_path / "episodes.jsonl").exists()


@pytest.mark.parametrize(("first", "words", "kept"), [(True, OUTGROWN["vllm"], False), (False, OUTGROWN["vllm"], True)])
def test_the_command_ends_with_the_cause_and_a_non_zero_code(
    first: bool, words: str, kept: bool, tmp_path: Path
) -> None:
    class Small(Server):
        def reply(self, body: dict[str, Any], key: str) -> tuple[int | None, Any]:
            if first or len(body["messages"]) > 2:
                return 400, {"error": {"message": words}}
            return super().reply(body, key)

    with Small() as server:
        command = [sys.executable, "-m", "actfer_env", "eval", "synthetic", "-n", "3", "--model", "m", "--endpoint",
                   server.url, "--out", str(tmp_path)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "--max-new-tokens" in done.stderr and "longer context" in done.stderr
    assert (tmp_path / "report.html").exists() == kept
    assert ("3 of 3 conversations ended as 'too_long'" in done.stderr) == kept
