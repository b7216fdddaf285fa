"""What do state, masks, boxes, file sizes and picture statistics tell about the emotion? Wanted: nothing.

Classifiers are trained on train and scored on held-out people. Chance is 12.5 %. A row beyond chance by more than two
standard errors is marked. All samples count, lost ones too: state and masks follow from whether a face was found.

The last row is a control: boxes as they would be if the simulated detector gave the true landmarks, which move with
the expression, instead of those of the face at rest.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from actfer_env.data.synthetic.faces import FIVE_POINTS
from actfer_env.data.synthetic.faces.geometry import base_surface
from actfer_env.data.synthetic.faces.muscles import deform, muscles
from actfer_env.data.synthetic.faces.render import landmarks
from actfer_env.data.synthetic.faces.scene import person_frame
from actfer_env.data.synthetic.presets import SyntheticConfig
from actfer_env.data.synthetic.samples import draw_spec
from actfer_env.tools import geometry
from actfer_env.tools.align import TEMPLATE
from actfer_env.tools.regions import region_boxes
from benchmarks.synthetic import common

CHANCE = 1 / 8


def features(split: common.Split) -> dict[str, np.ndarray]:
    """Return the groups of features, each (samples, columns)."""
    found = np.asarray(split.found, float)[:, None]
    regions = np.asarray(split.regions).reshape(len(split), -1)
    box = np.asarray(split.box)
    size = np.stack([box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]], 1)
    return {
        "state, masks, score, count": np.concatenate([found, split.score[:, None], split.faces[:, None]], 1),
        "side of the picture": np.asarray(split.side, float)[:, None],
        "PNG and JPEG bytes": np.concatenate([split.bytes, split.bytes / split.side[:, None] ** 2.0], 1),
        "picture statistics": np.asarray(split.statistics),
        "region boxes": regions,
        "- forehead-eyebrow": regions[:, 0:4], "- eye-periorbital": regions[:, 4:8],
        "- nose": regions[:, 8:12], "- mouth-chin": regions[:, 12:16],
        "face box": np.concatenate([box, size, size[:, :1] / np.maximum(size[:, 1:], 1)], 1),
    }  # fmt: skip


def true_boxes(split: str, count: int) -> np.ndarray:
    """Return the region boxes that the true landmarks of the first samples would give; nothing is drawn."""
    rows = np.zeros((count, 16))
    for index in range(count):
        spec = draw_spec(SyntheticConfig(), split, index)
        person = spec.scene.people[-1]
        layers, drift = deform(base_surface(person.identity), person.expression.weights())
        frame = person_frame(spec.scene.width, spec.scene.height, person)
        shapes = muscles(person.identity, person.expression)
        points, _ = landmarks(person.identity, shapes, layers, drift, person.pose.matrix(), frame)
        five = np.array([points[name] for name in FIVE_POINTS])
        aligned = geometry.apply(geometry.similarity(five, TEMPLATE.points), five)
        rows[index] = np.ravel(list(region_boxes(aligned).values()))
    return rows


def together(groups: dict[str, np.ndarray], without: tuple[str, ...]) -> np.ndarray:
    return np.concatenate([value for name, value in groups.items() if name[0] != "-" and name not in without], 1)


def score(train: np.ndarray, label: np.ndarray, test: np.ndarray, truth: np.ndarray) -> list[float]:
    models = (
        HistGradientBoostingClassifier(max_iter=60, learning_rate=0.06, max_leaf_nodes=15, random_state=0),
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
    )
    return [float((model.fit(train, label).predict(test) == truth).mean()) for model in models]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--eval", choices=("val", "test"), default="test")
    parser.add_argument("--control", type=int, default=5000, help="samples of the control")
    args = parser.parse_args()
    train, test = (common.load(args.cache, name) for name in ("train", args.eval))
    known, seen = features(train), features(test)
    boxes = ("region boxes", "face box")
    known["all without boxes"], seen["all without boxes"] = together(known, boxes), together(seen, boxes)
    known["all"], seen["all"] = (together(g, ("all without boxes",)) for g in (known, seen))
    error = np.sqrt(CHANCE * (1 - CHANCE) / len(test))
    rows = []
    for name, value in known.items():
        results = score(value, np.asarray(train.emotion), seen[name], np.asarray(test.emotion))
        cells = [f"{100 * r:.1f}{' *' if r > CHANCE + 2 * error else ''}" for r in results]
        rows.append([name, value.shape[1], *cells])
    counts = [min(len(split), args.control) for split in (train, test)]
    boxes_of = [true_boxes(name, count) for name, count in zip(("train", args.eval), counts, strict=True)]
    labels = [np.asarray(split.emotion)[:count] for split, count in zip((train, test), counts, strict=True)]
    results = score(boxes_of[0], labels[0], boxes_of[1], labels[1])
    rows.append(["control: boxes from true landmarks", 16, *(f"{100 * r:.1f} *" for r in results)])
    title = (f"Emotion from all but the face, accuracy in %, {len(test)} samples of split {args.eval}; "
             f"chance {100 * CHANCE} ± {200 * error:.1f} (two standard errors), * beyond it")  # fmt: skip
    common.write(args.out, "leak", title, ["sees", "columns", "boosted trees", "logistic regression"], rows)


if __name__ == "__main__":
    main()
