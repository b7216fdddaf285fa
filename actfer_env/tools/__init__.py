"""The two tools of ActFER, usable alone: image in, result out.

>>> from skimage.data import astronaut
>>> from actfer_env.tools import detect_align, zoom_in
>>> aligned = detect_align(astronaut())
>>> [crop.region for crop in zoom_in(astronaut(), aligned, ["nose", "mouth-chin"])]
['nose', 'mouth-chin']
"""

from actfer_env.tools.align import Alignment, align, detect_align, detect_align_batch
from actfer_env.tools.au_areas import AU_AREAS, au_boxes
from actfer_env.tools.cache import CacheConfig, FaceTools
from actfer_env.tools.detectors import Detector, Face, make_detector, register_detector
from actfer_env.tools.image import ImageLimits, find_images, load_image
from actfer_env.tools.regions import RegionLayout, region_boxes
from actfer_env.tools.template import FaceTemplate
from actfer_env.tools.zoom import BoxError, Crop, ZoomConfig, zoom_in

__all__ = [
    "AU_AREAS", "Alignment", "BoxError", "CacheConfig", "Crop", "Detector", "Face", "FaceTemplate", "FaceTools",
    "ImageLimits", "RegionLayout", "ZoomConfig", "align", "au_boxes", "detect_align", "detect_align_batch",
    "find_images", "load_image", "make_detector", "region_boxes", "register_detector", "zoom_in",
]  # fmt: skip
