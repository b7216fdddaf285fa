"""Toolkits of facial expression analysis as agents: detect and align, then answer what the toolkit reads in the face.

They are one-shot baselines: none of them zooms. Each is called as its own documentation calls it, and is imported when
it is asked for. What each answers, its licence and how to install it: docs/evaluate.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import io
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from actfer_env import facs
from actfer_env.agents.base import Batch, join, rows
from actfer_env.envs.actions import Move, codec_for
from actfer_env.episode import ANSWER, State
from actfer_env.errors import ActFERError, AgentError, DataError, short
from actfer_env.images import RGB, save_png
from actfer_env.packages import explain
from actfer_env.tools.schema import DETECT_ALIGN

SIDE = 320
"""Side in pixels at which a toolkit is shown pictures (chosen here): the face itself then has about 220 of them."""
PRESENT, INTENSE = 0.5, 2.0
"""Least probability, and least intensity from 0 to 5, of a unit that counts as active: the evaluations of py-feat and
OpenFace 3 take the first, the protocol of DISFA the second."""
_KEPT = 1024


@dataclass(frozen=True)
class Reading:
    """Answer of a toolkit to one picture.

    Attributes:
        emotion: One of `facs.EMOTIONS`.
        aus: Active Action Units; None where the toolkit names none.
    """

    emotion: str
    aus: frozenset[int] | None = None


class Toolkit:
    """A toolkit that reads one picture; its package is imported when it is made.

    Args:
        argument: Text behind the colon of the agent's spec; each toolkit says what it takes.

    Raises:
        DataError: the package is missing, or the argument is wrong.
    """

    name: ClassVar[str]
    """Name of the distribution."""
    module: ClassVar[str]
    """Module that is imported."""
    install: ClassVar[str]
    """Cure where it is missing."""
    aus: ClassVar[tuple[int, ...]] = ()
    """Action Units that it can name; empty where it names none."""
    finds_faces: ClassVar[bool] = False
    """True if it looks for the face itself, and so is shown the whole aligned picture."""

    def __init__(self, argument: str = "") -> None:
        self.argument = argument
        self.version = "unknown"
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            self.version = importlib.metadata.version(self.name)
        with self._installed():
            self._module = importlib.import_module(self.module)
        self._open()

    @contextlib.contextmanager
    def _installed(self) -> Iterator[None]:
        """Turn an import that fails into one line with the cure."""
        try:
            yield
        except ImportError as error:
            root = self.module.partition(".")[0]
            missing = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == root
            what = "is missing" if missing else f"cannot start ({explain(error).partition(': pip')[0]})"
            raise DataError(f"{self.name} {what}: {self.install}") from error

    def _open(self) -> None:
        """Load what every reading needs."""

    def read(self, image: RGB) -> Reading | None:
        """Return what the toolkit reads in a picture, or None where it finds no face there.

        Args:
            image: RGB uint8 (H, W, 3).
        """
        raise NotImplementedError


class PyFeat(Toolkit):
    """py-feat's detectors; the argument is "v1" (RetinaFace, ResMaskNet, XGBoost, the default) or "v2" (multitask)."""

    name, module, finds_faces = "py-feat", "feat", True
    install = "pip install py-feat (Python 3.11 or later)"
    aus = (1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 17, 20, 23, 24, 25, 26, 28, 43)

    def _open(self) -> None:
        if self.argument not in ("", "v1", "v2"):
            raise DataError(f"agent 'pyfeat:{self.argument}' is unknown: use pyfeat, pyfeat:v1 or pyfeat:v2")
        if self.argument == "v2":
            self._detector = self._module.Detectorv2(identity_model=None)
        else:
            self._detector = self._module.Detectorv1(identity_model=None, gaze_model=None)

    def read(self, image: RGB) -> Reading | None:
        """Return the emotion of the highest probability, and the units whose probability is 0.5 or more."""
        import torch

        picture = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
        found = self._detector.detect(picture, data_type="tensor", progress_bar=False)
        scores = found.faceboxes["FaceScore"].to_numpy(float)
        known = found.emotions.notna().all(axis=1).to_numpy() & ~np.isnan(scores)
        if not known.any():
            return None
        face = int(np.argmax(np.where(known, scores, -np.inf)))
        units = frozenset(map(facs.parse_au, _at_least(found.aus.iloc[face], PRESENT)))
        return Reading(facs.parse_emotion(str(found.emotions.iloc[face].astype(float).idxmax())), units)


