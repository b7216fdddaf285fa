"""`OpenAIChatAgent`: any OpenAI-compatible endpoint as the policy of conversations. Needs `[api]`.

Nothing is sent anywhere unless the user names the endpoint. The key is read from an environment variable, once. Neither
it nor what an address holds of user, password and query is stored, printed or logged.
"""

from __future__ import annotations

# Longer than 400 lines: all that is sent to an endpoint, and all that comes back, is read in one place.
import hashlib
import json
import re
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from actfer_env.agents.base import ChatTrajectory, Usage
from actfer_env.agents.estimate import Estimate, estimate
from actfer_env.agents.masking import EndpointError, Mask, address, login_header, read_key, secrets_of
from actfer_env.agents.refusals import cure_of, kind_of
from actfer_env.agents.replies import inner_error, is_full, read_reply, said_by, tokens_spent
from actfer_env.bounds import bounded, check_fields
from actfer_env.chat import ChatEpisode, to_openai
from actfer_env.chat.messages import Message, without_reasoning
from actfer_env.files import check_writable, write_text_atomic
from actfer_env.images import RGB

__all__ = [
    "EndpointConfig", "EndpointError", "Estimate", "OddReplyError", "OpenAIChatAgent", "RefusedError", "estimate",
]  # fmt: skip

_NO_CHAT = "did not answer as a chat endpoint (is the address right, with its /v1?)"
_KEPT = "; finished episodes are kept, run again to go on"
_REFUSALS = 3
"""Conversations refused in a row, at their first turn, after which the fault is taken to be every request's (chosen
here)."""
_HOPELESS = 10
"""Conversations refused at any turn, before a single one was finished, after which no more are begun (chosen here)."""
_ADAPTABLE = {"max_tokens": "max_completion_tokens", "temperature": "", "seed": ""}
"""Parameter that some endpoints do not take -> the name that they take instead, or none."""
_UNSUPPORTED = re.compile(r"[Uu]nsupported (?:parameter|value): '(\w+)'|does not support|[Uu]n(?:supported|recognized)")
_REASONING_WANTED = re.compile(r"reasoning.*(?:miss|must|requir|expect|passed)|(?:miss|requir).*reasoning", re.I | re.S)
"""Servers that take a history of tool calls only together with its reasoning (DeepSeek)."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, repr=False)
class EndpointConfig:
    """Settings of an endpoint's use; all chosen here.

    Attributes:
        url: Base address, such as "http://localhost:8000/v1". A user and password in it are sent as such, a query
            (``?api-version=...``) with every call; `address` is the same without them.
        model: The model's name there.
        key_variable: Name of the environment variable with the key; servers without keys need none.
        concurrency: Conversations at once.
        retries: Retries of a call, with the client's growing pauses.
        timeout: Longest time of a call, seconds.
        max_tokens: Written in one turn.
        temperature: None leaves it to the server.
        seed: Sent with every call, plus the episode's member; None sends none.
        images_in_tool: Send pictures inside tool messages; most servers take them from users only.
        token_budget: Tokens of all calls of this agent, after which no episode is begun; None is no bound.
        cache: Folder of answers, which are not asked for again; None keeps none.
    """

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    concurrency: int = bounded(4, ge=1)
    retries: int = bounded(5, ge=0)
    timeout: float = bounded(120.0, gt=0)
    max_tokens: int = bounded(1024, ge=1)
    temperature: float | None = bounded(None, ge=0)
    seed: int | None = bounded(None)
    images_in_tool: bool = False
    token_budget: int | None = bounded(None, ge=1)
    cache: str | None = None

    def __post_init__(self) -> None:
        check_fields(self, EndpointError)
        object.__setattr__(self, "url", self.url.strip())
        if not _is_address(self.url):
            raise EndpointError(f"endpoint {self.address!r} is no address: write it as http://HOST:PORT/v1")
        if not _VARIABLE.fullmatch(self.key_variable):  # it may be the key itself
            raise EndpointError("key_variable must be the name of an environment variable, such as OPENAI_API_KEY")

    @property
    def address(self) -> str:
        """The address without user, password and query: what names the endpoint in messages and records."""
        return address(self.url)

    def __repr__(self) -> str:
        shown = {one.name: getattr(self, one.name) for one in fields(self)} | {"url": self.address}
        return f"EndpointConfig({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


class RefusedError(EndpointError):
    """A request that the endpoint refuses, for its own sake or for what all requests have."""

    begun = False


class OddReplyError(EndpointError):
    """An answer that is none of a chat endpoint's."""


