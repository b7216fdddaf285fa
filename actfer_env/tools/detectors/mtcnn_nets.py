"""MTCNN's three networks in plain NumPy, on the weights that the PyPI package `mtcnn` ships.

The package itself runs on TensorFlow; here only its weight files are read, each after a check of its SHA-256,
because they are pickles. All tensors are float32 in NHWC order, pixels are RGB scaled to about [-1, 1].
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from actfer_env.errors import DetectorError

Tensor = NDArray[np.float32]

WEIGHTS_SHA256 = MappingProxyType({
    "pnet": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
})  # fmt: skip
"""Network -> SHA-256 of its weight file in mtcnn 1.0.0."""

_BLOCK = 1 << 16  # values gathered at a time: fits the cache, and spares the cost of fresh large arrays
_ONE_THREAD = 1 << 18  # multiplications of a product up to which OpenBLAS stays on one thread
_CURE = "run: pip install --force-reinstall mtcnn==1.0.0"


def weights_folder() -> Path:
    """Return the folder of the weight files, without importing the package.

    Raises:
        DetectorError: the package `mtcnn` is not installed.
    """
    spec = importlib.util.find_spec("mtcnn")
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        raise DetectorError("detector 'mtcnn' needs the weights of the package mtcnn: run: pip install mtcnn==1.0.0")
    return Path(places[0]) / "assets" / "weights"


@lru_cache(maxsize=3)
def load_weights(net: str) -> tuple[Tensor, ...]:
    """Return the arrays of one network, in the order of its layers; they are shared and read-only.

    Args:
        net: A key of `WEIGHTS_SHA256`.

    Raises:
        DetectorError: the file is missing or is not the one that this package knows.
    """
    path = weights_folder() / f"{net}.lz4"
    if not path.is_file():
        raise DetectorError(f"MTCNN weights {path.name} are missing from the package mtcnn: {_CURE}")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != WEIGHTS_SHA256[net]:
        raise DetectorError(f"MTCNN weights {path.name} are not those of mtcnn 1.0.0 (SHA-256 differs): {_CURE}")
    return _unpickle(data)


def _unpickle(data: bytes) -> tuple[Tensor, ...]:
    try:
        import joblib

        arrays = [np.ascontiguousarray(array, np.float32) for array in joblib.load(io.BytesIO(data))]
    except (ImportError, ValueError) as error:  # joblib says ValueError where it lacks lz4
        raise DetectorError("detector 'mtcnn' needs joblib and lz4: run: pip install joblib lz4") from error
    for array in arrays:
        array.setflags(write=False)
    return tuple(arrays)


def proposal_net(image: Tensor) -> tuple[Tensor, Tensor]:
    """Run P-Net on one image.

    Args:
        image: (H, W, 3), H and W at least 12.

    Returns:
        Face probability (h, w) and box regression (h, w, 4) of each 12 x 12 window, windows 2 px apart.
    """
    w = load_weights("pnet")
    x = _pool(_conv(image[None], *w[0:3]), 2)
    x = _conv(_conv(x, *w[3:6]), *w[6:9])[0]
    return _face_probability(x @ w[11][0, 0] + w[12]), x @ w[9][0, 0] + w[10]


def refine_net(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Run R-Net on patches (N, 24, 24, 3): face probability (N,) and box regression (N, 4)."""
    w = load_weights("rnet")
    x = _pool(_conv(patches, *w[0:3]), 3)
    x = _pool(_conv(x, *w[3:6]), 3)
    x = _dense(_conv(x, *w[6:9]), *w[9:12])
    return _face_probability(x @ w[14] + w[15]), x @ w[12] + w[13]


