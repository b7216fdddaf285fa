"""Detections made once for a data set, and read by every process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import actfer, one_line
from skimage.data import astronaut

from actfer_env.data import Dataset, load_dataset
from actfer_env.data.precompute import PrecomputeConfig, precompute
from actfer_env.errors import DataError, DetectorError
from actfer_env.evaluation.play import RolloutConfig, play
from actfer_env.testing import check_detector
from actfer_env.tools import FaceTools, make_detector, register_detector
from actfer_env.tools.detectors import Face
from actfer_env.tools.detectors.cached import CachedDetector, DetectionStore, Row
from actfer_env.tools.orientation import detect_in

SMALL = PrecomputeConfig("mtcnn", shard_size=2)


def photos(folder: Path, number: int = 4) -> Path:
    """Write one face at several brightnesses: pictures that differ."""
    folder.mkdir(parents=True)
    for index in range(number):
        face = cv2.resize(astronaut()[20:240, 100:320], (160, 160), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / f"{index}.png"), cv2.subtract(face[..., ::-1], 5 * index))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Path]:
    folder = tmp_path_factory.mktemp("made")
    data = load_dataset("photos", photos(folder / "photos"))
    assert precompute(data, folder / "faces", SMALL).detected == 4
    return data, folder / "faces"


def same(first: Face, second: Face) -> bool:
    return (first.box, first.score, first.meta) == (second.box, second.score, second.meta) and np.array_equal(
        first.landmarks, second.landmarks
    )


def test_what_is_read_equals_what_is_detected_bit_for_bit(made: tuple[Dataset, Path]) -> None:
    data, folder = made
    cached, real = make_detector(f"cached:{folder}"), make_detector("mtcnn")
    assert isinstance(cached, CachedDetector)
    for sample in data:
        read, detected = cached.detect_sample(sample, sample.load()), detect_in(real, sample, sample.load())
        assert len(read) == len(detected) == 1 and same(read[0], detected[0])
    assert (cached.hits, cached.misses) == (4, 0)


def test_dense_landmarks_and_notes_survive(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    face = Face((0.1, -2.0, 1e-9, 1 / 3), rng.normal(size=(5, 2)), 0.1 + 0.2, rng.normal(size=(106, 2)), {"age": 3})
    store = DetectionStore(tmp_path, "mtcnn", {}, 1)
    store.write(store.shard(0, "a"), [Row("x", "p", [face, face]), Row("y", "p", [])])
    (read, _), none = store.find("x", "p") or [], store.find("y", "p")
    assert same(read, face) and np.array_equal(read.landmarks_106, face.landmarks_106) and none == []
    assert store.find("x", "q") is None and store.find("z", "p") is None


@pytest.mark.parametrize("name", ["portrait", "synthetic"])
def test_episodes_are_equal_with_and_without(tmp_path: Path, name: str) -> None:
    data = load_dataset(name, split="test", **({"n": 6} if name == "synthetic" else {}))
    precompute(data, tmp_path, PrecomputeConfig("auto", number=6))
    runs = [play(data, RolloutConfig(number=6, detector=spec)) for spec in ("auto", f"cached-only:{tmp_path}")]
    assert runs[0].rollouts == runs[1].rollouts
    assert any(rollout.detection == "ok" for rollout in runs[1].rollouts)


class Counting:
    """Finds one face in the middle, and notes each call in a file, across processes."""

    name = "counting"

    def __init__(self, log: str) -> None:
        self.log = Path(log)

    def detect(self, image: np.ndarray) -> list[Face]:
        with self.log.open("a") as handle:
            handle.write("x")
        return [Face((10.0, 10.0, 90.0, 90.0), np.array([[30, 40], [70, 40], [50, 60], [35, 75], [65, 75.0]]), 1.0)]


@pytest.fixture()
def log(tmp_path: Path) -> Path:
    register_detector("counting", Counting, replace=True)
    (tmp_path / "log").touch()
    return tmp_path / "log"


def test_each_picture_is_detected_once_whoever_asks(tmp_path: Path, log: Path) -> None:
    data, folder = load_dataset("photos", photos(tmp_path / "photos")), tmp_path / "faces"
    config = PrecomputeConfig(f"counting:{log}", shard_size=2)
    first, second = precompute(data, folder, config), precompute(data, folder, config)
    assert (first.detected, first.kept, second.detected, second.kept) == (4, 0, 0, 4)
    for _ in range(3):
        tools = FaceTools(f"cached:{folder}")
        assert all(tools.alignment(sample) is not None for sample in data)
    assert log.read_text() == "xxxx"


def test_a_changed_picture_is_made_again_and_only_that_one(tmp_path: Path, log: Path) -> None:
    folder, faces = photos(tmp_path / "photos"), tmp_path / "faces"
    config = PrecomputeConfig(f"counting:{log}", shard_size=2)
    precompute(load_dataset("photos", folder), faces, config)
    cv2.imwrite(str(folder / "2.png"), np.zeros((160, 170, 3), np.uint8))
    changed = load_dataset("photos", folder)
    with pytest.warns(RuntimeWarning, match="2.png"):
        FaceTools(f"cached:{faces}").alignment(changed[2])
    assert precompute(changed, faces, config).detected == 1
    assert len(log.read_text()) == 6


def test_a_miss_detects_and_says_so_once_or_is_refused(made: tuple[Dataset, Path], tmp_path: Path) -> None:
    folder = made[1]
    others = load_dataset("portrait", split="test")
    tools = FaceTools(f"cached:{folder}")
    with pytest.warns(RuntimeWarning, match="detecting this and any other") as said:
        found = [tools.alignment(sample) for sample in others[:3]]
    assert len(said) == 1 and tools.detector.misses == 3  # type: ignore[attr-defined]
    assert any(alignment is not None for alignment in found)
    with pytest.raises(DetectorError, match=r"is not in .*: run: actfer data precompute"):
        FaceTools(f"cached-only:{folder}").alignment(others[0])


def test_the_reader_is_a_detector_like_others(made: tuple[Dataset, Path]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        check_detector(make_detector(f"cached:{made[1]}"))


def test_a_folder_belongs_to_one_detector_with_its_settings(made: tuple[Dataset, Path], tmp_path: Path) -> None:
    data, folder = made
    with pytest.raises(DetectorError, match="holds detections of 'mtcnn' with other settings"):
        precompute(data, folder, PrecomputeConfig("auto"))
    about = json.loads((folder / "detector.json").read_text())
    about["settings"]["config"]["min_face"] = 20.0
    (tmp_path / "detector.json").write_text(json.dumps(about))
    with pytest.raises(DetectorError, match="other settings or weights"), pytest.warns(RuntimeWarning):
        FaceTools(f"cached:{tmp_path}").alignment(data[0])


@pytest.mark.parametrize(
    "content", [None, "{", "{}", json.dumps({"format": 9, "spec": "", "settings": {}, "buckets": 1})]
)
def test_a_folder_without_detections_gives_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "detector.json").write_text(content)
    with pytest.raises(DetectorError, match=r"holds no detections|is broken|of format 9") as error:
        make_detector(f"cached:{tmp_path}")
    assert "\n" not in str(error.value)


def test_a_broken_shard_gives_one_line_and_is_made_again(tmp_path: Path, log: Path) -> None:
    data, folder = load_dataset("photos", photos(tmp_path / "photos")), tmp_path / "faces"
    config = PrecomputeConfig(f"counting:{log}", shard_size=100)
    precompute(data, folder, config)
    (shard,) = folder.glob("*/*.sqlite")
    shard.write_bytes(b"no database, but long enough to look at" * 9)
    with pytest.raises(DetectorError, match=r"cannot read .*sqlite .*: delete it, and run") as error:
        FaceTools(f"cached:{folder}").alignment(data[0])
    assert "\n" not in str(error.value)
    done = precompute(data, folder, config)
    assert done.detected == 4 and "made again" in done.failures[0]
    assert precompute(data, folder, config).kept == 4


def test_a_broken_picture_is_one_line_and_the_rest_is_done(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    (folder / "1.png").write_bytes(b"\x89PNG no picture")
    command = ("data", "precompute", folder, "--detector", "mtcnn", "--out", tmp_path / "faces")
    done = actfer(*command)
    assert done.returncode == 1 and "3 detected" in done.stdout
    assert sum(line.startswith("actfer: ") and "1.png" in line for line in done.stderr.splitlines()) == 1
    photos(tmp_path / "new")
    (tmp_path / "new/1.png").replace(folder / "1.png")
    done = actfer(*command)
    assert done.returncode == 0 and "1 detected (0 without a face), 3 known before" in done.stdout
    done = actfer("rollout", folder, "--detector", f"cached-only:{tmp_path / 'faces'}", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    done = actfer("rollout", folder, "--detector", f"cached:{tmp_path}", "--out", tmp_path / "other")
    assert done.returncode == 1 and "holds no detections" in done.stderr


def test_an_unknown_detector_is_one_line(tmp_path: Path) -> None:
    done = actfer("data", "precompute", "portrait", "--detector", "psychic", "--out", tmp_path)
    assert done.returncode == 1 and one_line(done.stderr) and "psychic" in done.stderr


def test_a_killed_run_loses_the_shard_in_work_alone(tmp_path: Path) -> None:
    out = tmp_path / "faces"
    faces = photos(tmp_path / "photos", 14)
    arguments = ("data", "precompute", str(faces), "--detector", "mtcnn", "--out", str(out), "--shard-size", "2")
    process = subprocess.Popen([sys.executable, "-m", "actfer_env", *arguments], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    while len(list(out.glob("*/*.sqlite"))) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    whole = sum(DetectionStore.counts(path)[0] for path in out.glob("*/*.sqlite"))
    data = load_dataset("photos", faces)
    assert 0 < whole < len(data)
    done = precompute(data, out, SMALL)
    assert (done.kept, done.detected) == (whole, len(data) - whole)
    tools = FaceTools(f"cached-only:{out}")
    assert all(isinstance(tools.alignment(sample) is not None, bool) for sample in data)


def test_processes_share_a_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "actfer_env", "data", "precompute", "portrait", "--detector", "mtcnn",
               "--out", str(tmp_path), "--shard-size", "4", "-n", "12"]  # fmt: skip
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0] and all("known before" in text for text in said)
    data, cached = load_dataset("portrait"), CachedDetector(tmp_path, miss="error")
    assert all(cached.detect_sample(sample, sample.load()) is not None for sample in data[:12])
    assert not list(tmp_path.rglob("*.draft"))


def test_workers_and_parts_do_the_same_work(tmp_path: Path) -> None:
    data = load_dataset("synthetic", split="val", n=12)
    parts = [precompute(data, tmp_path, PrecomputeConfig(shard_size=2, part=(i, 2))) for i in range(2)]
    assert sum(done.detected for done in parts) == 12 and all(done.detected for done in parts)
    assert precompute(data, tmp_path, PrecomputeConfig(shard_size=2)).kept == 12
    shared = precompute(data, tmp_path / "workers", PrecomputeConfig(shard_size=2, workers=2))
    assert shared.detected == 12
    shards = [
        sorted(p.relative_to(root) for p in root.glob("0???/*.sqlite")) for root in (tmp_path, tmp_path / "workers")
    ]
    assert shards[0] == shards[1]
    with pytest.raises(DataError, match="parts count from 0"):
        PrecomputeConfig(part=(2, 2))


def test_memory_does_not_grow_with_the_data_set(tmp_path: Path) -> None:
    """Peak memory of 20 drawn pictures and of 60 is nearly the same."""
    program = ("import resource, sys\nfrom actfer_env.data import load_dataset\n"
               "from actfer_env.data.precompute import PrecomputeConfig, precompute\n"
               "n = int(sys.argv[1])\nprecompute(load_dataset('synthetic', split='train', n=n), sys.argv[2], "
               "PrecomputeConfig('simulated', shard_size=10))\n"
               "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)")  # fmt: skip
    sizes = []
    for number in (20, 60):
        command = [sys.executable, "-c", program, str(number), str(tmp_path / str(number))]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        sizes.append(int(done.stdout))
    assert sizes[1] < 1.15 * sizes[0]
