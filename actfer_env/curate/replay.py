"""Replay of curated lines: the conversation that a policy would have seen, played by the package's own episode."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from actfer_env.chat import ChatConfig, ChatEpisode, chat_tools
from actfer_env.curate.lines import Line, read_lines
from actfer_env.curate.options import CurateOptions
from actfer_env.curate.record import read_record
from actfer_env.data.references import sample_of
from actfer_env.episode import EpisodeConfig
from actfer_env.errors import ActFERError, DataError
from actfer_env.sample import Sample
from actfer_env.tools.face_tools import ONE_PASS, FaceTools


@dataclass(frozen=True)
class Curated:
    """A folder of `curate`, or one of its files of lines.

    Attributes:
        path: The file of lines.
        options: Options of the curation.
        detector: The detector's spec, which may be another than the curation's, such as its cache.
    """

    path: Path
    options: CurateOptions
    detector: str

    @classmethod
    def open(cls, place: Path, detector: str | None = None) -> Curated:
        """Open a curated folder's ``sft.jsonl``, or another file of lines in it.

        Raises:
            DataError: it is no such folder or file.
        """
        path = place / "sft.jsonl" if place.is_dir() else place
        if not path.is_file():
            raise DataError(f"there is no {path}: 'actfer data curate' writes it")
        options = read_record(path.parent)
        return cls(path, options, detector or options.detector)

    @property
    def chat(self) -> ChatConfig:
        """The conversation's settings."""
        return self.options.chat_config

    @property
    def episode(self) -> EpisodeConfig:
        """The episode's settings."""
        return self.options.episode_config

    @cached_property
    def tools(self) -> FaceTools:
        """Tools of the chat's size, shared by all lines."""
        return chat_tools(self.detector, self.chat, cache=ONE_PASS)

    @cached_property
    def count(self) -> int:
        """Number of lines."""
        return sum(1 for _ in self.lines())

    def lines(self) -> Iterator[Line]:
        """Yield the lines, one at a time."""
        return read_lines(self.path)

    def replay(self, line: Line) -> ChatEpisode:
        """Return the finished conversation of a line: the prompts, tool results and pictures of evaluation.

        Raises:
            DataError: the picture is gone or shows something else now, or the line cannot be played.
        """
        try:
            sample = target_sample(line)
            config = self.episode if line.zoom == "free" else replace(self.episode, zoom=line.zoom)
            episode = ChatEpisode(sample, self.tools, self.chat, config)
            for text in line.turns:
                episode.step(text)
        except (ActFERError, RuntimeError) as error:
            raise DataError(f"line {line.id!r} cannot be played: {error}") from error
        if not episode.done or episode.rollout().violations:
            raise DataError(f"line {line.id!r} is not what it was: its picture or the detector has changed")
        return episode

    def replays(self, lines: Iterable[Line] | None = None) -> Iterator[tuple[Line, ChatEpisode]]:
        """Yield each line with its finished conversation."""
        for line in self.lines() if lines is None else lines:
            yield line, self.replay(line)


def target_sample(line: Line) -> Sample:
    """Return a line's sample, with the line's targets for labels.

    Raises:
        DataError: its data set or picture is gone.
    """
    sample = sample_of(line.reference)
    return replace(sample, emotion=line.emotion, aus=line.units)
