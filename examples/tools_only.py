"""Only the tools: align the face of any image and look at its regions.

python examples/tools_only.py photo.jpg
"""

import sys

from PIL import Image
from skimage.data import astronaut

from actfer_env import facs
from actfer_env.tools import detect_align, zoom_in

image = sys.argv[1] if len(sys.argv) > 1 else astronaut()
aligned = detect_align(image)
if aligned is None:
    sys.exit("no face found")
Image.fromarray(aligned.face).save("aligned.png")
for crop in zoom_in(image, aligned, facs.REGIONS):
    Image.fromarray(crop.image).save(f"{crop.region}.png")
    print(f"{crop.region}: box {[round(v, 2) for v in crop.box]}, {crop.native:.2f} source pixels per crop pixel")
