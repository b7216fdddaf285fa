"""A run on disk: `rollouts.jsonl`, and `run.json` with all that is needed to recompute the rewards.

The folder stands for itself: rewards follow from the rollouts, the stored configuration and the scorer's state before
the run, so anybody can audit them later.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from actfer_env import facs
from actfer_env._version import GENERATOR_VERSION, __version__
from actfer_env.errors import ActFERError, DataError
from actfer_env.files import write_text_atomic
from actfer_env.identity import refuse_other
from actfer_env.rewards import TERMS, UCGRPO, Scores, UCGRPOConfig
from actfer_env.rollout import Rollout, read_rollouts, write_rollouts

RUN_SCHEMA = 1
RUN_FILE, ROLLOUT_FILE, REPORT_FILE = "run.json", "rollouts.jsonl", "report.html"
PICTURE_FOLDER = "pictures"
"""Of a run that carries its pictures, the folder in its own."""
FIRST_GENERATOR = 2
"""Version of the generator that made the runs which do not name it."""


class Rollouts(tuple[Rollout, ...]):
    """Finished rollouts of a run, which a table of pandas can be made of."""

    __slots__ = ()

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` of a row for each rollout; see `evaluation.frames.rollouts_frame`.

        Raises:
            DataError: pandas is not installed.
        """
        from actfer_env.evaluation.frames import rollouts_frame

        return rollouts_frame(self)


@dataclass(frozen=True)
class Run:
    """Finished episodes and how they came about.

    Attributes:
        rollouts: Finished rollouts, in order of groups and members; kept as `Rollouts`.
        dataset: The arguments of `load_dataset`, its root resolved, so that pictures can be found again from anywhere.
        settings: Agent, detector, seed, budgets, for people and for the report's head.
        reward: Constants of the reward.
        scorer_state: `UCGRPO.state_dict()` before this run.
        stored_scores: The terms and the advantage as they were computed when the run was made: name -> list (n,).
        failures: Samples that could not be run: {"sample_id", "error"}; of what is no sample's own the id is empty, and
            "stopped" says that the run ended before its last sample.
        version: Version of the package that made the run.
        generator: Version of the generator of drawn faces; another one draws other faces.
        pictures: Sample id -> name of the picture's file, of a run that carries its pictures (`embed_pictures`).
    """

    rollouts: Rollouts
    dataset: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    reward: UCGRPOConfig = field(default_factory=UCGRPOConfig)
    scorer_state: dict[str, Any] = field(default_factory=lambda: UCGRPO().state_dict())
    stored_scores: dict[str, list[float]] = field(default_factory=dict)
    failures: tuple[dict[str, str], ...] = ()
    version: str = __version__
    generator: int = GENERATOR_VERSION
    pictures: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Keep the rollouts as `Rollouts`."""
        object.__setattr__(self, "rollouts", Rollouts(self.rollouts))

    @property
    def au_set(self) -> tuple[int, ...] | None:
        """The Action Units that counted when the run was made; None where it does not say."""
        stored = self.settings.get("au_set")
        return None if stored is None else facs.parse_au_set(stored)

    @property
    def price(self) -> tuple[float, float]:
        """Price of a million tokens read and written, in any currency; 0 where none was given."""
        read, written = self.settings.get("price") or (0.0, 0.0)
        return float(read), float(written)

    def scorer(self) -> UCGRPO:
        """Return the scorer as it stood before this run."""
        scorer = UCGRPO(self.reward)
        scorer.load_state_dict(self.scorer_state)
        return scorer

    @cached_property
    def scores(self) -> Scores:
        """Rewards and advantages, computed from the rollouts on first use."""
        return self.scorer().score(self.rollouts)

    def score(self) -> Scores:
        """Return `scores`."""
        return self.scores

    def replace(self, **changes: Any) -> Run:
        """Return a copy with some fields changed; where these change no reward, it shares the scores computed here."""
        changed = replace(self, **changes)
        if "scores" in vars(self) and not changes.keys() & {"rollouts", "reward", "scorer_state"}:
            vars(changed)["scores"] = self.scores  # where a cached property keeps its value
        return changed

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` of a row for each rollout, with its reward terms and advantage.

        Raises:
            DataError: pandas is not installed.
        """
        from actfer_env.evaluation.frames import rollouts_frame

        return rollouts_frame(self.rollouts, self.scores, self.au_set)

    def mismatches(self, tolerance: float = 1e-9) -> list[str]:
        """Return one line for every stored score that differs from the recomputed one; empty if all agree."""
        scores = self.scores
        lines = []
        for name, stored in self.stored_scores.items():
            computed = np.asarray(getattr(scores, name))
            if len(stored) != len(computed):
                lines.append(f"{name}: {len(stored)} stored scores for {len(computed)} rollouts")
                continue
            for i in np.flatnonzero(~np.isclose(stored, computed, rtol=0, atol=tolerance)):
                who = f"{self.rollouts[i].group_id}, member {self.rollouts[i].member}"
                lines.append(f"{who}: {name} stored {stored[i]:+.6f}, recomputed {computed[i]:+.6f}")
        return lines


def finished_run(
    rollouts: Iterable[Rollout], dataset: dict[str, Any], settings: dict[str, Any], reward: UCGRPOConfig,
    failures: Sequence[dict[str, str]] = (),
) -> Run:  # fmt: skip
    """Return a run with its scores, which are those of one step of a fresh scorer."""
    run = Run(Rollouts(rollouts), dataset, settings, reward, UCGRPO(reward).state_dict(), failures=tuple(failures))
    return run.replace(stored_scores=scored_columns(run.scores))


