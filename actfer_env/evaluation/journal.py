"""Finished episodes of a run, each kept as it ends: a run that was killed goes on to what it would have been."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from actfer_env import facs
from actfer_env.data import Dataset, Sample
from actfer_env.episode import EpisodeConfig
from actfer_env.errors import DataError
from actfer_env.evaluation.run import RUN_FILE
from actfer_env.files import Journal, write_text_atomic
from actfer_env.identity import differences, listed, refuse_other, same_picture, sample_facts
from actfer_env.rollout import Rollout

JOURNAL, SETTINGS, ROLLOUT_SETTINGS = "episodes.jsonl", "eval.json", "rollout.json"
"""The finished episodes; and what a second start is compared with: that of an evaluation, which stays, or that of
`actfer rollout`, which goes with the journal when the run is complete."""


@dataclass(frozen=True)
class Kept:
    """A finished episode, what its sample showed, and where its agent's random stream stood after it."""

    rollout: Rollout
    sample: dict[str, Any]
    draws: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int]:
        """Sample and member."""
        return self.rollout.sample_id, self.rollout.member

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Kept:
        """Read a line of the journal."""
        return cls(Rollout.from_dict(record), record.get("sample", {}), record.get("draws", {}))


class EpisodeJournal:
    """Finished rollouts by (sample, member), in memory and appended to a file.

    Args:
        folder: The run's folder; None keeps nothing.
        settings: Whatever the episodes depend on, as JSON values.
        name: File in the folder that holds the settings.
        sync: Return from `keep` when the episode is on the disk, not only with the operating system.

    Raises:
        DataError: the folder holds an evaluation of other settings, or a run of another kind.
    """

    def __init__(
        self, folder: Path | None, settings: dict[str, Any], name: str = SETTINGS, *, sync: bool = True
    ) -> None:
        self.kept: dict[tuple[str, int], Rollout] = {}
        self.draws: dict[str, Any] = {}
        """Last kept state of each agent's random stream, by the agent's place."""
        self._pictures: dict[str, dict[str, Any]] = {}
        self._folder, self._name, self._file = folder, name, None
        if folder is not None:
            self._claim(folder, settings)
            self._file = Journal(folder / JOURNAL, Kept.from_dict, key=lambda one: one.key, sync=sync)
            for one in self._file.read():
                self.kept[one.key] = one.rollout
                self._pictures[one.rollout.sample_id] = one.sample
                self.draws |= one.draws

    def keep(self, rollout: Rollout, sample: Sample, draws: Mapping[str, Any] | None = None) -> None:
        """Keep a rollout, what its sample showed, and where its agent's random stream stands."""
        if (rollout.sample_id, rollout.member) in self.kept:
            return
        self.kept[rollout.sample_id, rollout.member] = rollout
        if self._file is not None:
            more = {"draws": dict(draws)} if draws else {}
            self._file.append({**rollout.to_dict(), "sample": sample_facts(sample), **more})

    def compare(self, dataset: Dataset, count: int, members: int, config: EpisodeConfig, *, told: bool = False) -> None:
        """Compare what was kept with the samples of today: pictures must be the same, mended labels are taken over.

        Args:
            dataset: The samples.
            count: Samples that are played, from the first on.
            members: Episodes of each.
            config: Gives the Action Units that count.
            told: Whether an agent answers the labels, so that those must be the same too.

        Raises:
            DataError: a picture has changed since its episode was kept, or a label that an agent answers.
        """
        if not self.kept:
            return
        changed: list[str] = []
        mended: list[str] = []
        for sample in (dataset[index] for index in range(count)):
            keys = [key for key in ((sample.id, member) for member in range(members)) if key in self.kept]
            if keys and not _same(self._pictures[sample.id], sample):
                changed.append(sample.id)
            today = {key: relabelled(self.kept[key], sample, config) for key in keys}
            if any(self.kept[key] is not rollout for key, rollout in today.items()):
                mended.append(sample.id)
            self.kept |= today
        if changed:
            raise DataError(f"{listed(changed)}: the picture has changed since its conversation was kept in "
                            f"{self._folder}: choose another folder, or put the old picture back")  # fmt: skip
        if mended and told:
            raise DataError(f"{listed(mended)}: labels have changed since, and an agent answers with them: "
                            "choose another folder")  # fmt: skip
        if mended:
            warnings.warn(f"{listed(mended)}: labels have changed since; the kept answers are scored by the "
                          "new ones", UserWarning, stacklevel=3)  # fmt: skip

    def leave(self) -> None:
        """Leave no trace of a run of which nothing could be kept."""
        if self._folder is not None and not self.kept:
            (self._folder / self._name).unlink(missing_ok=True)
            with suppress(OSError):  # it is not there, or holds other things
                self._folder.rmdir()

    def _claim(self, folder: Path, settings: dict[str, Any]) -> None:
        """Write the settings into a new folder; refuse an evaluation of other settings, and begin a run anew."""
        path, journal = folder / self._name, folder / JOURNAL
        evaluation = self._name == SETTINGS
        if (folder / (RUN_FILE if evaluation else SETTINGS)).exists() and not path.exists():
            what = "a run of another kind" if evaluation else "an evaluation"
            raise DataError(f"{folder} holds {what}: choose another folder")
        begun = journal.exists() and journal.stat().st_size > 0
        if evaluation and begun and not path.exists():
            raise DataError(f"{journal} holds conversations, and {path.name} does not say whose: choose another folder")
        if not (begun and path.exists()):
            write_text_atomic(path, json.dumps(settings, indent=1) + "\n")
            return
        try:
            found = dict(json.loads(path.read_text(encoding="utf-8")))
        except (TypeError, ValueError) as error:
            raise DataError(f"{path} is broken ({error}): choose another folder") from error
        if evaluation or found == settings:
            refuse_other(folder, "evaluation", found, settings)
            return
        names = ", ".join(name for name, *_ in differences(found, settings))
        warnings.warn(f"the unfinished run in {folder} is of other settings ({names}): it begins anew",
                      UserWarning, stacklevel=4)  # fmt: skip
        forget(folder)
        write_text_atomic(path, json.dumps(settings, indent=1) + "\n")


def forget(folder: Path) -> None:
    """Delete the journal of a run of `actfer rollout` that is complete and stored."""
    for name in (JOURNAL, ROLLOUT_SETTINGS):
        (folder / name).unlink(missing_ok=True)


def _same(kept: Mapping[str, Any], sample: Sample) -> bool:
    return kept.get("prealigned", sample.prealigned) == sample.prealigned and same_picture(
        kept.get("picture", {}), sample
    )


def relabelled(rollout: Rollout, sample: Sample, config: EpisodeConfig) -> Rollout:
    """Return a rollout with its sample's labels of today; the same object where they are the old ones."""
    aus = None if sample.aus is None else sample.aus & config.known_aus
    if (rollout.emotion, rollout.aus) == (sample.emotion, aus):
        return rollout
    dropped = [facs.format_au(unit) for unit in sorted((sample.aus or frozenset()) - config.known_aus)]
    return replace(rollout, emotion=sample.emotion, aus=aus, meta={**rollout.meta, "dropped_aus": dropped})
