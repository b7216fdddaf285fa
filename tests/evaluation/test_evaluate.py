"""Evaluating language policies: endpoints, resuming, comparing. The servers here are real ones on loopback."""

from __future__ import annotations

import itertools
import json
import signal
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from endpoint_server import SCRIPT, Server
from helpers import ANSWER, DETECT

from actfer_env.agents.base import ChatTrajectory, Usage
from actfer_env.agents.endpoint import EndpointConfig, EndpointError, OpenAIChatAgent, estimate
from actfer_env.chat import ChatConfig, ChatEpisode, chat_tools
from actfer_env.data import Dataset, load_dataset
from actfer_env.errors import DataError
from actfer_env.evaluation import EvalConfig, compare, evaluate, read_run, summarize, write_report, write_run
from actfer_env.evaluation.evaluate import fresh_episodes

pytest.importorskip("openai", reason="needs openai: pip install 'actfer-env[api]'")


@pytest.fixture(scope="module")
def samples() -> Dataset:
    return load_dataset("synthetic", split="test", n=8)


def player(server: Server, **kwargs: Any) -> OpenAIChatAgent:
    return OpenAIChatAgent(EndpointConfig(server.url, "tiny", **{"retries": 0, "concurrency": 2, **kwargs}))


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("images_in_tool", [False, True])
def test_an_endpoint_plays_whole_episodes(native: bool, images_in_tool: bool, samples: Dataset) -> None:
    config = EvalConfig(ChatConfig(calls="native" if native else "text", schemas_in_prompt=not native))
    with Server(native=native) as server:
        run = evaluate(player(server, images_in_tool=images_in_tool), samples, config)
    assert [rollout.sample_id for rollout in run.rollouts] == [sample.id for sample in samples]
    faces = [rollout for rollout in run.rollouts if rollout.detection == "ok"]
    assert faces and all(rollout.zoomed and rollout.predicted_aus == frozenset({1, 2}) for rollout in faces)
    assert all("tools" in request for request in server.requests) == native
    last = server.requests[-1]["messages"]
    shown = [part for message in last for part in message["content"] or () if isinstance(part, dict)]
    assert sum(part["type"] == "image_url" for part in shown) in (2, 3)
    assert summarize(run.rollouts).usage["prompt_tokens"] > 0


def test_text_and_native_calls_and_both_places_of_pictures_leave_the_same_rollouts(samples: Dataset) -> None:
    runs = []
    for native, inside in ((False, False), (True, True)):
        with Server(native=native) as server:
            chat = ChatConfig(calls="native" if native else "text")
            runs.append(evaluate(player(server, images_in_tool=inside), samples, EvalConfig(chat)))
    for one, two in zip(*(run.rollouts for run in runs), strict=True):
        assert (one.tool_calls, one.predicted_emotion, one.turns) == (two.tool_calls, two.predicted_emotion, two.turns)


def test_busy_servers_are_asked_again(samples: Dataset) -> None:
    with Server(fail=2) as server:
        run = evaluate(player(server, retries=3), samples, EvalConfig(number=2))
    assert len(run.rollouts) == 2


def test_a_dead_server_gives_one_line_and_the_rerun_plays_what_is_missing(samples: Dataset, tmp_path: Path) -> None:
    with Server(die_after=10) as server, pytest.raises(EndpointError, match="finished episodes are kept") as caught:
        evaluate(player(server), samples, out=tmp_path)
    assert "\n" not in str(caught.value)
    kept = (tmp_path / "episodes.jsonl").read_text().splitlines()
    assert 2 <= len(kept) < 8
    with (tmp_path / "episodes.jsonl").open("a") as handle:
        handle.write('{"schema": 1, "sample_id": "tes')
    with Server(port=server.server.server_port) as server:
        run = evaluate(player(server), samples, out=tmp_path)
    asked = sum(len(request["messages"]) == 2 for request in server.requests)
    assert len(run.rollouts) == 8 and asked == 8 - len(kept)
    with Server() as whole:
        expected = evaluate(player(whole), samples)
    assert [r.tool_calls for r in run.rollouts] == [r.tool_calls for r in expected.rollouts]


