"""The synthetic data set: deterministic, honest labels, disjoint people, and detectors on it."""

import ast
import hashlib
import inspect
import re
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from actfer_env import facs
from actfer_env.data import load_dataset
from actfer_env.data.synthetic import samples as synthetic
from actfer_env.data.synthetic.faces import is_detectable
from actfer_env.data.synthetic.presets import PRESETS, SyntheticConfig
from actfer_env.data.synthetic.samples import PRIOR, draw_spec
from actfer_env.errors import DataError, DetectorError
from actfer_env.tools import FaceTools, make_detector
from actfer_env.tools.detectors.simulated import SimulatedConfig

CONFIG = SyntheticConfig()


def digest(indices):
    """SHA-256 of the pictures of some test samples."""
    total = hashlib.sha256()
    for index in indices:
        total.update(synthetic.picture(CONFIG, "test", index).tobytes())
    return total.hexdigest()


def test_the_same_bytes_from_one_process_from_four_and_in_any_order():
    shares = [range(start, 64, 4) for start in range(4)]
    alone = [digest(share) for share in shares]
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(digest, shares)) == alone
    assert digest(reversed(shares[3])) == digest(list(shares[3])[::-1])


@pytest.mark.parametrize(("preset", "known"), [
    ("easy", "0ae43e4e2142"), ("standard", "da2c83a135a3"), ("hard", "c1c3e8348863"), ("mixed", "de56f10156d7"),
    ("subtle", "851bfcc78166"),
])  # fmt: skip
def test_generator_2_is_frozen(preset, known):
    specs = repr([draw_spec(SyntheticConfig(preset=preset), split, i) for split in PRESETS_SPLITS for i in range(40)])
    rounded = re.sub(r"-?\d+\.\d+(e-?\d+)?", lambda number: f"{float(number[0]):.5f}", specs)
    assert hashlib.sha256(rounded.encode()).hexdigest()[:12] == known, "raise GENERATOR_VERSION, or undo the change"


def test_samples_are_addressable_and_lazy():
    dataset = load_dataset("synthetic", split="test")
    assert len(dataset) == synthetic.SIZES["test"]
    assert dataset.find("test-000017") == 17 and dataset[17].id == "test-000017"
    for name in ("test-17", "train-000017", "test-999999", "x"):
        with pytest.raises(DataError, match="no sample"):
            dataset.find(name)
    assert [s.id for s in dataset[1:3]] == ["test-000001", "test-000002"]
    assert dataset[-1].id == f"test-{len(dataset) - 1:06d}"
    assert load_dataset("synthetic", split="test", n=3)[2].emotion == dataset[2].emotion


def test_people_of_the_splits_are_different():
    people = {
        split: {s.meta["identity"] for s in load_dataset("synthetic", split=split, n=300)} for split in PRESETS_SPLITS
    }
    assert not people["train"] & people["val"] and not people["val"] & people["test"]
    faces = {split: draw_spec(CONFIG, split, 0).scene.people[-1].identity for split in PRESETS_SPLITS}
    assert len(set(map(repr, faces.values()))) == 3


PRESETS_SPLITS = ("train", "val", "test")


def test_emotions_are_balanced_or_follow_the_stated_prior():
    for kind in ("balanced", "prior"):
        counts = Counter(draw_spec(SyntheticConfig(emotions=kind), "train", i).emotion for i in range(3000))
        for emotion in facs.EMOTIONS:
            share = 1 / 8 if kind == "balanced" else PRIOR[emotion]
            assert abs(counts[emotion] / 3000 - share) < 4 * np.sqrt(share * (1 - share) / 3000)
    assert sum(PRIOR.values()) == pytest.approx(1) and set(PRIOR) == set(facs.EMOTIONS)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_labels_are_the_drawn_units(preset):
    config, level = SyntheticConfig(preset=preset), PRESETS[preset]
    for index in range(200):
        spec = draw_spec(config, "train", index)
        prototype = facs.PROTOTYPES[spec.emotion]
        known = set().union(prototype.aus, *prototype.variants)
        assert spec.aus == set(spec.expression.left) | set(spec.expression.right)
        assert len(spec.aus - known - {25}) <= 1
        assert 26 not in spec.aus or 25 in spec.aus
        if spec.emotion != "neutral":
            assert spec.aus & known
        strengths = [*spec.expression.left.values(), *spec.expression.right.values()]
        assert all(1 <= value <= 5 for value in strengths)
    assert preset != "easy" or level.drop == level.add == 0


def test_contempt_is_one_sided():
    specs = [spec for i in range(400) if (spec := draw_spec(CONFIG, "train", i)).emotion == "contempt"]
    assert len(specs) > 20
    for spec in specs:
        assert not {14} & set(spec.expression.left) & set(spec.expression.right)


