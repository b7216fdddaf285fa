"""Face detectors behind one protocol."""

from actfer_env.tools.detectors.base import (
    LANDMARKS,
    Detector,
    Face,
    make_detector,
    register_detector,
    registered_detectors,
)

__all__ = ["LANDMARKS", "Detector", "Face", "make_detector", "register_detector", "registered_detectors"]
