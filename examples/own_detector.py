"""Plug in your own face detector, and check that it keeps the protocol."""

import gymnasium as gym
import numpy as np

import actfer_env  # noqa: F401  (registers the environments)
from actfer_env.testing import check_detector
from actfer_env.tools import Face, make_detector, register_detector


class MirroredDetector:
    """Finds faces in the mirrored image and maps them back: replace `detect` by your own model."""

    name = "mirrored"

    def __init__(self, inner: str = "mtcnn") -> None:
        self.inner = make_detector(inner)

    def detect(self, image: np.ndarray) -> list[Face]:
        width = image.shape[1]
        faces = self.inner.detect(np.ascontiguousarray(image[:, ::-1]))
        return [self.mirror(face, width) for face in faces]

    @staticmethod
    def mirror(face: Face, width: int) -> Face:
        x1, y1, x2, y2 = face.box
        points = face.landmarks * [-1, 1] + [width, 0]
        return Face((width - x2, y1, width - x1, y2), points[[1, 0, 2, 4, 3]], face.score)


check_detector(MirroredDetector())
register_detector("mirrored", MirroredDetector)
env = gym.make("ActFER-Discrete-v0", detector="mirrored")
env.reset(seed=0)
print(env.step(0)[4]["message"])
