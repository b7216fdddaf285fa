"""DISFA and DISFA+: intensities of twelve Action Units in the frames of videos."""

from __future__ import annotations

import os
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env.data.jsonl import check_option
from actfer_env.data.loaders.base import (
    Edition,
    Info,
    Missing,
    Row,
    RowSamples,
    SubjectSplits,
    Totals,
    collect,
    described,
    join,
    no_layout,
    open_root,
    pictures_in,
    read_lines,
    refuse,
    stem_of,
    subfolders,
    whole,
)
from actfer_env.errors import DataError, ImageError, short
from actfer_env.images import RGB

AUS = facs.AU_SETS["disfa12"]
SUBJECTS = tuple(f"SN{number:03d}" for number in (*range(1, 14), *range(16, 19), 21, *range(23, 33)))
"""DISFA's 27 subjects; nine of them are DISFA+'s."""
FRAMES = 4845
"""Labelled frames of each subject; some videos have one frame less."""
BAD_FRAMES: Mapping[str, range] = {"SN029": range(4330, 4537)}
"""Frames whose pictures are damaged, by subject (facts reported by users of the data, not by its authors)."""
PER_LABEL = 5
"""ActFER keeps at most five frames of one subject with the same AU label (section 4.3)."""

DISFA = Info(
    "disfa", "DISFA", "ActionUnit_Labels/SN001/SN001_au1.txt with LeftVideoSN001_comp.avi or folders of frames named "
    "after the subjects", ("**/SN0??_au1.txt",), "http://mohammadmahoor.com/disfa-contact-form/ (research; a form)",
)  # fmt: skip
DISFA_PLUS = Info(
    "disfaplus", "DISFA+", "Labels/SN001/TRIAL/AU1.txt with Images/SN001/TRIAL/000.jpg", ("Labels/SN0??/*/AU1.txt",),
    "http://mohammadmahoor.com/disfa-contact-form/ (research; a form)",
)  # fmt: skip