_Result: TypeAlias = tuple[ChatTrajectory, Usage, BaseException | None]


class OpenAIChatAgent:
    """Plays conversations with an OpenAI-compatible endpoint: hosted APIs, vLLM, SGLang, `transformers serve`.

    With ``ChatConfig(calls="native")`` tools go beside the messages and come back as `tool_calls`; with "text" the
    calls stand in the turn, and the prompt should hold the schemas (``schemas_in_prompt=True``).

    Args:
        config: Address, model and limits.
        client: An `openai.OpenAI`, for those who need their own transport.

    Raises:
        EndpointError: the client is not installed, or the key cannot be one.
    """

    def __init__(self, config: EndpointConfig, client: Any = None) -> None:
        self.config, self.name = config, config.model
        self.settings = {
            name: getattr(config, name) for name in ("max_tokens", "temperature", "seed", "images_in_tool")
        } | {"endpoint": config.address}
        """What the turns depend on, as JSON values; no secret is among them."""
        self.total = Usage()
        """What all conversations have cost so far; cached answers cost nothing."""
        key = read_key(config.key_variable) if client is None else str(getattr(client, "api_key", None) or "")
        self._mask = Mask(*secrets_of(config.url, key, config.key_variable))
        self._mask.guard_logs()
        self._client = client or _client(config, key, self._mask)
        self._lock = threading.Lock()
        self._names: dict[str, str] = {}
        self._reasoning_wanted = False

    def play(self, episodes: Iterable[ChatEpisode]) -> Iterator[tuple[ChatTrajectory, Usage]]:
        """Play episodes to their ends, `concurrency` at once.

        Yields:
            Each finished conversation and what it cost.

        Raises:
            EndpointError: the endpoint stopped answering, refuses the key or the request, or the token budget is
                used up; what was finished before is yielded first.
        """
        waiting, results = iter(episodes), SimpleQueue[_Result]()
        failed: BaseException | None = None
        running = finished = refused = in_a_row = 0
        while True:
            while failed is None and running < self.config.concurrency and (episode := next(waiting, None)) is not None:
                failed = self._spent_all()
                if failed is None:
                    # A daemon, so that an interrupt need not wait for calls that are under way.
                    threading.Thread(target=self._work, args=(episode, results), daemon=True).start()
                    running += 1
            if not running:
                break
            played, usage, error = results.get()
            running -= 1
            if error is None:
                finished, in_a_row = finished + 1, 0
                yield played, usage
                continue
            if not isinstance(error, RefusedError):
                failed = failed or error
                continue
            refused, in_a_row = refused + 1, 0 if error.begun else in_a_row + 1
            if in_a_row < _REFUSALS and (finished or refused < _HOPELESS):
                yield ChatTrajectory(played.episode, str(error), error.begun), usage
            else:
                failed = failed or error
        if failed is not None:
            raise failed

    def ask(
        self, messages: Sequence[Message], images: Sequence[RGB] = (), *, member: int = 0
    ) -> tuple[dict[str, Any], Usage]:
        """Ask a question outside of any episode; several threads may ask at once.

        Args:
            messages: Messages with placeholders for pictures.
            images: Their pictures, uint8 (H, W, 3) RGB.
            member: Number that is added to the seed, so that asking again gives another answer.

        Returns:
            The answer ("content", perhaps "reasoning" and "cut", or "stop" and "why" where it was refused), without
            secrets, and what it cost.

        Raises:
            EndpointError: as `play`; also where the endpoint refuses this request, and where the token budget is used
                up.
        """
        failed = self._spent_all()
        if failed is not None:
            raise failed
        usage = Usage()
        return self._spend(self._question(messages, images, member), usage, first=True), usage

    def _spent_all(self) -> EndpointError | None:
        """Return the error of a token budget that is used up, or None."""
        used, budget = self.total.prompt_tokens + self.total.completion_tokens, self.config.token_budget
        if budget is None or used < budget:
            return None
        return EndpointError(f"the token budget of {budget} is used up ({used}); raise it and run again")

    def _work(self, episode: ChatEpisode, results: SimpleQueue[_Result]) -> None:
        """Play an episode to its end, in a thread of its own."""
        usage = Usage()
        try:
            while not episode.done:
                answer = self._answer(episode, usage)
                if "stop" in answer:
                    episode.stop(answer["stop"], answer.get("why") or "", answer.get("status"))
                    break
                calls = answer.get("tool_calls") if episode.chat.calls == "native" else None
                episode.step(answer.get("content") or "", calls or None, reasoning=answer.get("reasoning"))
                if answer.get("cut"):
                    episode.note_cut()
            results.put((ChatTrajectory(episode), usage, None))
        except BaseException as error:
            results.put((ChatTrajectory(episode), Usage(), error))

    def _answer(self, episode: ChatEpisode, usage: Usage) -> dict[str, Any]:
        """Return the next turn: found in the cache, or asked for, masked, counted and kept."""
        request = self._request(episode)
        place: Path | None = None
        if self.config.cache is not None:
            key = json.dumps([self.config.address, request, episode.episode.member], sort_keys=True)
            place = Path(self.config.cache) / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
            kept = _cached(place)
            if kept is not None:
                return kept
            check_writable(place.parent)  # an answer that could not be kept would be paid for again
        answer = self._spend(request, usage, first=not episode.texts)
        if place is not None and answer.get("status") is None:  # a server's refusal may be mended
            write_text_atomic(place, json.dumps(answer, ensure_ascii=False))
        return answer

    def _spend(self, request: dict[str, Any], usage: Usage, first: bool) -> dict[str, Any]:
        """Send a request; return the answer without secrets, and count what it cost."""
        start = time.perf_counter()
        answer, (prompt, completion) = self._ask(request, first)
        seconds = time.perf_counter() - start
        with self._lock:
            for part in (usage, self.total):
                part.calls += 1
                part.prompt_tokens += prompt
                part.completion_tokens += completion
                part.seconds += seconds
        found: dict[str, Any] = self._mask.hide_in(answer)
        return found

    def _request(self, episode: ChatEpisode) -> dict[str, Any]:
        request = self._question(episode.messages, episode.images, episode.episode.member)
        if episode.chat.calls == "native" and episode.tools:
            request["tools"] = episode.tools
        return request

    def _question(self, messages: Sequence[Message], images: Sequence[RGB], member: int) -> dict[str, Any]:
        config = self.config
        sent = to_openai(messages, images, images_in_tool=config.images_in_tool, reasoning=True)
        request: dict[str, Any] = {"model": config.model, "messages": sent, "max_tokens": config.max_tokens}
        if config.temperature is not None:
            request["temperature"] = config.temperature
        if config.seed is not None:
            request["seed"] = config.seed + member
        return request

    def _ask(self, request: dict[str, Any], first: bool) -> tuple[dict[str, Any], tuple[int, int]]:
        """Send a request, and return the turn, or how the endpoint ends the conversation, and the tokens spent."""
        import openai

        while True:
            sent = self._adapted(request)
            try:
                response = self._client.chat.completions.create(**sent)
                break
            except openai.APIConnectionError as error:
                why = f"{self.config.address} did not answer ({self._tries}): {error.__cause__ or error}"
                raise self._error(why, _KEPT) from None
            except openai.APIStatusError as error:
                if not self._adapt(error, sent):
                    return self._refused(error.status_code, said_by(error), first), (0, 0)
            except (openai.OpenAIError, ValueError) as error:
                if not first and kind_of(None, str(error), first) == "length":
                    return self._refused(None, str(error), first), (0, 0)
                raise OddReplyError(str(self._error(f"{self.config.address} {_NO_CHAT}: {error}"))) from None
        status, said = inner_error(response)
        if said is not None and (not first or kind_of(status, said, first) == "length"):
            return self._refused(status, said, first), (0, 0)
        if not getattr(response, "choices", None) or getattr(response.choices[0], "message", None) is None:
            raise OddReplyError(str(self._error(f"{self.config.address} {_NO_CHAT}: {said or response}")))
        answer, spent = read_reply(response), tokens_spent(response)
        if is_full(answer, response, first):
            said = "the answer ended at the bound on length before its first token"
            return self._refused(None, f"context length exceeded: {said}", first), spent
        return answer, spent

    @property
    def _tries(self) -> str:
        return f"{self.config.retries + 1} tries"

    def _adapted(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the request without what the endpoint has refused, or under the name that it takes."""
        with self._lock:
            renamed = {self._names.get(key, key): value for key, value in request.items()}
            wanted = self._reasoning_wanted
        messages = []
        for message in request["messages"]:
            if message["role"] != "assistant":
                messages.append(message)
            elif wanted:
                messages.append({**message, "reasoning_content": message.get("reasoning_content", "")})
            else:
                messages.append(without_reasoning(message))
        return {key: value for key, value in (renamed | {"messages": messages}).items() if key}

    def _adapt(self, error: Any, sent: dict[str, Any]) -> bool:
        """Note what the endpoint does not take, or misses, and return whether to ask again.

        Reasoning models call `max_tokens` otherwise, fix temperature and seed, and may want their reasoning back.
        """
        if error.status_code in (400, 422) and _REASONING_WANTED.search(said_by(error)) and not _has_reasoning(sent):
            with self._lock:
                self._reasoning_wanted = True
            return True
        found = _UNSUPPORTED.search(str(error.message))
        name = getattr(error, "param", None) or (found and found[1])
        if error.status_code not in (400, 422) or not found or name not in _ADAPTABLE or name not in sent:
            return False
        with self._lock:
            known, self._names[name] = name in self._names, _ADAPTABLE[name]
        if known:  # another conversation was faster
            return True
        left = f"sent as {_ADAPTABLE[name]}" if _ADAPTABLE[name] else "left to the endpoint"
        told = f"{self.config.address} takes no {name} for {self.config.model}: {left}"
        warnings.warn(told, UserWarning, stacklevel=2)
        return True

    def _refused(self, status: int | None, said: str, first: bool) -> dict[str, Any]:
        """Return how a refusal ends its conversation.

        Raises:
            EndpointError: the fault is in the settings, the server or the request; with its cure.
        """
        kind, why = kind_of(status, said, first), f"{self.config.address} answered {status or 'with an error'}: {said}"
        if kind == "key":
            raise self._error(why, f"; the key is read from the environment variable {self.config.key_variable}")
        if kind == "address":
            raise self._error(why, "; is the address right, with its /v1, and the model's name?")
        if kind == "busy":
            raise self._error(f"{why} ({self._tries})", _KEPT)
        if kind == "other" or (first and kind == "length"):
            cure = cure_of(said, self.config.max_tokens) if kind == "length" else ""
            refusal = RefusedError(_line(self._mask.hide(why)) + cure)
            refusal.begun = not first
            raise refusal from None
        outcome = "refused" if kind == "filtered" else "too_long"
        return {"stop": outcome, "why": _line(self._mask.hide(why)), "status": status or 200}

    def _error(self, why: str, cure: str = "") -> EndpointError:
        """Return the error in one line, without secrets: some servers quote the key when they refuse it."""
        return EndpointError(_line(self._mask.hide(why)) + cure)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        whole = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return whole and parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable() and " " not in url


def _client(config: EndpointConfig, key: str, mask: Mask) -> Any:
    """Return the HTTP client; user, password and query of the address go into every request, not into its address."""
    try:
        import openai
    except ImportError:
        raise EndpointError("openai is missing: pip install 'actfer-env[api]'") from None
    parts = urlsplit(config.url)
    base = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    try:
        return openai.OpenAI(
            base_url=base, api_key=key or "none", max_retries=config.retries, timeout=config.timeout,
            default_headers=login_header(config.url), default_query=dict(parse_qsl(parts.query)),
        )  # fmt: skip
    except Exception as error:  # the HTTP library's own complaint about the address
        why = _line(mask.hide(str(error)))
    raise EndpointError(f"endpoint {config.address!r} is no address ({why})")


def _cached(place: Path) -> dict[str, Any] | None:
    """Return a kept answer; one that is broken is asked for again."""
    if not place.exists():
        return None
    try:
        answer = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) and answer.get("stop") != "too_long" else None


def _has_reasoning(request: dict[str, Any]) -> bool:
    turns = [message for message in request["messages"] if message["role"] == "assistant"]
    return not turns or any("reasoning_content" in message for message in turns)


def _line(text: str) -> str:
    return " ".join(str(text).split())[:300]
