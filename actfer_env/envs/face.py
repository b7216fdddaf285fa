"""`ActFEREnv`: an inspection episode as a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env.data import Dataset
from actfer_env.data.registry import as_dataset
from actfer_env.envs.actions import CODECS, ActionCodec, ActionFormat, Magnified
from actfer_env.envs.observations import ObservationLayout, ObservationWriter
from actfer_env.envs.panel import Panel, show_window
from actfer_env.envs.reset import Choice, EpisodeEnv
from actfer_env.episode import Episode, EpisodeConfig, Zooming
from actfer_env.images import RGB
from actfer_env.rewards import UCGRPO, Scores, UCGRPOConfig
from actfer_env.tools import FaceTools
from actfer_env.tools.align import check_size
from actfer_env.tools.detectors import Detector
from actfer_env.tools.zoom import ZoomConfig

Observation = dict[str, Any]


class ActFEREnv(EpisodeEnv[Any]):
    """Agentic facial expression recognition as an episode.

    ## Description
    The policy sees a raw image. It may call face-detect-align, then zoom into regions of the aligned face, and
    answers with one of eight emotions and a set of facial Action Units (ActFER, sections 3.1 and 3.4).

    ## Action space
    Three formats, chosen by the id:

    | id | space | entries |
    |----|-------|---------|
    | `ActFER-v0` | `Dict` | tool `Discrete(3)`: 0 detect_align, 1 zoom_in, 2 answer |
    | | | box `Box(0, 1, (4,))`: (cx, cy, w, h) in the aligned frame, clipped to it |
    | | | emotion `Discrete(8)`; aus `MultiBinary(n)` |
    | `ActFER-MultiDiscrete-v0` | `MultiDiscrete([6, 8, 2, ..., 2])` | 0 detect_align, 1-4 zoom into a region, |
    | | | 5 answer; the emotion; one bit for each Action Unit |
    | `ActFER-Discrete-v0` | `Discrete(13)` | 0 detect_align, 1-4 zoom into a region, 5-12 answer with an emotion, |
    | | | whose FACS prototype is taken as the Action Units |

    Regions and emotions are numbered as in `facs.REGIONS` and `facs.EMOTIONS`, bits in ascending order of Action Unit.
    An action outside the space raises `ValueError`, and no turn is spent.

    ## Observation space
    A `Dict`; with the default sizes about 68 KB.

    | key | space | meaning |
    |-----|-------|---------|
    | `image` | uint8 (96, 96, 3) | the raw image, fitted into the square |
    | `face` | uint8 (64, 64, 3) | the aligned face; black before and without one |
    | `crop_0` ... `crop_3` | uint8 (48, 48, 3) | the zoomed crops, in order of the calls; black where none |
    | `crop_boxes` | float32 (4, 4) | their boxes (x1, y1, x2, y2) in the aligned frame |
    | `crop_mask` | int8 (4,) | 1 where there is a crop |
    | `region_boxes` | float32 (4, 4) | the boxes of the four regions; zero before and without a face |
    | `state` | Discrete(3) | 0 raw, 1 aligned, 2 no face |
    | `turns_left` | Discrete(max_turns + 1) | |
    | `action_mask` | int8 | 1 where an action is legal: (3,), (13,), or the parts of the MultiDiscrete joined |

    ## Rewards
    Zero until the episode ends; then the UC-GRPO reward, task + structure + utility + quality, of the episode as a
    group of one (so the utility is the symmetric fallback). `info["reward_terms"]` holds the terms. For groups use
    `actfer_env.rewards.UCGRPO` on the collected rollouts.

    ## Starting state
    A sample of the data set, drawn uniformly; `reset(options={"sample": 17})` (index or id) chooses one. A
    pre-aligned sample starts in the state aligned.

    ## Episode end
    Termination: an answer. Truncation: `max_turns` turns without one; an illegal action costs a turn as well, changes
    nothing, and is recorded as a violation. An episode within gymnasium's `TimeLimit` (`gym.make(...,
    max_episode_steps=3)`, or the wrapper itself) has that many turns, where they are fewer: it is scored like any
    other, and `turns_left` counts them. Wrappers of your own are heard where they keep their limit as `TimeLimit` does,
    in `_max_episode_steps`.

    ## Info
    | key | when | meaning |
    |-----|------|---------|
    | `sample_id`, `action_mask` | always | |
    | `sample_mask` | always | the mask as `env.action_space.sample(mask)` takes it, see `sample_mask()` |
    | `message` | after a step | what the tool said |
    | `violation` | after a step | its name, or None |
    | `tool` | after a step | what was called: "detect_align", "zoom_in" or "answer" |
    | `result` | after a step | what it found, as a dict; treat it as read-only |
    | `rollout`, `reward_terms` | at the end | the `Rollout`, and term -> value |
    | `rule`, `delta`, `lambda`, ... | at the end | where the utility comes from: `Scores.reading`; of a group of one |

    `result` after detect_align: `faces` (how many were found; 0 has no other entries), `score` of the aligned one,
    `index` (its place by size), `box` (x1, y1, x2, y2 in pixels), `regions` (name -> box in the aligned frame).
    After zoom_in: `crops`, a list of `region` (None for a free box), `box` (in the aligned frame), `inside` (the share
    of the box that lies in the picture), `native` (source pixels per crop pixel), `size`. After a violation: `error`.
    After an answer it is empty.

    ## Arguments
    Args:
        dataset: A registered name or a loaded `Dataset`; "prepared:FOLDER" shows the pictures that are kept there.
        root: Folder or file of the data set, for those that need one.
        split: "auto" is the train split where the data set has splits, and all where it has none; "train", "val" or
            "test" is refused where the data set lacks it; None is all (of drawn data sets: "train").
        detector: A detector's spec, or a detector; "auto" is "simulated" on drawn samples and "mtcnn" on photos.
        au_set: Action Units of targets and answers, or the name of a set: "core", "disfa", "disfa7", "disfa12" or
            "facial_r1".
        max_turns: Calls and answer together, at least 1.
        max_zooms: Crops in an episode; the observation has as many slots.
        image_size: Side of `image` in pixels, at least 16.
        face_size: Side of `face`.
        crop_size: Side of the crops.
        reward: Constants of the reward.
        render_mode: "rgb_array" (a panel, uint8 (540, 960, 3)), "human" (the same in a window), or None.
        action_format: "dict", "multidiscrete" or "discrete"; fixed by the registered ids.
        tools: Tools to share with other environments; overrides `detector` and `crop_size`.
        preset: Preset of drawn data sets: "easy", "standard", "hard", "mixed" or "subtle"; None is the data set's own.
        zoom: "free"; "never" makes zooming illegal, "always" an answer before the first zoom (`EpisodeConfig.zoom`).

    Raises:
        DataError: the data set is unknown or empty.
        DetectorError: at the first detection, if the detector lacks its extra or weights.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "human"], "render_fps": 2}

    def __init__(  # noqa: PLR0913, PLR0917  (gym.make passes every argument by name)
        self,
        dataset: str | Dataset = "synthetic",
        root: str | None = None,
        split: str | None = "auto",
        detector: str | Detector = "auto",
        au_set: str | Sequence[int] = facs.CORE_AUS,
        max_turns: int = 6,
        max_zooms: int = 4,
        image_size: int = 96,
        face_size: int = 64,
        crop_size: int = 48,
        reward: UCGRPOConfig | None = None,
        render_mode: str | None = None,
        action_format: ActionFormat = "dict",
        tools: FaceTools | None = None,
        preset: str | None = None,
        zoom: Zooming = "free",
    ) -> None:
        for name, size in (("image_size", image_size), ("face_size", face_size), ("crop_size", crop_size)):
            check_size(size, name)
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"unknown render_mode {render_mode!r}: use one of {self.metadata['render_modes']}")
        if action_format not in CODECS:
            raise ValueError(f"unknown action_format {action_format!r}: use one of {', '.join(CODECS)}")
        self.dataset = as_dataset(dataset, root, split, preset)
        units = facs.parse_au_set(au_set) if isinstance(au_set, str) else tuple(au_set)
        self.config = EpisodeConfig(max_turns, max_zooms, units, zoom=zoom)
        self.codec: ActionCodec = CODECS[action_format](self.config.au_set)
        if tools is None and (kept := self.dataset.views) is not None:
            kept.check(detector, image_size=image_size, face_size=face_size, crop_size=crop_size)
            tools = kept.tools(self.dataset)
        self.tools = tools or FaceTools(detector, zoom=ZoomConfig(size=crop_size, stretch=True))
        if not self.tools.zoom.stretch:
            raise ValueError("crops of these tools are not square: build them with zoom=ZoomConfig(stretch=True)")
        self.layout = ObservationLayout(
            image_size, face_size, self.tools.zoom.size, max(max_zooms, 1), max_turns, self.codec.mask_size
        )
        self.image_size, self.face_size, self.crop_size = image_size, face_size, self.layout.crop_size
        self.scorer = UCGRPO(reward or UCGRPOConfig())
        self.render_mode = render_mode
        self.action_space = self.codec.space
        self.observation_space = self.layout.space
        self.episode: Episode | None = None
        self._scores: Scores | None = None
        self._writer = ObservationWriter(self.layout, self.codec, self.layout.arrays(1))

    @property
    def au_set(self) -> tuple[int, ...]:
        """The Action Units of targets and answers, in the order of the answer's bits."""
        return self.config.au_set

    def action_masks(self) -> NDArray[np.bool_]:
        """Return the current action mask as booleans, the way sb3-contrib's MaskablePPO asks for it."""
        return self.codec.mask(self._running()).astype(bool)

    def sample_mask(self) -> Any:
        """Return what `action_space.sample(mask)` takes to draw a legal action now; `info` has it as well.

        Returns:
            An int8 array (13,) for `Discrete`; a tuple of int8 arrays, one for each entry, for `MultiDiscrete`; for
            `Dict` a dict with `tool` int8 (3,), `emotion` int8 (8,), `aus` int8 (n,) of 2 (free), and `box`, the boxes
            that were magnified before (`actfer_env.envs.actions.Magnified`), beside which a new one is drawn.
        """
        episode = self._running()
        mask = self.codec.mask(episode).copy()
        return self.codec.sample_mask(mask, Magnified(episode.zoomed_boxes, self.tools.zoom))

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Play one turn; see the class for actions, rewards and info.

        Args:
            action: An action of `action_space`.

        Returns:
            Observation, reward (0 until the episode ends), terminated, truncated, info.

        Raises:
            RuntimeError: `reset` was not called, or the episode is over.
            ValueError: the action is not of the space.
        """
        episode = self._running()
        move = self.codec.decode(action)
        result = move.play(episode)
        self._writer.update(0, episode)
        self._writer.flush()
        info = self._info() | {
            "message": result.message, "violation": result.violation, "tool": move.tool, "result": episode.reading(),
        }  # fmt: skip
        reward = 0.0
        if episode.done:
            rollout = episode.rollout(meta={"aus_derived": True} if self.codec.derives_aus else None)
            self._scores = self.scorer.score([rollout])
            terms = self._scores.terms(0)
            reward = terms["total"]
            info |= {"rollout": rollout, "reward_terms": terms, **self._scores.reading(0)}
        self._show()
        return self._observe(), reward, episode.done and not episode.truncated, episode.truncated, info

    def render(self) -> RGB | None:
        """Return the panel for "rgb_array", uint8 (540, 960, 3); show it in a window for "human"."""
        if self.render_mode is None:
            gym.logger.warn("render() needs a render_mode: pass render_mode='rgb_array' to gym.make")
            return None
        panel = Panel().draw(self._running(), self._scores)
        if self.render_mode == "rgb_array":
            return panel
        show_window(panel, self.metadata["render_fps"])
        return None

    def close(self) -> None:
        """Close the window, if there is one."""
        show_window(None)

    def _drop(self) -> None:
        self.episode = self._scores = None

    def _start(self, choice: Choice, config: EpisodeConfig, seed: int | None) -> tuple[Observation, dict[str, Any]]:
        sample, group, member = choice
        episode = Episode(sample, self.tools, config, group_id=group, member=member, seed=seed)
        self._writer.start(0, [episode])
        self._writer.flush()
        self.episode = episode
        self._show()
        return self._observe(), self._info()

    def _running(self) -> Episode:
        if self.episode is None:
            raise RuntimeError("call reset() before step(), render() or action_masks()")
        return self.episode

    def _show(self) -> None:
        if self.render_mode == "human":
            self.render()

    def _info(self) -> dict[str, Any]:
        episode = self._running()
        mask = self.codec.mask(episode).copy()
        return {"sample_id": episode.sample.id, "action_mask": mask, "sample_mask": self.sample_mask()}

    def _observe(self) -> Observation:
        return {key: values[0].copy() for key, values in self._writer.arrays.items()}