@described(DISFA)
def load_disfa(  # noqa: PLR0913  (each argument is an option of the data set)
    root: str | None, *, split: str | None = None, subsample: int | Literal["paper"] | None = None, threshold: int = 2,
    bad_frames: Literal["drop", "keep"] = "drop", camera: Literal["left", "right"] = "left", folds: int = 3,
    fold: int = 0, validation: bool = True, totals: Totals = "auto", missing: Missing = "skip",
) -> RowSamples:  # fmt: skip
    """Read the data set "disfa": DISFA, intensities 0 to 5 of twelve Action Units; no emotions.

    It shows 27 people who watch a film.

    Editions: "videos" (frames are read out of LeftVideoSN001_comp.avi) and "frames" (folders of pictures whose names
    end with a frame's number, from 0 or from 1, below a folder with the subject's name; how frames were extracted is
    not official). Frame 1 of the labels is the first frame of the video.

    There are no official splits and several lists of folds: here the 27 subjects are dealt to `folds` folds in turn by
    their numbers, as DISFA+ is, so that a person is in the same split of both.

    Args:
        root: The folder with ActionUnit_Labels/.
        split: "train", "val", "test", "auto", or None for all.
        subsample: Keeps at most so many frames of one subject with the same set of active units (of the eight of
            `facs.DISFA_AUS`), spread evenly over them; "paper" is ActFER's five, which does not say which five.
        threshold: A unit is active from this intensity on.
        bad_frames: "drop" leaves out `BAD_FRAMES`.
        camera: Name of one of the two cameras.
        folds: Number of folds.
        fold: The fold that is "test", from 0.
        validation: False leaves "val" empty.
        totals: See `loaders.base.Totals`.
        missing: See `loaders.base.Missing`; labelled frames without a picture are left out by default.

    Raises:
        DataError: another layout, files of a subject that do not agree, or a broken line (named by file and number).
    """
    place = open_root(DISFA, root)
    most = _most(subsample)
    check_option("bad_frames", bad_frames, ("drop", "keep"))
    check_option("camera", camera, ("left", "right"))
    labels = next((one for name in ("ActionUnit_Labels", "ActionUnit_Labels/ActionUnit_Labels", "Labels")
                   if any((one := place / name).glob("SN*/SN*_au*.txt"))), None)  # fmt: skip
    if labels is None:
        no_layout(DISFA, place)
    splits, left_out = SubjectSplits(folds, fold, validation, SUBJECTS), Counter[str]()
    found = {folder.name: folder for folder in subfolders(labels)}
    for name, folder in found.items():
        if name not in SUBJECTS:
            refuse(folder, None, f"DISFA has no subject {name!r}; it has {SUBJECTS[0]} to {SUBJECTS[-1]}, 27 in all")
    videos = {name: video for name in found if (video := _video(place, name, camera))}
    frames = {} if videos else {name: _frame_folder(place, labels, name, camera) for name in found}
    folders = {name: one for name, one in frames.items() if one}
    if not videos and not folders:
        no_layout(DISFA, place, f"{labels} holds labels, but there is neither a video such as "
                  f"{camera.capitalize()}VideoSN001_comp.avi nor a folder of frames named after a subject")  # fmt: skip
    damaged = sum(map(len, BAD_FRAMES.values())) if bad_frames == "drop" else 0
    total = {"all": {"all": FRAMES * len(SUBJECTS) - damaged}} if most is None else {}
    edition = Edition(f"{'videos' if videos else 'frames'}, {camera} camera", aus=AUS, totals=total, read=read_frame)

    def rows() -> Iterator[Row]:
        for subject, folder in found.items():
            coded = _subject(folder, subject)
            bad = BAD_FRAMES.get(subject, range(0)) if bad_frames == "drop" else range(0)
            kept = [frame for frame in range(1, len(coded) + 1) if frame not in bad]
            left_out["damaged frame"] += len(coded) - len(kept)
            if most is not None:
                kept = _spread(kept, coded, most, threshold)
            pictures = _numbered(folders[subject]) if subject in folders else {}
            first = min(pictures, default=1)
            for frame in kept:
                path = str(videos[subject]) if subject in videos else pictures.get(frame if first else frame - 1)
                if path is None:
                    path = join(folders.get(subject, place), f"frame {frame} of {subject}")
                values = coded[frame - 1]
                yield Row(
                    f"{subject}-{frame:04d}", path, aus=_active(values, threshold), split=splits(subject),
                    meta=_meta(subject, frame, values), at=frame - 1 if videos else None,
                    file=str(folder / f"{subject}_au1.txt"), line=frame,
                )  # fmt: skip

    return collect(DISFA, edition, rows(), split, totals, missing, left_out)


