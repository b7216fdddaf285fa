"""`OpenAIChatAgent`: any OpenAI-compatible endpoint as the policy of conversations. Needs `[api]`.

Nothing is sent anywhere unless the user names the endpoint. The key is read from an environment variable and never
stored or logged.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actfer_env.agents.base import Usage
from actfer_env.chat import ChatEpisode, to_openai
from actfer_env.errors import ActFERError
from actfer_env.rollout import write_text_atomic

_NO_CHAT = "did not answer as a chat endpoint (is the address right, with its /v1?)"
_TOO_LONG = ("context_length_exceeded", "context length", "maximum context", "too many tokens", "prompt is too long")
"""How servers say that a conversation has outgrown the model: OpenAI, vLLM, SGLang, Anthropic's bridge."""


class EndpointError(ActFERError, RuntimeError):
    """An endpoint that cannot be used, or that stopped answering."""


@dataclass(frozen=True)
class EndpointConfig:
    """How an endpoint is used; all chosen here.

    Attributes:
        url: base address, such as "http://localhost:8000/v1".
        model: the model's name there.
        key_variable: environment variable with the key; servers without keys need none.
        concurrency: conversations at once.
        retries: of a call, with the client's growing pauses.
        timeout: of a call, seconds.
        max_tokens: written in one turn.
        temperature: None leaves it to the server.
        seed: sent with every call, plus the episode's member; None sends none.
        images_in_tool: send pictures inside tool messages; most servers take them from users only.
        token_budget: tokens of all calls together, after which no episode is begun; None is no bound.
        cache: folder of answers, which are not asked for again; None keeps none.
    """

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    concurrency: int = 4
    retries: int = 5
    timeout: float = 120.0
    max_tokens: int = 1024
    temperature: float | None = None
    seed: int | None = None
    images_in_tool: bool = False
    token_budget: int | None = None
    cache: str | None = None

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise EndpointError(f"endpoint {self.url!r} is no address: write it as http://HOST:PORT/v1")
        if self.concurrency < 1 or self.retries < 0 or self.timeout <= 0 or self.max_tokens < 1:
            raise EndpointError("concurrency and max_tokens must be at least 1, retries 0, and timeout above 0")


@dataclass(frozen=True)
class Dialogue:
    """A finished conversation with an endpoint."""

    episode: ChatEpisode