def scored_columns(scores: Scores) -> dict[str, list[float]]:
    """Return what `run.json` keeps of the scores."""
    return {name: getattr(scores, name).tolist() for name in (*TERMS, "advantage")}


def write_run(folder: str | os.PathLike[str], run: Run) -> None:
    """Write `rollouts.jsonl` and `run.json`; each file is replaced as a whole.

    Raises:
        DataError: the folder cannot be written.
    """
    path = Path(folder)
    before = carried_pictures(path)
    write_rollouts(path / ROLLOUT_FILE, run.rollouts)
    head = {
        "schema": RUN_SCHEMA, "actfer_env": run.version, "generator": run.generator, "dataset": run.dataset,
        "beside": _beside(run.dataset.get("root"), path), "settings": run.settings, "reward": run.reward.to_dict(),
        "scorer_state": run.scorer_state, "scores": run.stored_scores, "failures": list(run.failures),
        "pictures": run.pictures,
    }  # fmt: skip
    write_text_atomic(path / RUN_FILE, json.dumps(head, indent=1, ensure_ascii=False) + "\n")
    for name in set(before.values()) - set(run.pictures.values()):  # of an earlier run in this folder
        (path / PICTURE_FOLDER / Path(name).name).unlink(missing_ok=True)


def carried_pictures(folder: str | os.PathLike[str]) -> dict[str, str]:
    """Return the pictures that the run in a folder carries, sample id -> file name; none where there is no run."""
    try:
        return dict(json.loads((Path(folder) / RUN_FILE).read_text(encoding="utf-8")).get("pictures", {}))
    except (OSError, AttributeError, TypeError, ValueError):
        return {}


def read_run(folder: str | os.PathLike[str]) -> Run:
    """Read a folder of `write_run`.

    Raises:
        DataError: a file is missing, broken or of a newer schema.
    """
    path = Path(folder)
    with _reading(path):
        head = _read_head(path)
        return Run(
            rollouts=Rollouts(read_rollouts(path / ROLLOUT_FILE)), dataset=_found(head, path),
            settings=head["settings"], reward=UCGRPOConfig.from_dict(head["reward"]), scorer_state=head["scorer_state"],
            stored_scores=head["scores"], failures=tuple(head["failures"]), version=head["actfer_env"],
            generator=head.get("generator", FIRST_GENERATOR), pictures=head.get("pictures", {}),
        )  # fmt: skip


def refuse_other_run(folder: str | os.PathLike[str], dataset: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Compare the run that is stored in a folder with the one that is to take its place.

    How many samples are played, and the constants of the reward, are left open: both may change on the way.

    Args:
        folder: The folder.
        dataset: `Run.dataset` of the new run.
        settings: `Run.settings` of the new run.

    Returns:
        True if there is a run, one of the same settings; False if there is none.

    Raises:
        DataError: it is a run of other settings or data, or cannot be read.
    """
    path = Path(folder)
    if not (path / RUN_FILE).exists():
        return False
    with _reading(path):
        head = _read_head(path)
        kept = {**head["settings"], "dataset": _found(head, path)}
    wanted = {**settings, "dataset": dict(dataset), "number": kept.get("number")}
    refuse_other(path, "run", {**kept, "number": kept.get("number")}, wanted)
    return True


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong in reading a stored run into a `DataError`."""
    try:
        yield
    except OSError as error:
        message = f"{path}: no stored run here ({error.strerror}); give the --out folder of 'actfer rollout'"
        raise DataError(message) from error
    except ActFERError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{path / RUN_FILE}: not a stored run ({error})") from error


def _beside(root: Any, folder: Path) -> str | None:
    """Return the way from a run's folder to its data set's root, for folders that are moved together."""
    if not isinstance(root, str) or not Path(root).is_absolute():
        return None
    try:
        return os.path.relpath(root, os.path.realpath(folder))
    except ValueError:  # another drive
        return None


def _found(head: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the data set's arguments, with the root where it lies beside the run if it is not in its old place."""
    dataset, beside = dict(head["dataset"]), head.get("beside")
    if isinstance(beside, str) and not Path(str(dataset.get("root"))).exists() and (folder / beside).exists():
        dataset["root"] = os.path.realpath(folder / beside)
    return dataset


def _read_head(path: Path) -> dict[str, Any]:
    """Return what `run.json` holds, checked; see `read_run` for the errors."""
    head: dict[str, Any] = json.loads((path / RUN_FILE).read_text(encoding="utf-8"))
    if head["schema"] > RUN_SCHEMA:
        raise DataError(f"{path / RUN_FILE}: schema {head['schema']} is newer than {RUN_SCHEMA}; update actfer-env")
    for key in ("dataset", "settings", "scorer_state", "scores", "pictures"):
        if not isinstance(head.get(key, {} if key == "pictures" else None), dict):
            raise TypeError(f"{key} must be an object")
    for name in head["scores"]:
        if name not in (*TERMS, "advantage"):
            raise TypeError(f"unknown score {name!r}")
    if not all(isinstance(failure, dict) for failure in head["failures"]):
        raise TypeError("failures must be objects")
    return head