class EmotiEffLib(Toolkit):
    """EmotiEffLib, the successor of HSEmotion; the argument is a model's name, "enet_b0_8_best_vgaf" if left out."""

    name, module = "emotiefflib", "emotiefflib.facial_analysis"
    install = "pip install 'actfer-env[emotiefflib]'"

    def _open(self) -> None:
        known = self._module.get_model_list()
        if self.argument and self.argument not in known:
            raise DataError(f"EmotiEffLib has no model {self.argument!r}: use one of {', '.join(known)}")
        model = self.argument or "enet_b0_8_best_vgaf"
        self._recognizer = self._module.EmotiEffLibRecognizer(engine="onnx", model_name=model)

    def read(self, image: RGB) -> Reading:
        """Return the emotion of the highest score."""
        labels, _ = self._recognizer.predict_emotions(image, logits=True)
        return Reading(facs.parse_emotion(labels[0]))


class DeepFace(Toolkit):
    """DeepFace's `analyze`; it takes no argument. Its engine is what `DEEPFACE_BACKEND_ENGINE` names."""

    name, module = "deepface", "deepface.DeepFace"
    install = (
        "pip install --no-deps deepface gdown && pip install beautifulsoup4 pandas (its other OpenCV breaks yours)"
    )

    def _open(self) -> None:
        if self.argument:
            raise DataError(f"agent 'deepface:{self.argument}': deepface takes no argument")

    def read(self, image: RGB) -> Reading:
        """Return `dominant_emotion` of the picture as a face; DeepFace takes BGR."""
        faces = self._module.analyze(
            image[:, :, ::-1].copy(), actions=["emotion"], enforce_detection=False, detector_backend="skip", silent=True
        )
        return Reading(facs.parse_emotion(faces[0]["dominant_emotion"]))


class LibreFace(Toolkit):
    """LibreFace's `get_facial_attributes`; the argument is the weights' folder, "weights_libreface" if left out."""

    name, module, finds_faces = "libreface", "libreface", True
    install = "pip install libreface actfer-env, in an environment of their own with Python 3.10 or 3.11"
    aus = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 24, 25, 26)

    def read(self, image: RGB) -> Reading | None:
        """Return the expression, the units that are detected, and of the others those of intensity 2 or more."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "face.png"
            save_png(image, path, quick=True)
            try:
                found = self._module.get_facial_attributes(
                    str(path), temp_dir=folder, weights_download_dir=self.argument or "weights_libreface"
                )
            except RuntimeError as error:
                if "No face landmarks" in str(error):
                    return None
                raise
        detected = {facs.parse_au(name): float(value) for name, value in found["detected_aus"].items()}
        strength = {facs.parse_au(name): float(value) for name, value in found["au_intensities"].items()}
        units = {unit for unit, value in detected.items() if value >= PRESENT}
        units |= {unit for unit, value in strength.items() if unit not in detected and value >= INTENSE}
        return Reading(facs.parse_emotion(found["facial_expression"]), frozenset(units))


class OpenFace3(Toolkit):
    """OpenFace 3's `MultitaskPredictor`; the argument is the folder of its weights, "weights" if left out."""

    name, module = "openface-test", "openface.multitask_model"
    install = "pip install --no-deps openface-test && pip install timm torchvision"
    aus = (1, 2, 4, 6, 9, 12, 25, 26)
    EMOTIONS = ("Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Anger", "Contempt")
    """Its classes in order."""
    WEIGHTS = "MTL_backbone.pth"

    def _open(self) -> None:
        path = Path(self.argument or "weights").expanduser() / self.WEIGHTS
        if not path.is_file():
            raise DataError(f"{path} is missing: download OpenFace 3's weights (its README says where), and name their "
                            "folder, as in openface3:FOLDER")  # fmt: skip
        self._predictor = self._module.MultitaskPredictor(model_path=str(path), device="cpu")

    def read(self, image: RGB) -> Reading:
        """Return the emotion of the highest logit, and the units above 0.5; OpenFace takes BGR."""
        emotion, _, units = self._predictor.predict(image[:, :, ::-1].copy())
        named = dict(zip(self.aus, np.asarray(units[0], float).tolist(), strict=True))
        return Reading(facs.parse_emotion(self.EMOTIONS[int(np.argmax(np.asarray(emotion[0])))]),
                       frozenset(_at_least(named, PRESENT)))  # fmt: skip


TOOLKITS: Mapping[str, type[Toolkit]] = {
    "pyfeat": PyFeat, "emotiefflib": EmotiEffLib, "deepface": DeepFace, "libreface": LibreFace, "openface3": OpenFace3,
}  # fmt: skip
"""Name of the agent -> its toolkit."""


