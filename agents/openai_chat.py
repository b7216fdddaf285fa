"""`OpenAIChatAgent`: any OpenAI-compatible endpoint as the policy of conversations. Needs `[api]`.

Nothing is sent anywhere unless the user names the endpoint. The key is read from an environment variable and never
stored or logged.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias

from actfer_env.agents.base import Usage
from actfer_env.chat import ChatEpisode, to_openai
from actfer_env.errors import AgentError
from actfer_env.files import write_text_atomic

_NO_CHAT = "did not answer as a chat endpoint (is the address right, with its /v1?)"
_KEPT = "; finished episodes are kept, run again to go on"
_REFUSALS = 3
"""Conversations refused in a row after which the fault is taken to be every request's (chosen here)."""
_ADAPTABLE = {"max_tokens": "max_completion_tokens", "temperature": "", "seed": ""}
"""Parameter that some endpoints do not take -> the name that they take instead, or none."""
_UNSUPPORTED = re.compile(r"[Uu]nsupported (?:parameter|value): '(\w+)'|does not support|[Uu]n(?:supported|recognized)")
_TOO_LONG = ("context_length_exceeded", "context length", "maximum context", "too many tokens", "prompt is too long")
"""How servers say that a conversation has outgrown the model: OpenAI, vLLM, SGLang, Anthropic's bridge."""


class EndpointError(AgentError):
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
        token_budget: tokens of all calls of this agent, after which no episode is begun; None is no bound.
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
    """A conversation with an endpoint that is over.

    Attributes:
        episode: finished, unless there is an error.
        error: why the endpoint refuses this conversation, though it answers others; None where it was played.
    """

    episode: ChatEpisode
    error: str | None = None


class _RefusedError(EndpointError):
    """A request that the endpoint refuses, for its own sake or for what all requests have."""