def test_the_optics_know_nothing_of_the_emotion():
    for function in (synthetic._draw_scene, synthetic._draw_person, synthetic._lose, synthetic._draw_hand):
        names = {node.id for node in ast.walk(ast.parse(inspect.getsource(function))) if isinstance(node, ast.Name)}
        assert not names & {"emotion", "EMOTIONS", "PROTOTYPES", "aus", "facs"}
    qualities = Counter((s.emotion, s.quality) for s in (draw_spec(CONFIG, "train", i) for i in range(4000)))
    for emotion in facs.EMOTIONS:
        total = sum(count for (name, _), count in qualities.items() if name == emotion)
        assert qualities[emotion, "poor"] / total == pytest.approx(0.92 * 0.3, abs=0.08)


def test_a_disk_cache_gives_the_same_pictures_and_heals_itself(tmp_path):
    plain = load_dataset("synthetic", split="test", n=3)
    cached = load_dataset("synthetic", split="test", n=3, cache=str(tmp_path))
    for _ in range(2):
        assert all((a.image == b.image).all() for a, b in zip(plain, cached, strict=True))
    kept = sorted(tmp_path.rglob("*.png"))
    assert len(kept) == 3
    kept[0].write_bytes(b"broken")
    assert all((a.image == b.image).all() for a, b in zip(plain, cached, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"preset": "brutal"}, "unknown preset"), ({"n": 0}, "n is 0"), ({"seed": -1}, "seed must be"),
     ({"emotions": "sad"}, "unknown emotions"), ({"colour": 1}, "colour")],
)  # fmt: skip
def test_bad_options_are_named(options, message):
    with pytest.raises(DataError, match=message):
        load_dataset("synthetic", **options)
    with pytest.raises(DataError, match="takes no root"):
        load_dataset("synthetic", "folder")


def error(faces, face, rest=False):
    """The smallest mean landmark error in inter-ocular distances, against the face as it is or at rest."""
    five = face.five(rest) + 0.5
    return min((np.linalg.norm(f.landmarks - five, axis=1).mean() / face.inter_ocular for f in faces), default=9.0)


def test_mtcnn_finds_the_faces_that_the_rule_calls_detectable():
    dataset, detector = load_dataset("synthetic", split="val"), make_detector("mtcnn")
    samples = [dataset[i] for i in range(80)]
    detectable = [s for s in samples if is_detectable(s.annotate()[-1])]
    assert len(detectable) >= 0.75 * len(samples)
    errors = np.array([error(detector.detect(s.image), s.annotate()[-1]) for s in detectable])
    assert (errors < 0.35).mean() >= 0.97
    assert np.median(errors[errors < 0.35]) <= 0.055


def test_the_simulated_detector_gives_the_truth_of_the_face_at_rest_or_nothing():
    dataset, detector = load_dataset("synthetic", split="val"), make_detector("simulated")
    found = 0
    for sample in dataset[:60]:
        face = sample.annotate()[-1]
        faces = detector.detect_sample(sample, sample.image)
        found += len(faces) > 0
        assert (error(faces, face, rest=True) < 1e-6) == SimulatedConfig().finds(face)
        assert not is_detectable(face) or SimulatedConfig().finds(face)
    assert found >= 45
    with pytest.raises(DetectorError, match="drawn samples"):
        detector.detect(dataset[0].image)
    with pytest.raises(DetectorError, match="no drawn picture"):
        detector.detect_sample(load_dataset("portrait")[0], dataset[0].image)


def test_auto_is_simulated_on_drawn_samples_and_mtcnn_on_photos():
    tools = FaceTools("auto")
    sample = next(s for s in load_dataset("synthetic", split="val") if is_detectable(s.annotate()[-1]))
    drawn, photo = tools.alignment(sample), tools.alignment(load_dataset("portrait")[0])
    assert drawn.score == 1.0 and 0.9 < photo.score < 1.0


def test_subtle_faces_are_weak_and_large_and_show_whole_prototypes():
    specs = [draw_spec(SyntheticConfig(preset="subtle"), "train", i) for i in range(300)]
    for spec in specs:
        # the sides of a face differ by a little noise
        assert all(value <= 4 for value in [*spec.expression.left.values(), *spec.expression.right.values()])
    good = [spec for spec in specs if spec.quality == "good"]
    assert min(spec.scene.people[-1].scale for spec in good) >= 108
    assert 0.15 < np.mean([spec.quality == "poor" for spec in specs]) < 0.4
    shown = {name: {spec.aus for spec in specs if spec.emotion == name} for name in ("neutral", "contempt", "anger")}
    assert shown["neutral"] == {frozenset()} and shown["contempt"] == {frozenset({14}), frozenset({12, 14})}
    assert shown["anger"] == {facs.PROTOTYPES["anger"].aus, *facs.PROTOTYPES["anger"].variants}


def test_poor_pictures_of_subtle_hold_as_little_of_a_face_as_those_of_standard():
    held = {}
    for preset in ("standard", "subtle"):
        specs = (draw_spec(SyntheticConfig(preset=preset), "train", i) for i in range(600))
        poor = [spec.scene for spec in specs if spec.quality == "poor"]
        held[preset] = np.mean([scene.people[-1].scale * scene.camera.detail for scene in poor])
    assert held["subtle"] == pytest.approx(held["standard"], rel=0.06)