class ToolkitAgent:
    """Calls face-detect-align, then answers what a toolkit reads in the aligned face, without zooming.

    Where no face was found it reads the raw picture. A toolkit that looks for no face itself is shown the part of the
    aligned face that its four regions span, about what a detector's box holds. A toolkit without Action Units answers
    those of the emotion's prototype, and such rollouts are marked as derived. Where the toolkit finds no face, the
    answer is "neutral" without units.

    Args:
        action_space: The single action space of an environment of this package.
        toolkit: The toolkit.
        au_set: The environment's Action Units.
    """

    def __init__(self, action_space: gym.Space[Any], toolkit: Toolkit, au_set: Sequence[int] = facs.CORE_AUS) -> None:
        self.toolkit, self.au_set = toolkit, frozenset(au_set)
        self.meta: dict[str, Any] = {}
        """Facts about the last answer, which `actfer_env.evaluation.play` keeps in the rollout's `meta`."""
        self._codec = codec_for(action_space, au_set)
        self._read: dict[bytes, Reading | None] = {}
        self._warned = False

    @property
    def identity(self) -> dict[str, Any]:
        """Name, version and argument of the toolkit."""
        return {"toolkit": self.toolkit.name, "version": self.toolkit.version, "argument": self.toolkit.argument}

    env_arguments: ClassVar[dict[str, Any]] = {"image_size": SIDE, "face_size": SIDE}
    """Arguments of `gym.make` by which the toolkit sees enough pixels."""

    def reset(self, n: int) -> None:
        """Do nothing: the observation tells all."""

    def act(self, obs: Batch, info: Batch) -> Any:
        """Return the next actions; see `Agent.act`.

        Raises:
            AgentError: the toolkit fails, as where its weights cannot be downloaded.
        """
        return join([self._codec.encode(self._next(row)) for row in rows(obs)], obs)

    def _next(self, row: dict[str, Any]) -> Move:
        if row["state"] == State.RAW and row["turns_left"] > 1:
            return Move(DETECT_ALIGN)
        picture = row["face"] if row["state"] == State.ALIGNED else row["image"]
        if row["state"] == State.ALIGNED and not self.toolkit.finds_faces:
            boxes = row["region_boxes"] * len(picture)
            left, top = np.floor(boxes[:, :2].min(0)).astype(int)
            right, bottom = np.ceil(boxes[:, 2:].max(0)).astype(int)
            picture = picture[max(top, 0) : bottom, max(left, 0) : right]
        reading = self._reading(np.ascontiguousarray(picture))
        toolkit = self.toolkit
        self.meta = {"toolkit": {"name": toolkit.name, "version": toolkit.version, "face": reading is not None}}
        if reading is None:
            return Move(ANSWER, emotion="neutral")
        if reading.aus is None:
            self.meta["aus_derived"] = True
            return Move(ANSWER, emotion=reading.emotion, aus=facs.prototype_aus(reading.emotion, self.au_set))
        return Move(ANSWER, emotion=reading.emotion, aus=reading.aus & self.au_set)

    def _reading(self, picture: RGB) -> Reading | None:
        """Return what the toolkit reads; a picture that was read before, as by the members of a group, is looked up."""
        key = hashlib.blake2b(picture.tobytes(), digest_size=16).digest()
        if key not in self._read:
            try:
                # Some of them print, which is no part of a command's result.
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    found = self.toolkit.read(picture)
            except ActFERError:
                raise
            except Exception as error:
                why = short(" ".join(str(error).split()), 200)[1:-1]
                raise AgentError(f"{self.toolkit.name} cannot read a face ({type(error).__name__}: {why})") from error
            if found is None and not self._warned:
                self._warned = True
                text = "finds no face in a picture: it is answered with 'neutral', and so are others"
                warnings.warn(f"{self.toolkit.name} {text}; meta['toolkit'] of each rollout tells", UserWarning, 5)
            self._read[key] = found
            if len(self._read) > _KEPT:
                del self._read[next(iter(self._read))]
        return self._read[key]


def open_toolkit(name: str, argument: str = "") -> Toolkit:
    """Return a toolkit by the name of its agent.

    Raises:
        DataError: its package or weights are missing, or cannot be loaded.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return TOOLKITS[name](argument)
    except ActFERError:
        raise
    except Exception as error:  # such as weights that cannot be downloaded
        why = short(" ".join(str(error).split()), 200)[1:-1]
        raise DataError(f"{TOOLKITS[name].name} cannot load its models ({type(error).__name__}: {why}): "
                        "it downloads them on first use") from error  # fmt: skip


def _at_least(values: Any, least: float) -> list[Any]:
    """Return the keys of a mapping or a pandas row whose values reach a bound."""
    return [name for name, value in values.items() if value >= least]
