"""The two tools of ActFER, usable alone (image in, result out), and tools of others for episodes: `register_tool`.

>>> from skimage.data import astronaut
>>> from actfer_env.tools import detect_align, zoom_in
>>> aligned = detect_align(astronaut())
>>> [crop.region for crop in zoom_in(astronaut(), aligned, ["nose", "mouth-chin"])]
['nose', 'mouth-chin']
"""

from actfer_env.boxes import BoxError
from actfer_env.images import ImageLimits, find_images, load_image
from actfer_env.tools.actfer import DetectAlign, ZoomIn
from actfer_env.tools.align import Alignment, align, detect_align, detect_align_batch
from actfer_env.tools.au_areas import AU_AREAS, au_boxes
from actfer_env.tools.base import (
    DEFAULT_TOOLS,
    RunningEpisode,
    Tool,
    ToolOutput,
    ViolationError,
    function_schema,
)
from actfer_env.tools.detectors import Detector, Face, make_detector, register_detector
from actfer_env.tools.face_tools import CacheConfig, FaceTools
from actfer_env.tools.regions import RegionLayout, region_boxes
from actfer_env.tools.template import FaceTemplate
from actfer_env.tools.toolkit import TOOLS, make_tool, register_tool
from actfer_env.tools.wire import Wire
from actfer_env.tools.zoom import Crop, ZoomConfig, zoom_in

__all__ = [
    "AU_AREAS", "DEFAULT_TOOLS", "Alignment", "BoxError", "CacheConfig", "Crop", "DetectAlign", "Detector", "Face",
    "FaceTemplate", "FaceTools", "ImageLimits", "RegionLayout", "RunningEpisode", "Tool", "ToolOutput",
    "ViolationError", "Wire", "ZoomConfig", "ZoomIn", "align", "au_boxes", "detect_align", "detect_align_batch",
    "find_images", "function_schema", "load_image", "make_detector", "make_tool", "region_boxes", "register_detector",
    "register_tool", "zoom_in",
]  # fmt: skip

for _tool in (DetectAlign, ZoomIn):
    TOOLS.register(_tool.name, _tool)
TOOLS.seal()