def test_another_evaluation_is_not_mixed_in(samples: Dataset, tmp_path: Path) -> None:
    with Server() as server:
        evaluate(player(server), samples, EvalConfig(number=1), out=tmp_path)
        with pytest.raises(DataError, match=r"chat\.parsing is strict"):
            evaluate(player(server), samples, EvalConfig(ChatConfig(parsing="strict"), number=1), out=tmp_path)
        with pytest.raises(DataError, match=r"sampling\.temperature is 0\.7"):
            evaluate(player(server, temperature=0.7), samples, EvalConfig(number=1), out=tmp_path)
        assert len(evaluate(player(server), samples, EvalConfig(number=2), out=tmp_path).rollouts) == 2


def test_an_unwritable_cache_is_found_before_a_call_is_paid_for(samples: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Server() as server, pytest.raises(DataError, match="cannot write") as caught:
        evaluate(player(server, cache=str(tmp_path / "file" / "cache")), samples)
    assert not server.requests and "\n" not in str(caught.value)


def test_refusals_are_an_outcome_of_their_own(samples: Dataset) -> None:
    with Server(refuse=True) as server:
        run = evaluate(player(server), samples, EvalConfig(number=3))
    assert summarize(run.rollouts).outcomes == {"refused": 3}
    assert all(rollout.predicted_emotion is None for rollout in run.rollouts)


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b"", {"error": {"message": "boom"}}, {"choices": []}])
def test_an_address_that_is_no_chat_endpoint_gives_one_line(body: Any, samples: Dataset) -> None:
    with Server(answer=(200, body)) as server, pytest.raises(EndpointError, match="is the address right") as caught:
        evaluate(player(server), samples)
    assert "\n" not in str(caught.value)


def test_the_token_budget_ends_the_evaluation(samples: Dataset, tmp_path: Path) -> None:
    with Server() as server, pytest.raises(EndpointError, match="token budget of 60"):
        evaluate(player(server, concurrency=1, token_budget=60), samples, out=tmp_path)
    assert len((tmp_path / "episodes.jsonl").read_text().splitlines()) == 2


def test_cached_answers_are_not_asked_for_again(samples: Dataset, tmp_path: Path) -> None:
    with Server() as server:
        first, again = (
            evaluate(player(server, cache=str(tmp_path)), samples, EvalConfig(number=2, repeats=2)) for _ in "ab"
        )
    assert len(server.requests) == sum(rollout.turns for rollout in first.rollouts)
    assert [r.tool_calls for r in again.rollouts] == [r.tool_calls for r in first.rollouts]