def output_net(patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Run O-Net on patches (N, 48, 48, 3).

    Returns:
        Face probability (N,), box regression (N, 4) and key points (N, 5, 2), (x, y) in [0, 1] of the patch.
    """
    w = load_weights("onet")
    x = _pool(_conv(patches, *w[0:3]), 3)
    x = _pool(_conv(x, *w[3:6]), 3)
    x = _pool(_conv(x, *w[6:9]), 2)
    x = _dense(_conv(x, *w[9:12]), *w[12:15])
    points = (x @ w[17] + w[18]).reshape(-1, 2, 5).transpose(0, 2, 1)
    return _face_probability(x @ w[19] + w[20]), x @ w[15] + w[16], points


def _conv(x: Tensor, weight: Tensor, bias: Tensor, slope: Tensor) -> Tensor:
    """Convolve without padding, then PReLU: (N, H, W, C) -> (N, H - kh + 1, W - kw + 1, O)."""
    kh, kw, channels, outputs = weight.shape
    n, height, width = x.shape[0], x.shape[1] - kh + 1, x.shape[2] - kw + 1
    y = np.empty((n, height, width, outputs), np.float32)
    lines = max(1, _BLOCK // (width * kh * kw * channels))
    images = max(1, lines // height)
    for i in range(0, n, images):
        for j in range(0, height, lines):
            part = _conv_block(x[i : i + images, j : j + lines + kh - 1], weight, bias)
            y[i : i + images, j : j + lines] = _prelu(part, slope)
    return y


def _conv_block(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    kh, kw, channels, outputs = weight.shape
    n, height, width = x.shape[0], x.shape[1] - kh + 1, x.shape[2] - kw + 1
    lines = x.reshape(n, x.shape[1], -1)
    runs = np.lib.stride_tricks.sliding_window_view(lines, kw * channels, axis=2)[:, :, ::channels]
    columns = np.empty((n, height, width, kh, kw * channels), np.float32)
    for dy in range(kh):
        columns[:, :, :, dy] = runs[:, dy : dy + height]
    y = _product(columns.reshape(-1, kh * kw * channels), weight.reshape(-1, outputs))
    return (y + bias).reshape(n, height, width, outputs)


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """Return x @ weight, (M, K) by (K, N), in pieces that BLAS does on the calling thread.

    BLAS threads gain little on these sizes, and where several processes detect at once (workers of a vector
    environment) their waiting made a call twenty times slower.
    """
    rows = max(2, _ONE_THREAD // weight.size)
    whole = len(x) // rows * rows
    y = np.empty((len(x), weight.shape[1]), np.float32)
    np.matmul(x[:whole].reshape(-1, rows, x.shape[1]), weight, out=y[:whole].reshape(-1, rows, weight.shape[1]))
    np.matmul(x[whole:], weight, out=y[whole:])
    return y


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return np.maximum(x, 0) + slope.reshape(-1) * np.minimum(x, 0)


def _pool(x: Tensor, size: int) -> Tensor:
    """Max pooling with stride 2 and the last window cut at the border ("ceil" mode)."""
    return _pool_axis(_pool_axis(x, size, 1), size, 2)


def _pool_axis(x: Tensor, size: int, axis: int) -> Tensor:
    count = -(-(x.shape[axis] - size) // 2) + 1
    missing = (count - 1) * 2 + size - x.shape[axis]
    if missing > 0:
        last = np.take(x, [-1], axis=axis)
        x = np.concatenate([x, *[last] * missing], axis=axis)
    stop = 2 * (count - 1) + 1
    views = [x[(slice(None),) * axis + (slice(k, k + stop, 2),)] for k in range(size)]
    out = np.maximum(views[0], views[1])
    return out if size == 2 else np.maximum(out, views[2], out=out)


def _dense(x: Tensor, weight: Tensor, bias: Tensor, slope: Tensor) -> Tensor:
    # The weights come from Caffe, trained on column-major images: width comes before height.
    flat = x.transpose(0, 2, 1, 3).reshape(len(x), -1)
    return _prelu(_product(flat, weight) + bias, slope)


def _face_probability(logits: Tensor) -> Tensor:
    return 1 / (1 + np.exp(logits[..., 0] - logits[..., 1]))
