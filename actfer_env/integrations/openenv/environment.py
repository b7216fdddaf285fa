"""`FaceEnvironment`: one session's episodes as an OpenEnv environment, within the bounds of a `FaceService`."""

from __future__ import annotations

import threading
import uuid
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any

from gymnasium.utils.seeding import np_random
from jinja2 import Environment as Templates
from jinja2 import PackageLoader, StrictUndefined

from actfer_env._version import __version__
from actfer_env.chat import ChatEpisode, ChatStep, to_openai
from actfer_env.chat.messages import Message, data_url, with_data_urls
from actfer_env.errors import DataError, plain, short
from actfer_env.facs import EMOTIONS
from actfer_env.images import RGB
from actfer_env.integrations.network import LONGEST_NAME, ServiceError
from actfer_env.integrations.openenv.models import FaceAction, FaceObservation, FaceState
from actfer_env.integrations.served import FaceService
from actfer_env.packages import needs

with needs("openenv"):
    from openenv.core.env_server.interfaces import Environment
    from openenv.core.env_server.types import EnvironmentMetadata

PICTURES = "pictures"
"""Name of the split that the roots' pictures are, where no data set is served."""


class Tasks:
    """The samples of a service by split, or the pictures of its roots; made once for all sessions.

    Args:
        service: The data set, or the roots.
    """

    def __init__(self, service: FaceService) -> None:
        self._service = service

    @cached_property
    def splits(self) -> dict[str, Any]:
        """Name of the split -> its samples' places in the data set, or its paths."""
        dataset = self._service.dataset
        if dataset is None:
            return {PICTURES: list(self._service.roots.names())}
        whole = dataset.arguments.get("split")
        if whole is not None:
            return {str(whole): range(len(dataset))}
        found: dict[str, list[int]] = {}
        for place, sample in enumerate(dataset):
            found.setdefault(sample.split or dataset.name, []).append(place)
        return found

    def of(self, split: str) -> Any:
        """Return the places or paths of a split.

        Raises:
            ServiceError: there is no such split.
        """
        if not isinstance(split, str) or split not in self.splits:
            raise ServiceError(f"there is no split {short(split)}: use {' or '.join(self.splits)}")
        return self.splits[split]

    def named(self, split: str, index: int) -> dict[str, str]:
        """Return what `FaceService.start` takes for a task.

        Raises:
            ServiceError: there is no such split.
            IndexError: the split has no such task.
        """
        known = self.of(split)
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(known):
            raise IndexError(f"task {short(index)} is beyond the {len(known)} tasks of split {split!r}")
        dataset = self._service.dataset
        return {"path": known[index]} if dataset is None else {"sample": dataset[known[index]].id}

    def drawn(self, number: Callable[[int], int]) -> dict[str, str]:
        """Return one of all tasks, given a function that draws a number below a bound.

        Raises:
            ServiceError: there is none.
        """
        dataset = self._service.dataset
        if dataset is not None:
            return {"sample": dataset[number(len(dataset))].id}
        paths = self.of(PICTURES)
        if not paths:
            raise ServiceError("there is no picture below the roots")
        return {"path": paths[number(len(paths))]}


