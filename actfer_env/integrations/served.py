"""`FaceService`: the tools and whole episodes for strangers behind a protocol, within bounds; it knows no protocol."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from actfer_env.bounds import bounded, check_fields
from actfer_env.chat import ChatConfig, ChatEpisode, chat_tools
from actfer_env.data import Dataset, Sample, load_dataset
from actfer_env.episode import EpisodeConfig
from actfer_env.errors import DataError, ImageError, SettingsError, short
from actfer_env.files import Journal
from actfer_env.images import LIMITS, RGB, load_image
from actfer_env.integrations.network import LONGEST_NAME, TRY_AGAIN, ServiceError, bound_size, downloads
from actfer_env.integrations.roots import Roots
from actfer_env.rewards import UCGRPO, UCGRPOConfig
from actfer_env.rollout import Rollout

ROLLOUTS = "rollouts.jsonl"
"""File of finished episodes within a service's folder."""


@dataclass(frozen=True)
class ServiceConfig:
    """Bounds of a service; chosen here.

    Attributes:
        max_bytes: Size of the largest file that is read.
        max_pixels: Width x height of the largest picture that is decoded.
        max_crops: Crops of one zoom_in outside episodes.
        max_episodes: Episodes that are open at a time.
        idle_seconds: Time after which an episode that nobody plays is forgotten.
        calls_per_minute: Calls that are taken in a minute; what was not used is kept for one minute.
        max_waiting: Calls that are being worked on or wait.
        workers: Calls that are worked on at a time, for whoever serves.
    """

    max_bytes: int = bounded(32 * 2**20, ge=1)
    max_pixels: int = bounded(25_000_000, ge=1024)
    max_crops: int = bounded(4, ge=1, le=16)
    max_episodes: int = bounded(1000, ge=1)
    idle_seconds: float = bounded(1800.0, gt=0)
    calls_per_minute: int = bounded(6000, ge=1)
    max_waiting: int = bounded(512, ge=1)
    workers: int = bounded(4, ge=1)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass
class _Open:
    """An episode that somebody plays."""

    episode: ChatEpisode
    used: float
    lock: threading.Lock = field(default_factory=threading.Lock)
    rollout: Rollout | None = None


@dataclass(frozen=True)
class Reply:
    """Answer to a request.

    Attributes:
        told: JSON values.
        pictures: Pictures, uint8 (H, W, 3) RGB, to be shown before it.
    """

    told: dict[str, Any]
    pictures: tuple[RGB, ...] = ()


