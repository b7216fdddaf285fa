"""The reader that saw only drawn faces, tried on photos: AU12 for every face that MTCNN finds. Nothing is tuned."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from actfer_env.tools import load_image, make_detector
from actfer_env.tools.align import align
from benchmarks.synthetic import common
from benchmarks.synthetic.cache import native_view
from benchmarks.synthetic.labels import Reader, scores

SMILING = ("astronaut", "obama", "obama_partial_face", "multi_face")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where benchmarks.synthetic.labels left the reader")
    parser.add_argument("--photos", type=Path, required=True)
    args = parser.parse_args()
    common.setup()
    state = torch.load(args.out / "reader_native.pt", weights_only=True)
    model = Reader().to(memory_format=torch.channels_last)
    model.load_state_dict(state["model"])
    model.eval()
    detector, column, rows = make_detector("mtcnn"), common.AUS.index(12), []
    for path in sorted(p for p in args.photos.iterdir() if p.suffix in (".png", ".jpg")):
        image = load_image(path)
        faces = detector.detect(image)
        for number in range(len(faces)):
            alignment = align(faces, (image.shape[1], image.shape[0]), face=number)
            assert alignment is not None
            view = native_view(image, alignment)[None]
            value = float(common.predict(lambda _, view=view: scores(model, view), np.arange(1))[0, column])
            called = "AU12" if value > state["threshold"][column] else "-"
            eyes = float(np.hypot(*(alignment.landmarks[1] - alignment.landmarks[0])))
            smiling = "yes" if path.stem in SMILING else "no"
            rows.append([path.stem, number, f"{eyes:.0f}", smiling, f"{1 / (1 + np.exp(-value)):.3f}", called])
    header = ["photo", "face", "eye distance, px", "smiling", "P(AU12)", "call"]
    common.write(args.out, "photos", "AU12 on photos, read by a network that saw drawn faces only", header, rows)


if __name__ == "__main__":
    main()