class FaceEnvironment(Environment[FaceAction, FaceObservation, FaceState]):
    """Agentic facial expression recognition: look at a face with tools, answer with an emotion and Action Units.

    Each session has an instance of its own; what they share are the service, which bounds their calls, and the tools'
    cache. Rewards are those of a group of one; `FaceObservation.record` gives what whole groups are scored from.

    Args:
        service: The tools, samples and bounds.
        tasks: The service's tasks.
        room: Lock that as many hold at a time as may work.
        shown: Keep the pictures of the running episode, to draw them on the page at ``/web``.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(
        self,
        service: FaceService,
        tasks: Tasks | None = None,
        room: threading.BoundedSemaphore | None = None,
        shown: bool = False,
    ) -> None:
        super().__init__()
        self.service, self.tasks, self._shown = service, tasks or Tasks(service), shown
        self._room = room or threading.BoundedSemaphore(service.config.workers)
        self._random, _ = np_random()
        self._episode: ChatEpisode | None = None
        self._scored: dict[str, Any] = {}
        self._id: str | None = None
        self._steps, self._plain = 0, False

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> FaceObservation:
        """Begin an episode.

        Args:
            seed: Fixes which samples follow, as in Gymnasium.
            episode_id: Name of the episode; default is a new one.
            kwargs: ``split`` and ``index`` of a task, or the ``sample``'s id in the data set, or the ``path`` of a
                picture below the roots; without them one is drawn. ``group`` marks episodes that belong together.
                ``plain=True`` leaves what tools say in messages of the role "tool", one for each call, as trainers
                need it whose chat templates write the tags.

        Returns:
            The instructions, the question with its picture, and the tools.

        Raises:
            ServiceError: an argument is unknown or no such task exists; a session may go on after it.
            ImageError: the picture cannot be read.
            DataError: there is no such sample.
        """
        unknown = sorted(set(kwargs) - {"split", "index", "sample", "path", "group", "plain"})
        if unknown:
            raise ServiceError(
                f"unknown argument {short(unknown[0])}: use split and index, sample, path, group, or plain"
            )
        as_trainers = kwargs.pop("plain", False)
        if not isinstance(as_trainers, bool):
            raise ServiceError(f"plain must be true or false, got {short(as_trainers)}")
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63):
            raise ServiceError(f"seed must be a whole number from 0 below 2**63, got {short(seed)}")
        texts = {"episode_id": episode_id, **{key: value for key, value in kwargs.items() if key != "index"}}
        for name, value in texts.items():
            if value is not None and (not isinstance(value, str) or len(value) > LONGEST_NAME or plain(value) != value):
                raise ServiceError(f"{name} must be a text of at most 1,024 characters, got {short(value)}")
        with self.service.admitted(), self._room:
            if seed is not None:
                self._random, _ = np_random(seed)
            where = {name: kwargs[name] for name in ("sample", "path") if kwargs.get(name) is not None}
            if kwargs.get("split") is not None or kwargs.get("index") is not None:
                if where:
                    raise ServiceError("give either split and index, or sample, or path")
                split = kwargs.get("split") or next(iter(self.tasks.splits))
                try:
                    index = kwargs.get("index")
                    drawn = int(self._random.integers(len(self.tasks.of(split)))) if index is None else index
                    where = self.tasks.named(split, drawn)
                except IndexError as error:
                    raise ServiceError(str(error)) from None
            elif not where:
                where = self.tasks.drawn(lambda bound: int(self._random.integers(bound)))
            episode = self.service.start(**where, group=kwargs.get("group"), seed=seed)
            self._episode, self._scored, self._plain = episode, {}, as_trainers
            self._id, self._steps = episode_id or uuid.uuid4().hex, 0
            return self._observe(episode, episode.messages, episode.images, tools=episode.tools)

    def step(self, action: FaceAction, timeout_s: float | None = None, **kwargs: Any) -> FaceObservation:
        """Play one assistant turn, or end the episode without one.

        Args:
            action: The turn. One that cannot be read, or breaks a rule, costs a turn and is answered.
            timeout_s: Not looked at: a turn takes milliseconds.
            kwargs: Not looked at.

        Returns:
            The tools' results; at the end the reward, its terms, and the target.

        Raises:
            ServiceError: no episode has begun, it is over, or too many calls come.
            ImageError: the picture cannot be read any more.
        """
        episode = self._running()
        if episode.done:
            raise ServiceError("the episode is over: call reset")
        with self.service.admitted(), self._room:
            played: ChatStep | None = None
            if action.stop:
                episode.stop(action.stop)
            else:
                played = episode.step(action.text, action.tool_calls, reasoning=action.reasoning or None)
            self._steps += 1
            told: dict[str, Any] = {"reward": 0.0, "violations": list(played.violations) if played else []}
            if episode.done:
                rollout = episode.rollout()
                scored = self.service.scored(rollout)
                terms = scored["reward"]
                self._scored = {"reward": float(terms["total"]), "reward_terms": terms, "correct": scored["correct"],
                                "target": scored["target"], "why": scored["why"]}  # fmt: skip
                told |= {**self._scored, "rollout": rollout.to_dict()}
                try:
                    self.service.keep(rollout)
                except (OSError, DataError) as error:  # the client has its episode all the same
                    warnings.warn(f"an episode of sample {rollout.sample_id} was not kept: {error}", stacklevel=2)
            shown = (played.messages, played.images) if played else ((), ())
            return self._observe(episode, *shown, **told)

    @property
    def state(self) -> FaceState:
        """State of the session; before the first reset there is no episode."""
        one = self._episode
        if one is None:
            return FaceState(episode_id=self._id, step_count=0)
        left = max(one.episode.turns_left, 0)
        return FaceState(episode_id=self._id, step_count=self._steps, sample_id=one.sample.id, done=one.done,
                         turns_left=left)  # fmt: skip

    def close(self) -> None:
        """Forget the episode."""
        self._episode = None

    def get_metadata(self) -> EnvironmentMetadata:
        """Return the environment's name, description and version."""
        return EnvironmentMetadata(name="actfer", description=" ".join(str(type(self).__doc__).split("\n")[0].split()),
                                   version=__version__)  # fmt: skip

    def list_splits(self) -> list[str]:
        """Return the names of the splits; "pictures" is that of the roots.

        Raises:
            ServiceError: too many calls come, as for all that clients ask.
        """
        with self.service.admitted():
            return list(self.tasks.splits)

    def num_tasks(self, split: str) -> int:
        """Return how many tasks a split has.

        Raises:
            ServiceError: there is no such split.
        """
        with self.service.admitted():
            return len(self.tasks.of(split))

    def get_task(self, split: str, index: int) -> dict[str, Any]:
        """Return a task: its split, index, and the sample's id or the picture's path, which may tell the label.

        Raises:
            ServiceError: there is no such split.
            IndexError: it has no such task.
        """
        with self.service.admitted():
            return {"split": split, "index": index, **self.tasks.named(split, index)}

    def get_task_range(self, split: str, start: int | None = None, stop: int | None = None) -> list[dict[str, Any]]:
        """Return up to 1,000 tasks of a split, by the bounds of a slice."""
        with self.service.admitted():
            places = range(len(self.tasks.of(split)))[slice(start, stop)][:1000]
            return [{"split": split, "index": place, **self.tasks.named(split, place)} for place in places]

    def list_tasks(self, split: str) -> list[dict[str, Any]]:
        """Return the first 1,000 tasks of a split."""
        return self.get_task_range(split)

    def render_web(self, observation: dict[str, Any]) -> str | None:
        """Return HTML that shows the whole episode so far: what was asked, called, shown, answered and earned."""
        episode = self._episode
        if episode is None or not self._shown:
            return None
        urls, turns = iter([data_url(picture) for picture in episode.images]), []
        for message in episode.messages[1:]:
            parts = message["content"]
            turns.append({
                "role": message["role"],
                "pictures": [next(urls) for part in parts if part["type"] == "image"],
                "texts": [part["text"] for part in parts if part["type"] == "text"],
                "calls": [one["function"] for one in message.get("tool_calls", ())],
            })  # fmt: skip
        templates = Templates(
            loader=PackageLoader("actfer_env.integrations.openenv", "templates"), autoescape=True,
            undefined=StrictUndefined,
        )  # fmt: skip
        return templates.get_template("episode.html.j2").render(
            turns=turns, scored=self._scored, turns_left=max(episode.episode.turns_left, 0), done=episode.done
        )

    def web_actions(self, observation: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """Return what may be done now as one-click actions: each legal tool, each region, each emotion."""
        episode = self._episode
        if episode is None or episode.done:
            return []
        legal, actions = episode.episode.legal_tools(), []
        if "detect_align" in legal:
            actions.append(("detect_align", FaceAction.call("detect_align")))
        if "zoom_in" in legal and episode.episode.alignment is not None:
            actions += [
                (f"zoom_in {name}", FaceAction.call("zoom_in", regions=[name]))
                for name in episode.episode.alignment.regions
            ]
        actions += [(f"answer {name}", FaceAction.answer(name)) for name in EMOTIONS]
        return [(label, action.model_dump(exclude={"metadata"})) for label, action in actions]

    def _running(self) -> ChatEpisode:
        if self._episode is None:
            raise ServiceError("no episode has begun: call reset first (plain HTTP requests keep none; use /ws)")
        return self._episode

    def _observe(
        self, episode: ChatEpisode, messages: list[Message] | tuple[Message, ...], images: Any, **told: Any
    ) -> FaceObservation:
        pictures: tuple[RGB, ...] = tuple(images)
        if not self._shown:
            episode.images.clear()  # they are the client's now
        inner = episode.episode
        written = with_data_urls if self._plain else to_openai
        return FaceObservation(
            messages=written(messages, pictures), legal=list(inner.legal_tools()),
            turns_left=max(inner.turns_left, 0), done=episode.done, **told,
        )  # fmt: skip
