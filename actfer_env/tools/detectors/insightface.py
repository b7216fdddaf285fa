"""InsightFace's detector (SCRFD) and, where the pack has it, its 106-point landmarks.

The pack's files are told apart by their ONNX graphs, and only those that are needed are loaded: InsightFace's
`FaceAnalysis` would build a session for every file, and takes the first one that looks like a detector, which
in a folder with other networks is the wrong one. SCRFD's coordinates are passed on as they are: on mirrored
photos they stay within half a pixel, at 640 pixels, of the convention of `Face`.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from actfer_env.errors import DetectorError
from actfer_env.files import expand
from actfer_env.tools.detectors.base import Face, file_digest
from actfer_env.tools.detectors.common import Image, NetworkDetector
from actfer_env.tools.detectors.hardware import CPU, CUDA, hardware, offers_gpu

INSTALL = 'pip install "actfer-env[insightface]"'
"""Command that installs the extra, for messages."""
OFFLINE = "without a network, put the pack's *.onnx into a folder and use 'insightface:/that/folder'"
"""Cure where a pack cannot be downloaded, for messages."""

_DETECTOR_OUTPUTS = (9, 15)  # score, box and key points at three or five strides
_STRIDE = 32


class InsightFaceDetector(NetworkDetector):
    """SCRFD through the package `insightface`, which is installed by the extra of that name."""

    name = "insightface"

    def __init__(
        self,
        pack: str | Path = "buffalo_l",
        providers: Sequence[Any] | None = None,
        det_size: int = 640,
        det_thresh: float = 0.5,
        root: str | Path = "~/.insightface",
    ) -> None:
        """Load the pack's detector and its 106-point model.

        Args:
            pack: A folder of *.onnx, a single .onnx file, or the name of one of InsightFace's packs, which is
                downloaded on first use. Of several detectors with key points the largest file is taken.
            providers: ONNX Runtime's execution providers; None means those of `default_providers`.
            det_size: Side of the square input, a multiple of 32; models with a fixed input ignore it.
            det_thresh: Lowest score of a face.
            root: Where InsightFace keeps its packs (in the folder `models`).

        Raises:
            DetectorError: the extra or the pack is missing, or the pack holds no detector with key points.
        """
        if det_size < _STRIDE or det_size % _STRIDE:
            raise DetectorError(f"det_size {det_size} does not suit SCRFD: use a multiple of {_STRIDE}, such as 640")
        require_extra()
        self.det_size, self.det_thresh = det_size, det_thresh
        self.detector_file, self.landmark_file = choose_models(find_models(pack, root))
        self._model = _load(self.detector_file, providers)
        self._model.prepare(0, input_size=(det_size, det_size), det_thresh=det_thresh)
        self._landmarks = _load(self.landmark_file, providers) if self.landmark_file else None

    def settings(self) -> dict[str, Any]:
        """Return the settings and the digests of the models, as JSON values."""
        files = [path for path in (self.detector_file, self.landmark_file) if path]
        digests = [file_digest(path) for path in files]
        return {"det_size": self.det_size, "det_thresh": self.det_thresh, "weights": digests}

    def _detect(self, image: Image) -> list[Face]:
        if min(image.shape[:2]) * self.det_size < max(image.shape[:2]):
            return []  # InsightFace would resize the short side to nothing
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR).astype(np.uint8, copy=False)
        boxes, points = self._model.detect(bgr)
        return [self._face(bgr, box, mine) for box, mine in zip(boxes, points, strict=True)]

    def _face(self, bgr: Image, box: NDArray[np.float32], points: NDArray[np.float32]) -> Face:
        x1, y1, x2, y2, score = box.astype(np.float64).tolist()
        dense = None if self._landmarks is None else self._dense(bgr, box)
        return Face((x1, y1, x2, y2), points.astype(np.float64), min(1.0, score), dense)

    def _dense(self, bgr: Image, box: NDArray[np.float32]) -> NDArray[np.float64]:
        from insightface.app.common import Face as InsightFace

        assert self._landmarks is not None
        return np.asarray(self._landmarks.get(bgr, InsightFace(bbox=box[:4])), np.float64)


def require_extra() -> None:
    """Raise DetectorError unless the extra is installed."""
    try:
        import insightface.model_zoo  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise DetectorError(f"detector 'insightface' needs its extra: run: {INSTALL}") from error


def find_models(pack: str | Path, root: str | Path = "~/.insightface") -> list[Path]:
    """Return the .onnx files of a pack, sorted; a named pack that is absent is downloaded.

    Args:
        pack: Name of a pack, a folder of .onnx files, or one such file.
        root: Folder in which InsightFace keeps its packs.

    Returns:
        The paths.

    Raises:
        DetectorError: there are none, or the download failed.
    """
    path = expand(pack)
    if path.suffix == ".onnx" or path.is_dir() or len(path.parts) != 1:
        files, cure = _onnx_files(path), OFFLINE
    else:
        folder = _named_pack(str(pack), expand(root))
        files, cure = _onnx_files(folder), f"delete {str(folder)!r} to download it again; {OFFLINE}"
    if not files:
        raise DetectorError(f"InsightFace pack {str(pack)!r} holds no .onnx file: {cure}")
    return files


def _onnx_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(path.glob("*.onnx")) or sorted(path.glob("*/*.onnx"))  # some packs nest their folder


def _named_pack(name: str, root: Path) -> Path:
    folder = root / "models" / name
    if folder.is_dir():
        return folder
    from insightface.utils import ensure_available

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return Path(ensure_available("models", name, root=str(root)))
    except Exception as error:  # network, proxy, disk or zip: the cure is the same
        raise DetectorError(
            f"InsightFace pack {name!r} is not in {str(folder)!r} and its download failed "
            f"({type(error).__name__}): go online once, or unpack {name}.zip from github.com/deepinsight/insightface "
            f"there; {OFFLINE}"
        ) from error


def choose_models(files: Sequence[Path]) -> tuple[Path, Path | None]:
    """Tell a pack's files apart by their ONNX graphs.

    Args:
        files: Candidates; files that are no ONNX models are passed over.

    Returns:
        The detector with key points, and the 106-point model or None. Of several the largest file is taken,
        and of equally large ones the first by name.

    Raises:
        DetectorError: none is a detector with key points.
    """
    kinds = {path: model_kind(path) for path in sorted(files, key=lambda path: (-path.stat().st_size, path.name))}
    chosen = {kind: path for path, kind in reversed(kinds.items())}
    if "detector" not in chosen:
        where = str(files[0] if len(files) == 1 else files[0].parent)
        raise DetectorError(
            f"no detector with key points (an SCRFD model with 9 or 15 outputs) in {where!r}: "
            "use a pack that has one, such as buffalo_l"
        )
    return chosen["detector"], chosen.get("landmarks_106")


def model_kind(path: Path) -> str:
    """Return "detector", "landmarks_106" or "other" for an .onnx file, from its graph alone.

    Args:
        path: The .onnx file.
    """
    import onnx

    try:
        graph = onnx.load_model(str(path), load_external_data=False).graph
    except Exception:  # protobuf's DecodeError and its relatives: not a model
        return "other"
    if len(graph.output) in _DETECTOR_OUTPUTS:
        return "detector"
    sizes = [dim.dim_value for output in graph.output for dim in output.type.tensor_type.shape.dim]
    return "landmarks_106" if len(graph.output) == 1 and sizes[-1:] == [212] else "other"


def default_providers() -> list[str]:
    """Return CUDA and CPU where ONNX Runtime offers CUDA and `hardware` allows it, else CPU."""
    return [*([CUDA] if hardware().gpu and offers_gpu() else []), CPU]


def _load(path: Path, providers: Sequence[Any] | None) -> Any:
    import onnxruntime
    from insightface import model_zoo

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Idle threads that spin slow down everything else on few cores: other workers, and OpenCV right after.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if (threads := hardware().threads) is not None:
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    wanted = list(providers) if providers is not None else default_providers()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return model_zoo.get_model(str(path), providers=wanted, sess_options=options)
    except Exception as error:  # ONNX Runtime's errors have no common base
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DetectorError(f"ONNX Runtime cannot load {str(path)!r} with {wanted}: {reason}") from error