@described(DISFA_PLUS)
def load_disfa_plus(
    root: str | None, *, split: str | None = None, threshold: int = 2, folds: int = 3, fold: int = 0,
    validation: bool = True, totals: Totals = "auto", missing: Missing = "skip",
) -> RowSamples:  # fmt: skip
    """Read the data set "disfaplus": DISFA+, posed and spontaneous trials of nine of DISFA's subjects; no emotions.

    All nine subjects are in DISFA: a model that is trained on one and tested on the other has seen the people. The
    folds are therefore those of "disfa". Lines of the labels are read as "000.jpg 0", below a header of any length;
    the official number of frames could not be verified and is not compared.

    Args:
        root: The folder with Labels/ and Images/.
        split: "train", "val", "test", "auto", or None for all.
        threshold: A unit is active from this intensity on.
        folds: Number of folds.
        fold: The fold that is "test", from 0.
        validation: False leaves "val" empty.
        totals: See `loaders.base.Totals`.
        missing: See `loaders.base.Missing`; labelled frames without a picture are left out by default.

    Raises:
        DataError: another layout, files of a trial that do not agree, or a broken line (named by file and number).
    """
    place = open_root(DISFA_PLUS, root)
    labels = place / "Labels"
    if not any(labels.glob("SN*/*/AU*.txt")):
        no_layout(DISFA_PLUS, place)
    splits = SubjectSplits(folds, fold, validation, SUBJECTS)
    images = next((place / name for name in ("Images", "images", "Image") if (place / name).is_dir()), None)
    if images is None:
        no_layout(DISFA_PLUS, place, f"{labels} is there, but no folder {place / 'Images'}")

    def rows() -> Iterator[Row]:
        for person in subfolders(labels):
            if person.name not in SUBJECTS:
                refuse(person, None, f"DISFA+ has no subject {person.name!r}")
            for trial in subfolders(person):
                lines, coded = _trial(trial)
                for at, (name, line) in enumerate(lines.items()):
                    yield Row(
                        f"{person.name}/{trial.name}/{name}", join(images, person.name, trial.name, name),
                        aus=_active(coded[at], threshold), split=splits(person.name),
                        meta=_meta(person.name, at, coded[at]), file=str(trial / "AU1.txt"), line=line,
                    )  # fmt: skip

    return collect(DISFA_PLUS, Edition("frames", aus=AUS), rows(), split, totals, missing)


def read_frame(path: str, at: int) -> RGB:
    """Return a frame of a video, uint8 (H, W, 3).

    Args:
        path: The video.
        at: The frame, from 0.

    Raises:
        ImageError: the video cannot be opened, or has no such frame.
    """
    import cv2

    if _open.video is None or (_open.path, _open.process) != (path, os.getpid()):
        _open.path, _open.process, _open.at, _open.video = path, os.getpid(), 0, cv2.VideoCapture(path)
    if at != _open.at:
        _open.video.set(cv2.CAP_PROP_POS_FRAMES, at)
    there, frame = _open.video.read()
    _open.at = at + 1
    if not there:
        count, _open.video = int(_open.video.get(cv2.CAP_PROP_FRAME_COUNT)), None
        raise ImageError(f"{path}: frame {at + 1} cannot be read of {count}")
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)


class _OpenVideo(threading.local):
    """The last video of this thread stays open, so that frames in order need no search."""

    path, process, at = "", 0, 0
    video: Any = None


_open = _OpenVideo()


def _most(subsample: int | str | None) -> int | None:
    if subsample == "paper":
        return PER_LABEL
    if subsample is not None and (not isinstance(subsample, int) or subsample < 1):
        raise DataError(f"subsample={short(subsample)} must be 'paper', a number of frames of at least 1, or None")
    return subsample


def _video(place: Path, subject: str, camera: str) -> Path | None:
    pattern = f"*{camera.capitalize()}*{subject}*"
    found = [one for depth in ("", "*/", "*/*/") for one in sorted(place.glob(depth + pattern))
             if one.suffix.lower() in (".avi", ".mp4", ".mkv")]  # fmt: skip
    return found[0] if found else None


def _frame_folder(place: Path, labels: Path, subject: str, camera: str) -> Path | None:
    """Return the folder of a subject's pictures, of either camera where the names of folders do not tell it."""
    other = "right" if camera == "left" else "left"
    for depth in ("", "*/", "*/*/", "*/*/*/"):
        for one in sorted(place.glob(f"{depth}*{subject}*")):
            of_other = other in str(one.relative_to(place)).lower()
            if one.is_dir() and labels not in one.parents and not of_other and pictures_in(one):
                return one
    return None


def _numbered(folder: Path) -> dict[int, str]:
    """Return the pictures of a folder by the last number in their names."""
    found: dict[int, str] = {}
    for name in pictures_in(folder):
        digits = re.findall(r"\d+", stem_of(name))
        if not digits:
            refuse(folder / name, None, "the name of a frame holds no number")
        found[int(digits[-1])] = join(folder, name)
    return found


