"""A person who inspects by keyboard: the episode as text in the terminal, one typed line a turn."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env.agents.base import Batch, is_batch
from actfer_env.boxes import Box
from actfer_env.envs.actions import Move, codec_for
from actfer_env.episode import ANSWER, State
from actfer_env.errors import ActFERError, DataError, LabelError
from actfer_env.tools.schema import DETECT_ALIGN, ZOOM_IN

if TYPE_CHECKING:
    from rich.console import Console

    from actfer_env.rollout import Rollout

HELP = (
    "d               detect and align the face",
    "z REGION        zoom in, such as z 4 or z mouth",
    "a EMOTION AUS   answer, such as a happiness 6 12, or a 4 6,12",
    "?               this help, with all Action Units",
    "q               stop; finished episodes are kept",
)
_SHADES = " .:-=+*#%@"
_STATES = {State.RAW: "raw picture", State.ALIGNED: "face aligned", State.NO_FACE: "no face was found"}


class StopPlayingError(Exception):
    """Raised by `PersonAgent` where the person stops, or where no line is left to read."""


class PersonAgent:
    """Asks a person for each action.

    What is not legal now, or cannot be read, is explained and asked again; it costs no turn. The pictures are drawn
    with coloured blocks where the terminal has colours, and with grey shades of characters elsewhere.

    Args:
        action_space: the single action space of an environment of this package.
        au_set: the environment's Action Units.
        console: console of rich to print on; None is standard output.
        read: returns the next line, and "" at the end; None reads standard input.
        width: columns of a picture.
    """

    def __init__(
        self, action_space: gym.Space[Any], au_set: Sequence[int] = facs.CORE_AUS, *, console: Console | None = None,
        read: Callable[[], str] | None = None, width: int = 36,
    ) -> None:  # fmt: skip
        from rich.console import Console

        self._codec, self.au_set = codec_for(action_space, au_set), tuple(au_set)
        self.console = console or Console(highlight=False)
        self._read = read or sys.stdin.readline
        self._width = width
        self._shown: tuple[str, ...] = ()

    def reset(self, n: int) -> None:
        """Start with nothing shown."""
        self._shown = ()

    def act(self, obs: Batch, info: Batch) -> Any:
        """Show the observation, and return the action that the person types; see `Agent.act`.

        Raises:
            StopPlayingError: the person stops.
            DataError: the observation is a batch.
        """
        if is_batch(obs):
            raise DataError("a person plays one episode at a time: use gym.make, not a vector environment")
        self._show(obs, info)
        while True:
            self.console.print("> ", end="")
            line = self._read()
            if not line or line.strip().lower() in ("q", "quit", "exit"):
                self.console.print("" if line else "(end of input)")
                raise StopPlayingError
            if not sys.stdin.isatty():  # what is typed on a terminal is seen there
                self.console.print(line.strip(), markup=False)
            try:
                move = self._move(line.split(), obs)
            except (ActFERError, ValueError) as error:
                self.console.print(f"  {error}", markup=False)
                continue
            if move is not None:
                return self._codec.encode(move)

    def tell(self, rollout: Rollout, lines: Sequence[str]) -> None:
        """Print how an episode ended: the answer, the label, and its reward in words.

        Args:
            rollout: the episode.
            lines: of `actfer_env.rewards.explain.explain_rollout`.
        """
        self.console.rule("reward", align="left")
        said = "nothing: turns used up" if rollout.predicted_emotion is None else _answer(
            rollout.predicted_emotion, rollout.predicted_aus)  # fmt: skip
        self.console.print(f"  you said {said}", markup=False)
        self.console.print(f"  label: {_answer(rollout.emotion or 'no emotion', rollout.aus)}", markup=False)
        for line in lines:
            self.console.print(f"  {line}", markup=False)

    def _move(self, words: list[str], obs: Batch) -> Move | None:
        """Return what a line asks for; None after help.

        Raises:
            ValueError: it is not legal now, or cannot be read.
        """
        head, rest = (words[0].lower() if words else "?"), words[1:]
        state, zooms = State(int(obs["state"])), legal_regions(obs)
        if head in ("?", "h", "help"):
            for line in HELP:
                self.console.print(f"  {line}", markup=False)
            names = ", ".join(f"{unit} {facs.AU_NAMES[unit]}" for unit in self.au_set)
            self.console.print(f"  Action Units: {names}", markup=False)
            return None
        if head in ("d", "detect"):
            if state != State.RAW:
                raise ValueError("the face was searched for already: zoom or answer")
            return Move(DETECT_ALIGN)
        if head in ("z", "zoom"):
            if not zooms:
                why = "detect first" if state == State.RAW else "no zoom is left: answer"
                raise ValueError(why if state != State.NO_FACE else "there is no face to zoom into: answer")
            region = _chosen(" ".join(rest), facs.REGIONS, facs.parse_region, "region")
            if region not in zooms:
                raise ValueError(f"{region} was magnified already: {', '.join(zooms)} are left")
            return Move(ZOOM_IN, region, Box(*map(float, obs["region_boxes"][facs.REGIONS.index(region)])))
        if head in ("a", "answer"):
            if not rest:
                raise ValueError("name an emotion, such as: a happiness 6 12")
            emotion = _chosen(rest[0], facs.EMOTIONS, facs.parse_emotion, "emotion")
            units = facs.parse_aus(", ".join(rest[1:]).replace(",,", ",")) if rest[1:] else frozenset()
            unknown = sorted(units - set(self.au_set))
            if unknown:
                raise ValueError(f"{', '.join(map(facs.format_au, unknown))} do not count here; ? lists those that do")
            return Move(ANSWER, emotion=emotion, aus=frozenset(units))
        raise ValueError(f"{head!r} is not known: d, z REGION, a EMOTION AUS, ? or q")

    def _show(self, obs: Batch, info: Batch) -> None:
        """Print the newest pictures, what the tool said, and what can be done now."""
        from rich.columns import Columns
        from rich.panel import Panel

        state, turns = State(int(obs["state"])), int(obs["turns_left"])
        pictures = {"raw": obs["image"]}
        if state == State.ALIGNED:
            pictures["face"] = obs["face"]
        slots = [i for i, there in enumerate(obs["crop_mask"]) if there]
        pictures |= {f"crop {i + 1}": obs[f"crop_{i}"] for i in slots}
        fresh = [name for name in pictures if name not in self._shown]
        self._shown = tuple(pictures)
        self.console.rule(f"{info['sample_id']}: {_STATES[state]}, {turns} turns left", align="left")
        if message := info.get("message"):
            self.console.print(f"  {message}", markup=False)
        if fresh:
            self.console.print(Columns([
                Panel(self._picture(np.asarray(pictures[name])), title=name, expand=False) for name in fresh
            ]))  # fmt: skip
        zooms = legal_regions(obs)
        if state == State.RAW:
            self.console.print("  d  detect and align the face")
        if zooms:
            named = "  ".join(f"{facs.REGIONS.index(name) + 1} {name}" for name in zooms)
            self.console.print(f"  z  zoom: {named}", markup=False)
        emotions = [f"{i} {name}" for i, name in enumerate(facs.EMOTIONS, 1)]
        self.console.print(f"  a  answer: {'  '.join(emotions[:4])}", markup=False)
        self.console.print(f"             {'  '.join(emotions[4:])}; then Action Units", markup=False)
        self.console.print("  ?  help   q  stop", markup=False)

    def _picture(self, picture: NDArray[np.uint8]) -> Any:
        """Return a picture as text: two pixels a character where there are colours, else shades of grey."""
        import cv2
        from rich.style import Style
        from rich.text import Text

        text, side = Text(), self._width
        if self.console.color_system in (None, "standard", "windows"):
            # A character is about twice as high as it is wide.
            small = cv2.resize(picture, (side, side // 2), interpolation=cv2.INTER_AREA)
            grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(float)
            low, high = np.percentile(grey, (2, 98))
            shade = np.clip((grey - low) / max(high - low, 1.0), 0, 1) * (len(_SHADES) - 1)
            return Text(
                "\n".join("".join(_SHADES[value] for value in row) for row in shade.round().astype(int).tolist())
            )
        small = cv2.resize(picture, (side, side // 2 * 2), interpolation=cv2.INTER_AREA)
        for upper, lower in zip(small[::2].tolist(), small[1::2].tolist(), strict=True):
            for above, below in zip(upper, lower, strict=True):
                text.append("▀", Style(color=_hex(above), bgcolor=_hex(below)))
            text.append("\n")
        text.rstrip()
        return text


def legal_regions(obs: Batch) -> tuple[str, ...]:
    """Return the regions that a zoom may name now, of a single observation."""
    mask, boxes = np.asarray(obs["action_mask"], bool), np.asarray(obs["region_boxes"])
    if len(mask) > len(facs.REGIONS) + 1:  # an entry for each region
        return tuple(name for i, name in enumerate(facs.REGIONS, 1) if mask[i])
    used = [box for box, there in zip(obs["crop_boxes"], obs["crop_mask"], strict=True) if there]
    free = [not any(np.allclose(box, other, atol=1e-4) for other in used) for box in boxes]
    return tuple(name for name, left in zip(facs.REGIONS, free, strict=True) if left and mask[1])


def _chosen(text: str, names: Sequence[str], parse: Callable[[str], str], what: str) -> str:
    """Return the name that a number, the beginning of a name, or a spelling stands for."""
    if text.isdecimal() and 1 <= int(text) <= len(names):
        return names[int(text) - 1]
    starting = [name for name in names if text and name.startswith(text.lower())]
    if len(starting) == 1:
        return starting[0]
    try:
        return parse(text)
    except LabelError as error:
        known = ", ".join(f"{i} {name}" for i, name in enumerate(names, 1))
        raise ValueError(f"{text or 'nothing'!r} is no {what}: {known}") from error


def _answer(emotion: str, aus: frozenset[int] | None) -> str:
    units = "AUs unlabelled" if aus is None else " ".join(map(facs.format_au, sorted(aus))) or "no AUs"
    return f"{emotion}, {units}"


def _hex(colour: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