def test_the_key_comes_from_the_environment_and_is_never_kept(
    samples: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret-123")
    with Server() as server:
        agent = player(server, key_variable="MY_KEY", cache=str(tmp_path / "cache"))
        run = evaluate(agent, samples, EvalConfig(number=1), out=tmp_path)
    write_run(tmp_path, run)
    write_report(tmp_path, run)
    assert server.keys[0] == "Bearer secret-123"
    assert all("secret-123" not in path.read_text("utf-8") for path in tmp_path.rglob("*") if path.is_file())


def test_a_key_that_the_server_quotes_is_not_shown(samples: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret-123")
    refusal = {"error": {"message": "Incorrect API key provided: secret-123"}}
    with Server(answer=(401, refusal)) as server, pytest.raises(EndpointError, match="answered 401") as caught:
        evaluate(player(server, key_variable="MY_KEY"), samples)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kwargs", [{"url": "localhost"}, {"concurrency": 0}, {"timeout": 0.0}])
def test_settings_of_endpoints_are_checked(kwargs: dict[str, Any]) -> None:
    with pytest.raises(EndpointError):
        EndpointConfig(**{"url": "http://x", "model": "m", **kwargs})


def test_an_estimate_calls_nothing(samples: Dataset) -> None:
    found = estimate(fresh_episodes(samples, EvalConfig()), price_in=1.0, price_out=10.0)
    assert found.episodes == 8 and 16 <= found.calls <= 32
    assert found.cost == pytest.approx((found.prompt_tokens + 10 * found.completion_tokens) / 1e6)


class Scripted:
    """A policy that zooms or not and answers one emotion."""

    def __init__(self, name: str, texts: tuple[str, ...]) -> None:
        self.name, self.texts = name, texts

    def play(self, episodes: Iterable[ChatEpisode]) -> Iterator[tuple[ChatTrajectory, Usage]]:
        for episode in episodes:
            for text in self.texts:
                if not episode.done:
                    episode.step(text)
            yield ChatTrajectory(episode), Usage(calls=len(self.texts))


def test_runs_are_compared_sample_by_sample(samples: Dataset) -> None:
    looks, answers = (evaluate(Scripted(n, t), samples) for n, t in (("a", SCRIPT), ("b", (ANSWER,))))
    found = {difference.metric: difference for difference in compare(answers, looks)}
    assert found["accuracy"].difference == 0 and found["accuracy"].n == 8
    assert found["zoom_ratio"].first == 0 < found["zoom_ratio"].low <= found["zoom_ratio"].second
    other = evaluate(Scripted("a", SCRIPT), load_dataset("synthetic", split="val", n=2))
    with pytest.raises(DataError, match="share no sample"):
        compare(looks, other)


def test_an_evaluation_is_a_run_with_a_report(samples: Dataset, tmp_path: Path) -> None:
    run = evaluate(Scripted("a", ("nonsense", ANSWER)), samples, EvalConfig(number=3))
    write_run(tmp_path, run)
    assert read_run(tmp_path).mismatches() == []
    text = write_report(tmp_path, read_run(tmp_path)).read_text("utf-8")
    assert "parse failures" in text and "outcome answered" in text
    assert summarize(run.rollouts).parse_failure_rate == 1


def test_unreadable_pictures_are_listed(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    run = evaluate(Scripted("a", SCRIPT), load_dataset("photos", tmp_path), EvalConfig(detector="mtcnn"))
    assert run.rollouts == () and "broken.png" in run.failures[0]["error"]


def test_tools_are_shared_between_conversations(samples: Dataset) -> None:
    tools = chat_tools()
    for _ in range(3):
        ChatEpisode(samples[0], tools).step(DETECT)
    assert tools.detections == 1


def test_what_was_finished_before_an_endpoint_stopped_can_be_reported(samples: Dataset, tmp_path: Path) -> None:
    with Server(die_after=10) as server, pytest.raises(EndpointError) as caught:
        evaluate(player(server), samples, out=tmp_path)
    kept = (tmp_path / "episodes.jsonl").read_text().splitlines()
    assert len(caught.value.run.rollouts) == len(kept)
    assert caught.value.run.failures[-1]["error"] == str(caught.value)


class Picky(Server):
    """Answers like OpenAI's reasoning models, and refuses pictures of some samples."""

    def __init__(self, wrong: tuple[str, ...] = (), bad: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.wrong, self.bad, self.first = wrong, bad, ""

    def reply(self, body: dict[str, Any], key: str) -> tuple[int | None, Any]:
        for name in self.wrong:
            if name in body:
                error = {"message": f"Unsupported parameter: '{name}' is not supported with this model.", "param": name,
                         "code": "unsupported_parameter"}  # fmt: skip
                return 400, {"error": error}
        picture = json.dumps(body["messages"][1])
        self.first = self.first or picture
        if self.bad is not None and (picture == self.first or self.bad == 2):
            return 400, {"error": {"message": "invalid_image_format", "code": "invalid_image_format"}}
        return super().reply(body, key)


def test_parameters_that_a_model_does_not_take_are_renamed_or_left_out(samples: Dataset) -> None:
    with Picky(("max_tokens", "temperature", "seed")) as server, pytest.warns(UserWarning, match="takes no"):
        run = evaluate(player(server, temperature=0.0, seed=1, max_tokens=99), samples, EvalConfig(number=3))
    assert len(run.rollouts) == 3
    assert {key for request in server.requests for key in request} <= {"model", "messages", "max_completion_tokens"}
    assert all(request["max_completion_tokens"] == 99 for request in server.requests)


def test_a_sample_that_the_endpoint_refuses_is_listed_and_the_others_are_played(samples: Dataset) -> None:
    with Picky(bad=1) as server:
        run = evaluate(player(server, concurrency=1), samples, EvalConfig(number=4))
    assert len(run.rollouts) == 3
    assert [failure["sample_id"] for failure in run.failures] == [samples[0].id]
    assert "invalid_image_format" in run.failures[0]["error"]
    with Picky(bad=2) as server, pytest.raises(EndpointError, match="invalid_image_format"):
        evaluate(player(server, concurrency=1), samples)
    assert server.requests == []


def test_a_start_that_failed_before_any_conversation_claims_no_folder(samples: Dataset, tmp_path: Path) -> None:
    with Server(answer=(404, {"error": {"message": "no model"}})) as server:
        with pytest.raises(EndpointError, match="with its /v1, and the model's name"):
            evaluate(player(server), samples, out=tmp_path)
        server.answer = None
        config = EvalConfig(ChatConfig(calls="native"), number=1)
        assert len(evaluate(player(server), samples, config, out=tmp_path).rollouts) == 1


@pytest.mark.parametrize("content", [[{"type": "text", "text": SCRIPT[2]}, {"type": "image"}], 5, None])
def test_odd_content_is_read_as_far_as_it_can_be(content: Any, samples: Dataset) -> None:
    message = {"role": "assistant", "content": content}
    usage = {"prompt_tokens": "a", "completion_tokens": None}
    body = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "usage": usage,
            "choices": [{"index": 0, "finish_reason": "length", "message": message}]}  # fmt: skip
    with Server(answer=(200, body)) as server:
        run = evaluate(player(server), samples, EvalConfig(number=1))
    (rollout,) = run.rollouts
    assert (rollout.predicted_aus == {1, 2}) == isinstance(content, list)
    assert rollout.meta["cut_turns"] == rollout.turns == summarize(run.rollouts).cut_turns


def test_a_choice_without_a_message_gives_one_line(samples: Dataset) -> None:
    body = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [{"index": 0}]}
    with Server(answer=(200, body)) as server, pytest.raises(EndpointError, match="did not answer as a chat endpoint"):
        evaluate(player(server), samples, EvalConfig(number=1))


def test_a_broken_cached_answer_is_asked_for_again(samples: Dataset, tmp_path: Path) -> None:
    with Server() as server:
        evaluate(player(server, cache=str(tmp_path)), samples, EvalConfig(number=1))
        for path, text in zip(tmp_path.glob("*.json"), ("{", "[1]", "{}x"), strict=False):
            path.write_text(text)
        asked = len(server.requests)
        assert len(evaluate(player(server, cache=str(tmp_path)), samples, EvalConfig(number=1)).rollouts) == 1
    assert len(server.requests) > asked


def test_endpoints_get_no_tool_message_without_a_call(samples: Dataset) -> None:
    with Server() as server:
        evaluate(player(server), samples, EvalConfig(number=2))
    for request in server.requests:
        roles = [message["role"] for message in request["messages"]]
        assert "tool" not in roles and all(one != two for one, two in itertools.pairwise(roles))
    said = server.requests[-1]["messages"][-1]["content"]
    texts = [part["text"] for part in said if part["type"] == "text"]
    assert texts[0] == "<tool_response>\n" and texts[-1] == "\n</tool_response>"


def test_an_interrupt_does_not_wait_for_calls_under_way(samples: Dataset) -> None:
    release, answered = threading.Event(), []

    class Slow(Server):
        def reply(self, body: dict[str, Any], key: str) -> tuple[int | None, Any]:
            release.wait(60)
            answered.append(body)
            return super().reply(body, key)

    others = set(threading.enumerate())
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    with Slow() as server:
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        try:
            run = evaluate(player(server), samples)
        finally:
            signal.signal(signal.SIGALRM, before)
        assert not answered
        assert not run.rollouts and "interrupted" in run.failures[-1]["error"]
        begun = [thread for thread in threading.enumerate() if thread not in others]
        assert begun and all(thread.daemon for thread in begun)
        release.set()