def _subject(folder: Path, subject: str) -> NDArray[np.int8]:
    """Return the intensities of a subject, int8 (frames, 12), from one file a unit."""
    columns: list[NDArray[np.int8]] = []
    for unit in AUS:
        path = folder / f"{subject}_au{unit}.txt"
        if not path.is_file():
            raise DataError(f"{path} is not there: DISFA has a file for each of AU {', '.join(map(str, AUS))}")
        values: list[int] = []
        for line, text in read_lines(path):  # "frame,intensity", frames counting from 1
            frame, comma, value = text.partition(",")
            if not comma:
                refuse(path, line, f"{short(text)} is no line such as '1,0' (frame, intensity)")
            if value.strip() not in ("0", "1", "2", "3", "4", "5"):
                refuse(path, line, f"intensity {short(value.strip())} is not 0 to 5")
            if frame.strip() != str(len(values) + 1):
                refuse(path, line, f"frame {short(frame.strip())} where {len(values) + 1} should stand; "
                       "frames count from 1, the frame comes first")  # fmt: skip
            values.append(int(value))
        if not values:
            refuse(path, None, "no lines")
        if columns and len(values) != len(columns[0]):
            refuse(path, len(values), f"{len(values)} frames, but {len(columns[0])} in {subject}_au{AUS[0]}.txt")
        columns.append(np.array(values, np.int8))
    return np.stack(columns, axis=1)


def _trial(trial: Path) -> tuple[dict[str, int], NDArray[np.int8]]:
    """Return the frames of a trial of DISFA+ (name -> line) and their intensities, int8 (frames, 12)."""
    lines: dict[str, int] = {}
    columns: list[list[int]] = []
    for unit in AUS:
        path = trial / f"AU{unit}.txt"
        if not path.is_file():
            raise DataError(f"{path} is not there: DISFA+ has a file for each of AU {', '.join(map(str, AUS))}")
        here: dict[str, int] = {}
        column: list[int] = []
        for line, text in read_lines(path):
            parts = re.split(r"[\s,]+", text)
            if len(parts) == 2 and re.fullmatch(r"\d+\.(jpg|png|jpeg)", parts[0], re.IGNORECASE):
                column.append(whole(path, line, parts[1], "intensity", 0, 5))
                here[parts[0]] = line
            elif column:
                refuse(path, line, f"{short(text)} is no line such as '000.jpg 0'")
        if not column:
            refuse(path, None, "no lines such as '000.jpg 0'")
        lines = lines or here
        if list(lines) != list(here):
            refuse(path, None, f"other frames than in AU{AUS[0]}.txt ({len(here)} and {len(lines)})")
        columns.append(column)
    return lines, np.array(columns, np.int8).T


def _active(values: NDArray[np.int8], threshold: int) -> tuple[int, ...]:
    return tuple(unit for unit, value in zip(AUS, values.tolist(), strict=True) if value >= threshold)


def _meta(subject: str, frame: int, values: NDArray[np.int8]) -> dict[str, Any]:
    """Return what is kept beside a frame; units of intensity 0 are left out."""
    coded = {facs.format_au(unit): value for unit, value in zip(AUS, values.tolist(), strict=True) if value}
    return {"subject": subject, "frame": frame, "intensities": coded}


def _spread(frames: Sequence[int], coded: NDArray[np.int8], most: int, threshold: int) -> list[int]:
    """Keep at most `most` frames with one set of active units, evenly over those that have it."""
    places = [AUS.index(unit) for unit in facs.DISFA_AUS]
    groups: dict[bytes, list[int]] = defaultdict(list)
    for frame in frames:
        groups[(coded[frame - 1, places] >= threshold).tobytes()].append(frame)
    kept = []
    for same in groups.values():
        picks = np.linspace(0, len(same) - 1, min(most, len(same))).round().astype(int)
        kept += [same[pick] for pick in picks]
    return sorted(kept)