class FaceService:
    """The two tools on pictures below folders, and episodes on these or on a data set.

    All methods may be called from many threads. Episodes are known by handles that cannot be guessed. Boxes are written
    as in conversations (`ChatConfig.coordinates`).

    Args:
        roots: Folders whose pictures may be read.
        detector: A detector's spec. One that would download its weights is refused: a service uses no network.
        config: Bounds.
        dataset: Data set whose samples may be played by their ids besides.
        chat: Formats and picture sizes.
        episode: Budgets of episodes.
        reward: Constants of the reward.
        out: Folder in which each finished episode is kept as a line of ``rollouts.jsonl`` at once; None keeps none.

    Attributes:
        unlabelled: Reason why the roots' pictures have no labels; empty if they may have some.

    Raises:
        SettingsError: there is neither a root nor a data set, or the detector would use the network.
        DataError: `out` holds something else.
    """

    def __init__(
        self,
        roots: Sequence[str | Path] = (),
        detector: str = "auto",
        config: ServiceConfig | None = None,
        dataset: Dataset | None = None,
        *,
        chat: ChatConfig | None = None,
        episode: EpisodeConfig | None = None,
        reward: UCGRPOConfig | None = None,
        out: str | Path | None = None,
    ) -> None:
        self.config, self.dataset = config or ServiceConfig(), dataset
        if not roots and dataset is None:
            raise SettingsError("there is nothing to serve: name a folder with --root, or a data set with --dataset")
        if downloads(detector):
            raise SettingsError(
                f"{detector} would be downloaded, and a server uses no network: give a folder of weights"
            )
        self.roots = Roots(roots, self.config.max_bytes)
        self.chat, self.episode_config = chat or ChatConfig(), episode or EpisodeConfig()
        self.tools = chat_tools(detector, self.chat)
        self.scorer = UCGRPO(reward or UCGRPOConfig())
        self.unlabelled = ""
        self._labels = self._read_labels()
        self._episodes: dict[str, _Open] = {}
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._waiting, self._tokens, self._filled = 0, float(self.config.calls_per_minute), time.monotonic()
        self._journal: Journal[Rollout] | None = None
        if out is not None:
            self._journal = Journal(Path(out) / ROLLOUTS, Rollout.from_dict)
            self._journal.read()  # what a killed server has half written is mended

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a call as being worked on, within the bounds on calls.

        Raises:
            ServiceError: too many calls came, in a minute or at a time.
        """
        with self._lock:
            now, rate = time.monotonic(), self.config.calls_per_minute
            self._tokens = min(float(rate), self._tokens + (now - self._filled) * rate / 60.0)
            self._filled = now
            if self._waiting >= self.config.max_waiting:
                raise ServiceError(f"{self._waiting} calls are waiting already: {TRY_AGAIN}")
            if self._tokens < 1.0:
                raise ServiceError(f"more than {rate} calls came in a minute: {TRY_AGAIN}")
            self._tokens -= 1.0
            self._waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1

    def pictures(self, start: int = 0, limit: int = 100) -> Reply:
        """Return the paths of the roots' pictures, and the ids of the data set, from the `start`-th on.

        Args:
            start: Number of the first, from 0.
            limit: Most names of each, at most 1,000.
        """
        start, limit = max(start, 0), min(max(limit, 1), 1000)
        paths = list(islice(self.roots.names(), start, start + limit))
        ids = range(start, min(start + limit, len(self.dataset))) if self.dataset is not None else ()
        samples = [self.dataset[i].id for i in ids] if self.dataset is not None else []
        return Reply({"paths": paths, "samples": samples})

    def detect_align(self, path: str) -> Reply:
        """Find the face of a picture and bring it upright; the reply has it, and the boxes of its regions.

        Raises:
            ImageError: the picture cannot be read.
        """
        return _without_episode(self._call(self._alone(self._sample(path)), "detect_align", {}))

    def zoom_in(self, path: str, regions: Sequence[str] | None = None, boxes: Sequence[Any] | None = None) -> Reply:
        """Magnify regions of a picture's face, by names or boxes; the reply has one crop for each.

        Raises:
            ImageError: the picture cannot be read.
            ServiceError: no face is found, or the regions or boxes are none; the message says what is.
        """
        episode = self._alone(self._sample(path))
        if "error" in self._call(episode, "detect_align", {}).told or episode.episode.alignment is None:
            raise ServiceError(f"no face was found in {short(path)}: there is nothing to zoom into")
        given = {"regions": regions, "boxes": boxes}
        reply = self._call(episode, "zoom_in", {name: value for name, value in given.items() if value is not None})
        if "error" in reply.told:
            raise ServiceError(_without_episode(reply).told["message"])
        return _without_episode(reply)

    def start(
        self, path: str | None = None, sample: str | None = None, group: str | None = None, seed: int | None = None
    ) -> ChatEpisode:
        """Return a new episode as `open` does, for a server that keeps its clients' episodes apart itself.

        Raises:
            ImageError: the picture cannot be read.
            DataError: there is no such sample.
            ServiceError: both or neither are given.
        """
        if (path is None) == (sample is None):
            raise ServiceError("give either path or sample")
        if group is not None and len(group) > LONGEST_NAME:
            raise ServiceError(f"group must have at most {LONGEST_NAME:,} characters")
        if path is not None:
            chosen = self._sample(path)
        elif self.dataset is None:
            raise ServiceError("there is no data set here: give a path")
        else:
            chosen = self.dataset[self.dataset.find(str(sample))]
        return ChatEpisode(chosen, self.tools, self.chat, self.episode_config, group_id=group, seed=seed)

    def open(self, path: str | None = None, sample: str | None = None, group: str | None = None) -> Reply:
        """Open an episode on a picture, or on a sample of the data set.

        Args:
            path: The picture's path below the roots.
            sample: The sample's id.
            group: Query group of the episode, for the record; default is the sample's id.

        Returns:
            The handle, the instructions and the question, what may be called, and the picture.

        Raises:
            ImageError: the picture cannot be read.
            DataError: there is no such sample.
            ServiceError: both or neither are given, or too many episodes are open.
        """
        episode = self.start(path, sample, group)
        handle, now = secrets.token_urlsafe(12), time.monotonic()
        with self._lock:
            old = [key for key, one in self._episodes.items() if now - one.used > self.config.idle_seconds]
            for key in old:
                del self._episodes[key]
            if len(self._episodes) >= self.config.max_episodes:
                raise ServiceError(f"{len(self._episodes)} episodes are open already: score some, or try again later")
            self._episodes[handle] = _Open(episode, now)
        system, user = ("".join(part.get("text", "") for part in one["content"]) for one in episode.messages[:2])
        told = {"episode": handle, "instructions": system, "question": user, "tools": episode.tools}
        shown = tuple(episode.images)
        episode.images.clear()  # they are the client's now
        return Reply({**told, **self._state(episode)}, shown)

    def call(self, episode: str, name: str, arguments: Mapping[str, Any] | None = None) -> Reply:
        """Call a tool in an episode, legal or not; a refused call costs a turn, and the reply says what is legal.

        Raises:
            ServiceError: there is no such episode, or it is over.
        """
        bound_size(name, arguments)
        with self._playing(episode) as one:
            return self._finish(one, self._call(one.episode, str(name), dict(arguments or {})))

    def answer(self, episode: str, emotion: str, aus: Sequence[str] | None = None) -> Reply:
        """Answer, which ends the episode; an unknown emotion costs a turn instead.

        Raises:
            ServiceError: there is no such episode, or it is over.
        """
        bound_size(emotion, aus)
        with self._playing(episode) as one:
            step = one.episode.step(f"<answer>{json.dumps({'emotion': emotion, 'aus': list(aus or ())})}</answer>")
            said = [part["text"] for message in step.messages for part in message["content"] if "text" in part]
            told = (
                {"error": step.violations[0], "message": " ".join(said)} if step.violations else {"message": "answered"}
            )
            return self._finish(one, Reply(told))

    def score(self, episode: str) -> Reply:
        """Score a finished episode as a group of one, tell its target, and forget it.

        Raises:
            ServiceError: there is no such episode, or it is not over.
        """
        one = self._find(episode)
        with one.lock:
            if not one.episode.done:
                raise ServiceError("the episode is not over: answer first, or use up its turns")
            rollout = self._recorded(one)
        with self._lock:
            self._episodes.pop(episode, None)
        return Reply(self.scored(rollout))

    def scored(self, rollout: Rollout) -> dict[str, Any]:
        """Return the reward of a finished episode as a group of one, term by term, and its target, as JSON values."""
        scores = self.scorer.score([rollout])
        aus = None if rollout.aus is None else sorted(rollout.aus)
        told = {"reward": scores.terms(0), "correct": rollout.correct, "truncated": rollout.truncated,
                "target": {"emotion": rollout.emotion, "aus": aus}}  # fmt: skip
        return {**told, "why": self.scorer.explain([rollout], scores, 0)}

    def keep(self, rollout: Rollout) -> None:
        """Keep the record of a finished episode in the service's folder, if it has one."""
        if self._journal is not None:
            with self._writing:  # a lock of its own: calls are not kept waiting for the disk
                self._journal.append(rollout.to_dict())

    def _read_labels(self) -> dict[str, Sample]:
        """Return the labelled pictures of the roots by path; the first root that has a picture of a path wins."""
        found: dict[str, Sample] = {}
        for number, folder in enumerate(self.roots.folders):
            try:
                photos = load_dataset("photos", root=str(folder))
            except (DataError, ImageError) as error:  # ImageError: there is no picture
                self.unlabelled = str(error)
                continue
            for sample in photos:
                place = Path(str(sample.source))
                if sample.emotion is None or not place.is_relative_to(folder):
                    continue
                path = place.relative_to(folder)
                if not any((above / path).exists() for above in self.roots.folders[:number]):
                    found[path.as_posix()] = sample
        return found

    def _sample(self, path: str) -> Sample:
        """Return a picture as a sample whose cache key is its content."""
        content = self.roots.read(path)
        limits = replace(LIMITS, max_pixels=self.config.max_pixels)
        mark = hashlib.sha256(content).hexdigest()[:16]

        def load() -> RGB:  # reads again, so that open episodes hold no files
            again = self.roots.read(path)
            if hashlib.sha256(again).hexdigest()[:16] != mark:
                raise ImageError(f"{short(path)} has changed since: begin again")
            return load_image(again, name=short(path), limits=limits)

        labels = self._labels.get(path)
        names = ("emotion", "aus", "prealigned")
        known: dict[str, Any] = {} if labels is None else {name: getattr(labels, name) for name in names}
        return Sample(
            path, load, meta={"dataset": "roots", "image": f"{path}#{mark}"}, **known,
        )  # fmt: skip

    def _alone(self, sample: Sample) -> ChatEpisode:
        config = EpisodeConfig(max_turns=3, max_zooms=self.config.max_crops)
        return ChatEpisode(sample, self.tools, self.chat, config)

    def _call(self, episode: ChatEpisode, name: str, arguments: Mapping[str, Any]) -> Reply:
        step = episode.step(None, [{"id": "call", "function": {"name": name, "arguments": json.dumps(arguments)}}])
        texts = [part["text"] for message in step.messages for part in message["content"] if "text" in part]
        episode.images.clear()
        return Reply(json.loads(texts[-1]) if texts else {}, step.images)

    def _find(self, handle: str) -> _Open:
        with self._lock:
            one = self._episodes.get(handle)
            if one is None:
                raise ServiceError("there is no such episode: open one; it may have been forgotten after a while")
            one.used = time.monotonic()
            return one

    @contextmanager
    def _playing(self, handle: str) -> Iterator[_Open]:
        """Hold an episode that is not over for one turn."""
        one = self._find(handle)
        with one.lock:
            if one.episode.done:
                raise ServiceError("the episode is over: score it, or open another")
            yield one

    def _finish(self, one: _Open, reply: Reply) -> Reply:
        """Add where the episode stands to a reply, and keep the record of one that is over."""
        if one.episode.done:
            self._recorded(one)
        return Reply({**reply.told, **self._state(one.episode)}, reply.pictures)

    def _recorded(self, one: _Open) -> Rollout:
        """Return the record of an episode that is over; it is kept first, and tried again where that has failed."""
        if one.rollout is None:
            rollout = one.episode.rollout()
            self.keep(rollout)
            one.rollout = rollout
        return one.rollout

    @staticmethod
    def _state(episode: ChatEpisode) -> dict[str, Any]:
        inner = episode.episode
        return {"legal": list(inner.legal_tools()), "turns_left": max(inner.turns_left, 0), "done": episode.done}


def _without_episode(reply: Reply) -> Reply:
    """Return a reply without the words on what an episode may call next."""
    message, found, after = str(reply.told["message"]).partition(" Legal now: ")
    hint = after.partition("answer. ")[2] if found else ""
    return Reply({**reply.told, "message": f"{message} {hint}".strip()}, reply.pictures)
