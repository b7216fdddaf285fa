"""Builders that several tests share."""

import numpy as np
from skimage.data import astronaut

from actfer_env.data import Sample
from actfer_env.tools.detectors import Face

# Noted by hand on the enlarged portrait: eye centres, nose tip, mouth corners.
ASTRONAUT_POINTS = np.array([[204.5, 103.0], [247.0, 104.0], [224.5, 130.0], [203.0, 140.5], [246.0, 143.0]])


class PortraitDetector:
    """Returns the hand-noted face of the portrait, or none, and counts its calls."""

    name = "noted"

    def __init__(self, faces=None):
        self.faces = [Face((180.0, 65.0, 270.0, 180.0), ASTRONAUT_POINTS, 0.99)] if faces is None else faces
        self.calls = 0

    def detect(self, image):
        self.calls += 1
        return list(self.faces)


def portrait_sample(**changes):
    """A labelled sample of the whole portrait."""
    fields = {"id": "astronaut", "source": astronaut(), "emotion": "happiness", "aus": frozenset({6, 12, 25})}
    return Sample(**{**fields, **changes})
