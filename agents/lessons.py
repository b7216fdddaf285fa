"""Template trajectories for supervised fine-tuning, played once through the real conversation and kept on disk.

A lesson is what a policy should have written over one face: detect and align, zoom into one region or into none, and
the true answer. Its tokens are those of `Conversation`, so that they are laid out as in evaluation and in verl.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env._moved import old_names
from actfer_env.agents.qwen.conversation import Conversation, ModelError, TokenCodec
from actfer_env.agents.qwen.torchvision_guard import guard
from actfer_env.chat import ChatConfig, ChatEpisode, chat_tools
from actfer_env.chat.turns import answer_text, look_texts
from actfer_env.data import Dataset, Sample
from actfer_env.identity import dataset_facts, detector_facts, file_facts
from actfer_env.images import RGB
from actfer_env.prepare import in_processes, naming_broken, prepared, prepared_name, read_arrays, write_arrays
from actfer_env.progress import Watch
from actfer_env.tools import FaceTools

__getattr__ = old_names(__name__)

BRIEF_CHAT = ChatConfig(brief=True, image_side=64, face_side=64, crop_side=64)
"""The conversation of a tiny model: short prompts, and pictures of four tokens at most (chosen here)."""
LESSONS_VERSION = 1
"""Raised whenever the same data, model and conversation give other files."""
_WHOLE = ("patches", "starts", "grids", "emotion", "aus", "scale")
"""Arrays of `SFTDataset`, kept as they are."""
_PLAYS = ("ids", "written", "length", "pictures", "shown", "plays")
"""All trajectories in a row: tokens, and how many each has; pictures, and how many; trajectories of each face."""
_LAYOUT = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
           "merges.txt", "chat_template.jinja", "chat_template.json", "preprocessor_config.json")  # fmt: skip
"""Files of a model that decide how a conversation is laid out in tokens and patches."""


@dataclass(frozen=True)
class Trajectory:
    """One trajectory over a face.

    Attributes:
        ids: int16 (length,), all tokens.
        written: bool (length,), whether the policy writes the token; only these carry a loss.
        pictures: Indices into `SFTDataset.grids`, in the order of their placeholders.
    """

    ids: NDArray[np.int16]
    written: NDArray[np.bool_]
    pictures: tuple[int, ...]


@dataclass(frozen=True)
class SFTDataset:
    """The trajectories of a data set.

    Attributes:
        patches: uint8 (patches, values), all pictures' patches, each picture once; may be memory-mapped.
        starts: int (pictures + 1,), where each picture's patches begin.
        grids: int (pictures, 3), frames, rows and columns of patches.
        plays: For each face, the trajectory without zoom, then one for each of `facs.REGIONS`; the first alone where
            no face was found.
        emotion: int (n,), index into `facs.EMOTIONS`.
        aus: bool (n, AUs of `facs.CORE_AUS`).
        scale: For each value of a patch, the (factor, shift) that turns it into the model's, float32 (2, values).
    """

    patches: NDArray[np.uint8]
    starts: NDArray[np.int64]
    grids: NDArray[np.int64]
    plays: tuple[tuple[Trajectory, ...], ...]
    emotion: NDArray[np.int64]
    aus: NDArray[np.bool_]
    scale: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.plays)

    def pixels(self, pictures: Iterable[int]) -> NDArray[np.float32]:
        """Return the `pixel_values` of some pictures, float32 (patches, 2 * values): two equal frames."""
        rows = np.concatenate([self.patches[self.starts[p] : self.starts[p + 1]] for p in pictures])
        values = (rows * self.scale[0] + self.scale[1]).reshape(len(rows), 3, 1, -1)
        return np.repeat(values, 2, axis=2).reshape(len(rows), -1)


def prepare_lessons(
    dataset: Dataset, model: str | os.PathLike[str], folder: str | os.PathLike[str], chat: ChatConfig = BRIEF_CHAT,
    *, detector: str = "auto", workers: int | None = None, watch: Watch | None = None,
) -> SFTDataset:  # fmt: skip
    """Play the lessons of a data set, or read them where an earlier call has left them.

    Args:
        dataset: Its samples have an emotion and Action Units.
        model: Folder of the model; its tokenizer and image processor are used.
        folder: Folder of all prepared lessons; each has a folder of its own, named by what it holds.
        chat: Formats and picture sizes.
        detector: The detector's spec.
        workers: Processes; default is one for each core.
        watch: Called with "lessons", how many faces are played, and how many there are.

    Raises:
        ModelError: there is no such model, or its pictures are no bytes behind a normalisation.
        ImageError: a picture cannot be read.
        DataError: the folder cannot be written, or holds broken lessons.
    """
    work = _Work(dataset, str(model), chat, detector)

    def write(draft: Path) -> None:
        _write(in_processes(len(dataset), work.some, workers, watch, "lessons"), draft, work.codec())

    return read_lessons(prepared(folder, lessons_name(dataset, model, chat, detector), write))


def lessons_name(
    dataset: Dataset, model: str | os.PathLike[str], chat: ChatConfig = BRIEF_CHAT, detector: str = "auto"
) -> str:
    """Return the name of a data set's lessons, which changes with whatever changes their bytes.

    Raises:
        ModelError: the model's folder holds no tokenizer or no image processor.
    """
    layout = {name: file_facts(Path(model) / name)["digest"] for name in _LAYOUT if (Path(model) / name).is_file()}
    for name in ("tokenizer.json", "preprocessor_config.json"):
        if name not in layout:
            raise ModelError(f"cannot load {os.fspath(model)}: it is no folder with a {name}")
    data, finder = dataset_facts(dataset, content=True), detector_facts(detector)
    return prepared_name("lessons", LESSONS_VERSION, [data, asdict(chat), finder, layout])


def read_lessons(folder: str | os.PathLike[str]) -> SFTDataset:
    """Read what `prepare_lessons` has written; the patches are memory-mapped.

    Raises:
        DataError: the folder is broken.
    """
    with naming_broken(folder):
        found, _ = read_arrays(folder, (*_WHOLE, *_PLAYS), mapped=("patches",))
        ids, written, length, pictures, shown, plays = (found[name] for name in _PLAYS)
        ends, seen = np.cumsum(length)[:-1], np.cumsum(shown)[:-1]
        rows = np.split(ids, ends), np.split(written, ends), np.split(pictures, seen)
        every = [Trajectory(own, mine, tuple(these.tolist())) for own, mine, these in zip(*rows, strict=True)]
        firsts = np.cumsum([0, *plays]).tolist()
        faces = tuple(tuple(every[start:end]) for start, end in pairwise(firsts))
        return SFTDataset(plays=faces, **{name: found[name] for name in _WHOLE})


def turns(sample: Sample, region: str | None) -> list[str]:
    """Return what a lesson's policy writes, turn by turn, where a face is found.

    Args:
        sample: The face; its labels are the answer.
        region: Region to zoom into, or None.
    """
    looks = look_texts([] if region is None else [region])
    return [*looks, answer_text(sample.emotion or "neutral", sample.aus or ())]


def codec_of(model: str | os.PathLike[str]) -> TokenCodec:
    """Return the codec of a model's folder, without loading the model.

    Raises:
        ModelError: there is none.
    """
    try:
        return _MemoCodec(*_processors(model))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot load {model}: {str(error).splitlines()[0]}") from error


def _processors(model: str | os.PathLike[str]) -> tuple[Any, Any]:
    guard()
    from transformers import AutoTokenizer, Qwen2VLImageProcessorPil

    return AutoTokenizer.from_pretrained(model), Qwen2VLImageProcessorPil.from_pretrained(model)


class _MemoCodec(TokenCodec):
    """Remembers the pictures of a face."""

    def __init__(self, tokenizer: Any, image_processor: Any) -> None:
        self.faces: dict[int, tuple[Any, tuple[int, ...]]] = {}
        super().__init__(tokenizer, image_processor)

    def _picture(self, image: RGB) -> tuple[Any, tuple[int, ...]]:
        found = super()._picture(image)
        return self.faces.setdefault(id(found[0]), found)


@dataclass(frozen=True)
class _Face:
    """The lessons of one face; pictures are numbered within it."""

    patches: list[NDArray[np.uint8]]
    grids: list[tuple[int, ...]]
    plays: list[Trajectory]
    emotion: int
    aus: NDArray[np.bool_]


@dataclass(frozen=True)
class _Work:
    """Everything that a process needs to play lessons."""

    dataset: Dataset
    model: str
    chat: ChatConfig
    detector: str

    def codec(self) -> _MemoCodec:
        return _MemoCodec(*_processors(self.model))

    def some(self, chunk: Sequence[int]) -> list[_Face]:
        codec, tools = self.codec(), chat_tools(self.detector, self.chat)
        return [self.face(self.dataset[index], codec, tools) for index in chunk]

    def face(self, sample: Sample, codec: _MemoCodec, tools: FaceTools) -> _Face:
        """Play every lesson of a face."""
        codec.faces.clear()
        regions = (None, *facs.REGIONS) if tools.alignment(sample) is not None else (None,)
        played = [self.play(sample, region, codec, tools) for region in regions]
        keys = {key: number for number, key in enumerate(codec.faces)}
        plays = [Trajectory(np.array(c.ids, np.int16), np.array(c.written), tuple(keys[id(p)] for p in c.pixels))
                 for c in played]  # fmt: skip
        patches = [to_bytes(pixels.numpy(), codec.image_processor) for pixels, _ in codec.faces.values()]
        grids = [grid for _, grid in codec.faces.values()]
        aus = np.array([au in (sample.aus or ()) for au in facs.CORE_AUS])
        return _Face(patches, grids, plays, facs.EMOTIONS.index(sample.emotion or "neutral"), aus)

    def play(self, sample: Sample, region: str | None, codec: _MemoCodec, tools: FaceTools) -> Conversation:
        conversation = Conversation(ChatEpisode(sample, tools, self.chat), codec)
        for text in turns(sample, region):
            ids = codec.encode(text)
            conversation.write(ids if text.startswith("<tool_call>") else [*ids, codec.end_id])
        return conversation


def to_bytes(pixels: NDArray[np.float32], image_processor: Any) -> NDArray[np.uint8]:
    """Return a picture's `pixel_values` (patches, 2 * values) as the bytes that they were made from.

    Raises:
        ModelError: two frames differ, or the values are no bytes behind a normalisation: nothing would be saved.
    """
    factor, shift = _scale(image_processor, pixels.shape[1] // 2)
    frames = pixels.reshape(len(pixels), 3, 2, -1)
    values = (frames[:, :, 0].reshape(len(pixels), -1) - shift) / factor
    rounded = np.rint(values)
    if np.abs(values - rounded).max() > 0.01 or not np.array_equal(frames[:, :, 0], frames[:, :, 1]):
        raise ModelError("the image processor does more than resize and normalise: lessons cannot keep its pictures")
    return rounded.astype(np.uint8)


def _scale(image_processor: Any, values: int) -> NDArray[np.float32]:
    mean, std = (np.repeat(np.array(v, np.float32), values // 3)
                 for v in (image_processor.image_mean, image_processor.image_std))  # fmt: skip
    return np.stack([1 / (255 * std), -mean / std]).astype(np.float32)


def _write(faces: list[_Face], folder: Path, codec: TokenCodec) -> None:
    patches = [rows for face in faces for rows in face.patches]
    plays = [play for face in faces for play in face.plays]
    firsts = np.cumsum([0, *(len(face.patches) for face in faces)])
    pictures = [first + n for first, face in zip(firsts, faces, strict=False) for p in face.plays for n in p.pictures]
    write_arrays(folder, {
        "patches": np.concatenate(patches), "starts": np.cumsum([0, *map(len, patches)]),
        "grids": np.array([grid for face in faces for grid in face.grids]),
        "emotion": np.array([face.emotion for face in faces]), "aus": np.stack([face.aus for face in faces]),
        "scale": _scale(codec.image_processor, patches[0].shape[1]),
        "ids": np.concatenate([play.ids for play in plays]),
        "written": np.concatenate([play.written for play in plays]),
        "length": np.array([len(play.ids) for play in plays]), "pictures": np.array(pictures),
        "shown": np.array([len(play.pictures) for play in plays]),
        "plays": np.array([len(face.plays) for face in faces]),
    })  # fmt: skip