class OpenAIChatAgent:
    """Plays conversations with an OpenAI-compatible endpoint: hosted APIs, vLLM, SGLang, `transformers serve`.

    With ``ChatConfig(calls="native")`` tools go beside the messages and come back as `tool_calls`; with "text" the
    calls stand in the turn, and the prompt should hold the schemas (``schemas_in_prompt=True``).

    Args:
        config: address, model and limits.
        client: an `openai.OpenAI`, for those who need their own transport.

    Raises:
        EndpointError: the client is not installed.
    """

    def __init__(self, config: EndpointConfig, client: Any = None) -> None:
        self.config, self.name = config, config.model
        self.settings = {
            name: getattr(config, name) for name in ("max_tokens", "temperature", "seed", "images_in_tool")
        }
        """What the turns depend on; not the address, so that a server may move."""
        self.total = Usage()
        """What all conversations have cost so far; cached answers cost nothing."""
        self._client = client or _client(config)
        self._lock = threading.Lock()

    def play(self, episodes: Iterable[ChatEpisode]) -> Iterator[tuple[Dialogue, Usage]]:
        """Play episodes to their ends, `concurrency` at once.

        Yields:
            Each finished dialogue and what it cost.

        Raises:
            EndpointError: the endpoint stopped answering, refuses the key or the request, or the token budget is
                used up; what was finished before is yielded first.
        """
        waiting = iter(episodes)
        failed: BaseException | None = None
        running: set[Future[tuple[Dialogue, Usage]]] = set()
        with ThreadPoolExecutor(self.config.concurrency) as pool:
            while True:
                if failed is None:
                    failed = self._fill(pool, running, waiting)
                if not running:
                    break
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    error = future.exception()
                    if error is None:
                        yield future.result()
                    else:
                        failed = failed or error
        if failed is not None:
            raise failed

    def _fill(
        self, pool: ThreadPoolExecutor, running: set[Any], waiting: Iterator[ChatEpisode]
    ) -> BaseException | None:
        """Begin episodes while there is room; return why no further one may begin."""
        while len(running) < self.config.concurrency:
            episode = next(waiting, None)
            if episode is None:
                return None
            budget, used = self.config.token_budget, self.total.prompt_tokens + self.total.completion_tokens
            if budget is not None and used >= budget:
                return EndpointError(f"the token budget of {budget} is used up ({used}); raise it and run again")
            running.add(pool.submit(self._play_one, episode))
        return None

    def _play_one(self, episode: ChatEpisode) -> tuple[Dialogue, Usage]:
        usage = Usage()
        while not episode.done:
            answer = self._answer(episode, usage)
            if "stop" in answer:
                episode.stop(answer["stop"])
                break
            calls = answer.get("tool_calls") if episode.chat.calls == "native" else None
            episode.step(answer.get("content") or "", calls or None)
        return Dialogue(episode), usage

    def _answer(self, episode: ChatEpisode, usage: Usage) -> dict[str, Any]:
        """Ask for the next turn, or take it from the cache."""
        request = self._request(episode)
        place = self._place(request, episode)
        if place is not None and place.exists():
            return dict(json.loads(place.read_text(encoding="utf-8")))
        start = time.perf_counter()
        answer, spent = self._ask(request)
        self._count(usage, *spent, time.perf_counter() - start)
        if place is not None:
            write_text_atomic(place, json.dumps(answer, ensure_ascii=False))
        return answer

    def _request(self, episode: ChatEpisode) -> dict[str, Any]:
        config = self.config
        messages = to_openai(episode.messages, episode.images, images_in_tool=config.images_in_tool)
        request: dict[str, Any] = {"model": config.model, "messages": messages, "max_tokens": config.max_tokens}
        if config.temperature is not None:
            request["temperature"] = config.temperature
        if config.seed is not None:
            request["seed"] = config.seed + episode.episode.member
        if episode.chat.calls == "native" and episode.tools:
            request["tools"] = episode.tools
        return request

    def _ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], tuple[int, int]]:
        import openai

        try:
            response = self._client.chat.completions.create(**request)
        except openai.APIConnectionError as error:
            tries = self.config.retries + 1
            why = f"{self.config.url} did not answer ({tries} tries): {error.__cause__ or error}"
            raise self._error(why, "; finished episodes are kept, run again to go on") from None
        except openai.APIStatusError as error:
            outcome = _outcome(error)
            if outcome is not None:
                return {"stop": outcome, "why": _line(error.message)}, (0, 0)
            why = f"{self.config.url} answered {error.status_code}: {error.message}"
            raise self._error(why) from None
        except (openai.APIError, ValueError) as error:
            raise self._error(f"{self.config.url} {_NO_CHAT}: {error}") from None
        if not getattr(response, "choices", None):
            why = getattr(response, "error", None) or str(response)
            raise self._error(f"{self.config.url} {_NO_CHAT}: {why}")
        return _reply(response), _spent(response)

    def _error(self, why: str, cure: str = "") -> EndpointError:
        """Return the error in one line, without the key: some servers quote it when they refuse it."""
        key = os.environ.get(self.config.key_variable)
        return EndpointError(_line(why.replace(key, "***") if key else why) + cure)

    def _count(self, usage: Usage, prompt: int, completion: int, seconds: float) -> None:
        with self._lock:
            for part in (usage, self.total):
                part.calls += 1
                part.prompt_tokens += prompt
                part.completion_tokens += completion
                part.seconds += seconds

    def _place(self, request: dict[str, Any], episode: ChatEpisode) -> Path | None:
        """Return where the answer to a request is kept; repeats of a sample have their own answers."""
        if self.config.cache is None:
            return None
        key = json.dumps([self.config.url, request, episode.episode.member], sort_keys=True)
        return Path(self.config.cache) / f"{hashlib.sha256(key.encode()).hexdigest()}.json"