_Result: TypeAlias = tuple[Dialogue, Usage, BaseException | None]


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
        self._names: dict[str, str] = {}

    def play(self, episodes: Iterable[ChatEpisode]) -> Iterator[tuple[Dialogue, Usage]]:
        """Play episodes to their ends, `concurrency` at once.

        Yields:
            Each finished dialogue and what it cost.

        Raises:
            EndpointError: the endpoint stopped answering, refuses the key or the request, or the token budget is
                used up; what was finished before is yielded first.
        """
        waiting, results = iter(episodes), SimpleQueue[_Result]()
        failed: BaseException | None = None
        running = refused = 0
        while True:
            while failed is None and running < self.config.concurrency and (episode := next(waiting, None)) is not None:
                failed = self._spent_up()
                if failed is None:
                    # A daemon, so that an interrupt need not wait for calls that are under way.
                    threading.Thread(target=self._work, args=(episode, results), daemon=True).start()
                    running += 1
            if not running:
                break
            dialogue, usage, error = results.get()
            running -= 1
            refused = refused + 1 if isinstance(error, _RefusedError) else 0
            if error is None:
                yield dialogue, usage
            elif refused and refused < _REFUSALS:
                yield Dialogue(dialogue.episode, str(error)), usage
            else:
                failed = failed or error
        if failed is not None:
            raise failed

    def _spent_up(self) -> EndpointError | None:
        budget, used = self.config.token_budget, self.total.prompt_tokens + self.total.completion_tokens
        if budget is None or used < budget:
            return None
        return EndpointError(f"the token budget of {budget} is used up ({used}); raise it and run again")

    def _work(self, episode: ChatEpisode, results: SimpleQueue[_Result]) -> None:
        """Play an episode, in a thread of its own."""
        try:
            results.put((*self._play_one(episode), None))
        except BaseException as error:
            results.put((Dialogue(episode), Usage(), error))

    def _play_one(self, episode: ChatEpisode) -> tuple[Dialogue, Usage]:
        usage = Usage()
        while not episode.done:
            answer = self._answer(episode, usage)
            if "stop" in answer:
                episode.stop(answer["stop"])
                break
            calls = answer.get("tool_calls") if episode.chat.calls == "native" else None
            episode.step(answer.get("content") or "", calls or None)
            if answer.get("cut"):
                episode.note_cut()
        return Dialogue(episode), usage

    def _answer(self, episode: ChatEpisode, usage: Usage) -> dict[str, Any]:
        """Ask for the next turn, or take it from the cache."""
        request = self._request(episode)
        place = self._place(request, episode)
        kept = _cached(place)
        if kept is not None:
            return kept
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

        sent = self._adapted(request)
        try:
            response = self._client.chat.completions.create(**sent)
        except openai.APIConnectionError as error:
            why = f"{self.config.url} did not answer ({self._tries}): {error.__cause__ or error}"
            raise self._error(why, _KEPT) from None
        except openai.APIStatusError as error:
            if self._adapt(error, sent):
                return self._ask(request)
            outcome = _outcome(error)
            if outcome is not None:
                return {"stop": outcome, "why": _line(error.message)}, (0, 0)
            raise self._refusal(error) from None
        except (openai.APIError, ValueError) as error:
            raise self._error(f"{self.config.url} {_NO_CHAT}: {error}") from None
        if not getattr(response, "choices", None) or getattr(response.choices[0], "message", None) is None:
            why = getattr(response, "error", None) or str(response)
            raise self._error(f"{self.config.url} {_NO_CHAT}: {why}")
        return _reply(response), _spent(response)

    @property
    def _tries(self) -> str:
        return f"{self.config.retries + 1} tries"

    def _adapted(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the request without what the endpoint has refused, or under the name that it takes."""
        with self._lock:
            renamed = {self._names.get(key, key): value for key, value in request.items()}
        return {key: value for key, value in renamed.items() if key}

    def _adapt(self, error: Any, sent: dict[str, Any]) -> bool:
        """Note a parameter that the endpoint does not take, and return whether to ask again without it.

        Reasoning models call `max_tokens` otherwise, and fix temperature and seed.
        """
        found = _UNSUPPORTED.search(str(error.message))
        name = getattr(error, "param", None) or (found and found[1])
        if error.status_code != 400 or not found or name not in _ADAPTABLE or name not in sent:
            return False
        with self._lock:
            known, self._names[name] = name in self._names, _ADAPTABLE[name]
        if known:  # another conversation was faster
            return True
        left = f"sent as {_ADAPTABLE[name]}" if _ADAPTABLE[name] else "left to the endpoint"
        warnings.warn(f"{self.config.url} takes no {name} for {self.config.model}: {left}", UserWarning, stacklevel=2)
        return True

    def _refusal(self, error: Any) -> EndpointError:
        """Return the error of an answer that is none, with its cure."""
        status = error.status_code
        why = f"{self.config.url} answered {status}: {error.message}"
        if status in (404, 405):
            return self._error(why, "; is the address right, with its /v1, and the model's name?")
        if status in (401, 403):
            return self._error(why, f"; the key is read from the environment variable {self.config.key_variable}")
        if status == 429 or status >= 500:
            return self._error(f"{why} ({self._tries})", _KEPT)
        return self._error(why, kind=_RefusedError)

    def _error(self, why: str, cure: str = "", kind: type[EndpointError] = EndpointError) -> EndpointError:
        """Return the error in one line, without the key: some servers quote it when they refuse it."""
        key = os.environ.get(self.config.key_variable)
        return kind(_line(why.replace(key, "***") if key else why) + cure)

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
    try:
        return openai.OpenAI(base_url=config.url, api_key=key, max_retries=config.retries, timeout=config.timeout)
    except Exception as error:  # the HTTP library's own complaint about the address
        raise EndpointError(f"endpoint {config.url!r} is no address ({_line(str(error))})") from error


def _cached(place: Path | None) -> dict[str, Any] | None:
    """Return a kept answer; one that is broken is asked for again."""
    if place is None or not place.exists():
        return None
    try:
        answer = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None


def _reply(response: Any) -> dict[str, Any]:
    """Return the turn as JSON values."""
    choice = response.choices[0]
    message = choice.message
    if getattr(message, "refusal", None) or choice.finish_reason == "content_filter":
        return {"stop": "refused", "why": getattr(message, "refusal", None) or "content filter"}
    calls = [call.model_dump(exclude_none=True) for call in message.tool_calls or []]
    answer = {"content": _text(message.content), "tool_calls": calls}
    return answer | ({"cut": True} if choice.finish_reason == "length" else {})


def _text(content: Any) -> str:
    """Return the text of a message whose content may be a list of parts, or nothing that is known."""
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _spent(response: Any) -> tuple[int, int]:
    usage = getattr(response, "usage", None)
    found = [getattr(usage, name, 0) for name in ("prompt_tokens", "completion_tokens")]
    prompt, written = (value if isinstance(value, int) else 0 for value in found)
    return prompt, written


def _outcome(error: Any) -> str | None:
    """Return how a refused request ends its episode; None where the fault is not the episode's."""
    text = f"{getattr(error, 'code', '')} {error.message}".lower()
    if error.status_code == 400 and "content_filter" in text:
        return "refused"
    too_long = error.status_code == 413 or (error.status_code == 400 and any(words in text for words in _TOO_LONG))
    return "too_long" if too_long else None


def _line(text: str) -> str:
    return " ".join(str(text).split())[:300]