@dataclass(frozen=True)
class Estimate:
    """What an evaluation would cost, estimated without a call.

    Attributes:
        episodes: counted.
        calls: of the endpoint.
        prompt_tokens: four characters, or 1,024 pixels, are taken for one.
        completion_tokens: 150 for each call (chosen here).
        cost: in the currency of the prices.
    """

    episodes: int
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float


def estimate(
    episodes: Iterable[ChatEpisode], price_in: float = 0.0, price_out: float = 0.0, written: int = 150
) -> Estimate:
    """Play a fixed script (detect, zoom twice, answer) and count what would be sent; nothing is.

    Args:
        episodes: fresh episodes.
        price_in: of a million prompt tokens.
        price_out: of a million completion tokens.
        written: tokens of a turn.
    """
    count = calls = prompt = 0
    for episode in episodes:
        count += 1
        for text in _script(episode):
            if episode.done:
                break
            calls += 1
            prompt += _size(episode)
            episode.step(text)
    cost = (prompt * price_in + calls * written * price_out) / 1e6
    return Estimate(count, calls, prompt, calls * written, cost)


def _script(episode: ChatEpisode) -> Sequence[str]:
    answer = '<answer>{"emotion": "neutral", "aus": []}</answer>'
    if not episode.chat.form.tools:
        return ["<think>.</think><answer>neutral</answer>"]
    calls = [
        ("detect_align", {}),
        ("zoom_in", {"regions": ["eye-periorbital"]}),
        ("zoom_in", {"regions": ["mouth-chin"]}),
    ]
    texts = [f"<tool_call>{json.dumps({'name': name, 'arguments': given})}</tool_call>" for name, given in calls]
    return [*texts, answer]


def _size(episode: ChatEpisode) -> int:
    parts = [part for message in episode.messages for part in message["content"] if part["type"] == "text"]
    pixels = sum(image.shape[0] * image.shape[1] for image in episode.images)
    return sum(len(part["text"]) for part in parts) // 4 + pixels // 1024


def _client(config: EndpointConfig) -> Any:
    try:
        import openai
    except ImportError:
        raise EndpointError("openai is missing: pip install 'actfer-env[api]'") from None
    key = os.environ.get(config.key_variable) or "none"
    return openai.OpenAI(base_url=config.url, api_key=key, max_retries=config.retries, timeout=config.timeout)


def _reply(response: Any) -> dict[str, Any]:
    """Return the turn as JSON values."""
    choice = response.choices[0]
    message = choice.message
    if getattr(message, "refusal", None) or choice.finish_reason == "content_filter":
        return {"stop": "refused", "why": getattr(message, "refusal", None) or "content filter"}
    calls = [call.model_dump(exclude_none=True) for call in message.tool_calls or []]
    return {"content": message.content or "", "tool_calls": calls}


def _spent(response: Any) -> tuple[int, int]:
    usage = getattr(response, "usage", None)
    return (usage.prompt_tokens or 0, usage.completion_tokens or 0) if usage else (0, 0)


def _outcome(error: Any) -> str | None:
    """Return how a refused request ends its episode; None where the fault is not the episode's."""
    text = f"{getattr(error, 'code', '')} {error.message}".lower()
    if error.status_code == 400 and "content_filter" in text:
        return "refused"
    too_long = error.status_code == 413 or (error.status_code == 400 and any(words in text for words in _TOO_LONG))
    return "too_long" if too_long else None


def _line(text: str) -> str:
    return " ".join(str(text).split())[:300]
