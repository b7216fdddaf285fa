"""Kept pictures as a data set: the same episodes, shared files, labels and ids, and what is refused."""

from __future__ import annotations

import json
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from actfer_env import make_group_vec
from actfer_env.data import Dataset, load_dataset, prepare_dataset
from actfer_env.data import views as views_module
from actfer_env.data.views import ViewConfig
from actfer_env.errors import ActFERError, DataError, ImageError
from actfer_env.identity import dataset_facts

SMALL = ViewConfig(image_size=32, face_size=32, crop_size=24)
SIZES = {"image_size": 32, "face_size": 32, "crop_size": 24}


def picture_file(path: Path, seed: int) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(coarse).resize((48, 48)).save(path)


def manifest(folder: Path, count: int = 12) -> Path:
    """Aligned faces with labels, in two splits that take turns."""
    lines = []
    for i in range(count):
        picture_file(folder / f"{i}.png", i)
        lines.append({"id": f"f{i}", "image": f"{i}.png", "labels": ["happiness", "anger"][i % 2], "AUs": ["AU12"],
                      "split": ["train", "test", "train"][i % 3], "prealigned": True})  # fmt: skip
    (folder / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "list.jsonl"


@pytest.fixture(scope="module")
def faces() -> Dataset:
    return load_dataset("synthetic-mixed", split="train", n=8)


@pytest.fixture(scope="module")
def drawn(faces: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "faces"
    prepare_dataset(faces, folder, SMALL, workers=1)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    prepare_dataset(load_dataset("jsonl", manifest(folder)), folder / "kept", SMALL, workers=1)
    return folder / "kept"


@pytest.mark.parametrize("env_id", ["ActFER-MultiDiscrete-v0", "ActFER-v0", "ActFER-Discrete-v0"])
def test_episodes_are_those_of_the_data_set_itself(env_id: str, faces: Dataset, drawn: Path) -> None:
    envs = [gym.make(env_id, dataset=f"prepared:{drawn}", **SIZES), gym.make(env_id, dataset=faces, **SIZES)]
    for seed in range(4):
        seen = [env.reset(seed=seed) for env in envs]
        envs[0].action_space.seed(seed)
        for _ in range(6):
            for key, values in seen[0][0].items():
                np.testing.assert_array_equal(values, seen[1][0][key])
            assert seen[0][1]["sample_id"] == seen[1][1]["sample_id"]
            action = envs[0].action_space.sample(seen[0][1]["sample_mask"])
            steps = [env.step(action) for env in envs]
            assert steps[0][1:4] == steps[1][1:4]
            seen = [(step[0], step[4]) for step in steps]
            if steps[0][2] or steps[0][3]:
                break
    assert envs[0].unwrapped.tools.detections == 0


def test_samples_keep_labels_ids_and_their_original_picture(faces: Dataset, drawn: Path) -> None:
    kept = load_dataset(f"prepared:{drawn}")
    assert len(kept) == len(faces)
    for one, other in zip(kept, faces, strict=True):
        assert (one.id, one.emotion, one.aus, one.split) == (other.id, other.emotion, other.aus, other.split)
        assert one.subject == other.subject and one.meta["quality"] == other.meta["quality"]
    np.testing.assert_array_equal(kept[2].load(), faces[2].load())
    assert kept[2].annotate and kept.find(faces[5].id) == 5
    with pytest.raises(DataError, match="no sample 'nobody'"):
        kept.find("nobody")


def test_splits_are_kept_apart(photos: Path) -> None:
    assert [one.id for one in load_dataset(f"prepared:{photos}", split="test")] == ["f1", "f4", "f7", "f10"]
    train = load_dataset(f"prepared:{photos}", split="auto")
    assert {one.split for one in train} == {"train"} and len(train) == 8 and "train" in train.describe()
    assert train.find("f2") == 1
    with pytest.raises(DataError, match="no sample 'f1'"):
        train.find("f1")
    for i, one in enumerate(train):
        image = train.views.tools(train).overview(one, 32)
        whole = load_dataset(f"prepared:{photos}")
        np.testing.assert_array_equal(image, whole.views.image[whole.find(one.id)])
        np.testing.assert_array_equal(image, train.views.image[i])
    assert load_dataset("prepared", photos, "train", n=3)[2].id == "f3"
    with pytest.raises(DataError, match=r"no split 'val'; it has train \(8\), test \(4\)"):
        load_dataset(f"prepared:{photos}", split="val")


def test_workers_share_the_files_and_give_the_same(drawn: Path) -> None:
    kept = load_dataset(f"prepared:{drawn}")
    assert len(pickle.dumps(kept)) < 5_000
    assert pickle.loads(pickle.dumps(kept))[3].id == kept[3].id
    assert isinstance(kept.views.image.base, np.memmap) or isinstance(kept.views.image, np.memmap)
    seen = []
    for workers in (0, 2):
        venv = make_group_vec(
            "ActFER-MultiDiscrete-v0", 2, 2, num_workers=workers, dataset=f"prepared:{drawn}", **SIZES
        )
        obs, _ = venv.reset(seed=1)
        for head in (0, 2, 5):
            actions = np.zeros((4, len(venv.single_action_space.nvec)), int)
            actions[:, 0] = head
            obs, rewards, *_ = venv.step(actions)
        seen.append({**obs, "rewards": rewards})
        venv.close()
    for key, values in seen[0].items():
        np.testing.assert_array_equal(values, seen[1][key])


def test_an_environment_of_other_sizes_or_detector_is_refused(drawn: Path) -> None:
    for changes, told in (({"image_size": 96}, "image_size is 96 .*32"), ({"detector": "mtcnn"}, "detector is mtcnn")):
        with pytest.raises(DataError, match=told) as caught:
            gym.make("ActFER-v0", dataset=f"prepared:{drawn}", **{**SIZES, **changes})
        assert "\n" not in str(caught.value)
    gym.make("ActFER-v0", dataset=f"prepared:{drawn}", detector="simulated", **SIZES)


def test_a_folder_that_is_broken_is_named_with_the_cure(photos: Path, tmp_path: Path) -> None:
    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-40])

    def other(path: Path) -> None:
        facts = json.loads(path.read_text())
        path.write_text(json.dumps({**facts, "version": 99}))

    def sizes(path: Path) -> None:
        np.save(path, np.zeros((12, 16, 16, 3), np.uint8))

    cases: list[tuple[str, Any, str]] = [
        ("image.npy", cut, "is broken"), ("records.npy", cut, "is broken"), ("face.npy", Path.unlink, "is broken"),
        ("facts.json", cut, "is broken"), ("face.npy", sizes, r"face.npy has the shape .* not \(12, 32, 32, 3\)"),
        ("facts.json", other, "was prepared as version .*99, this package reads"),
    ]  # fmt: skip
    for number, (name, spoil, told) in enumerate(cases):
        place = tmp_path / str(number)
        shutil.copytree(photos, place)
        spoil(place / name)
        with pytest.raises(DataError, match=told) as caught:
            load_dataset(f"prepared:{place}")
        assert str(place) in str(caught.value) and "again" in str(caught.value) and "\n" not in str(caught.value)
    for wrong in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(DataError, match=r"holds no prepared data set.*actfer data prepare"):
            load_dataset(f"prepared:{wrong}")
    with pytest.raises(DataError, match="leave out the root"):
        load_dataset(f"prepared:{photos}", root="x")


def test_a_ready_folder_is_opened_and_another_data_set_is_refused(photos: Path, tmp_path: Path) -> None:
    source = load_dataset("jsonl", photos.parent / "list.jsonl")
    before = (photos / "image.npy").stat().st_mtime_ns
    assert len(prepare_dataset(source, photos, SMALL)) == 12 and (photos / "image.npy").stat().st_mtime_ns == before
    with pytest.raises(DataError, match=r"crop_size is 32 .*24"):
        prepare_dataset(source, photos, ViewConfig(32, 32, 32))
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(DataError, match="holds no prepared data set"):
        prepare_dataset(source, tmp_path, SMALL)
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_two_samples_of_one_id_are_refused(photos: Path, tmp_path: Path) -> None:
    source = load_dataset("jsonl", photos.parent / "list.jsonl")
    with pytest.raises(DataError, match="two samples have one id, 'f0'"):
        prepare_dataset([source, source], tmp_path / "a", SMALL, workers=1)
    assert not (tmp_path / "a").exists()


def test_what_was_made_before_a_kill_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = manifest(tmp_path, 130)
    calls: list[str] = []
    row = views_module._row

    def counted(sample: Any, *rest: Any) -> Any:
        calls.append(sample.id)
        if len(calls) == 100:
            raise KeyboardInterrupt
        return row(sample, *rest)

    monkeypatch.setattr(views_module, "_row", counted)
    target = tmp_path / "kept"
    with pytest.raises(KeyboardInterrupt):
        prepare_dataset(load_dataset("jsonl", source), target, SMALL, workers=1)
    assert not target.exists()
    made = prepare_dataset(load_dataset("jsonl", source), target, SMALL, workers=1)
    assert len(calls) == 100 + 130 - 64 and len(made) == 130 and not (tmp_path / "kept.parts").exists()
    other = prepare_dataset(load_dataset("jsonl", source), tmp_path / "straight", SMALL, workers=1)
    np.testing.assert_array_equal(made.views.crops, other.views.crops)


def test_the_identity_follows_the_content(photos: Path, drawn: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "copy")
    places = ((photos, None), (tmp_path / "copy", None), (photos, "train"), (drawn, None))
    kept = [load_dataset("prepared", place, split) for place, split in places]
    facts = [dataset_facts(one, content=True)["content"] for one in kept]
    assert facts[0] == facts[1] and len(set(facts)) == 3


def test_a_picture_whose_original_is_gone_plays_on(tmp_path: Path) -> None:
    made = prepare_dataset(load_dataset("jsonl", manifest(tmp_path / "a")), tmp_path / "kept", SMALL, workers=1)
    shutil.rmtree(tmp_path / "a")
    env = gym.make("ActFER-Discrete-v0", dataset=f"prepared:{tmp_path / 'kept'}", **SIZES)
    env.reset(seed=0)
    env.step(1)
    assert env.step(5)[2]
    with pytest.raises(ImageError):
        made[0].load()


def actfer(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "actfer_env", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_the_command_prepares_and_others_take_the_folder(tmp_path: Path) -> None:
    source, out = manifest(tmp_path), tmp_path / "kept"
    done = actfer("data", "prepare", source, "--out", out, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert "splits: train 8, test 4" in done.stdout and f"prepared:{out}" in done.stdout
    done = actfer("rollout", f"prepared:{out}", "--split", "test", "-n", 2, "--out", tmp_path / "run")
    assert done.returncode == 0 and "2" in done.stdout, done.stderr
    wrong = actfer("data", "prepare", source, "--out", out, "--crop-size", 32)
    assert wrong.returncode == 1 and wrong.stderr.count("\n") == 1 and "crop_size is 32" in wrong.stderr
    assert issubclass(DataError, ActFERError)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_command_leaves_no_folder_and_goes_on(tmp_path: Path) -> None:
    source, target = manifest(tmp_path / "a", 500), tmp_path / "kept"
    command = [sys.executable, "-m", "actfer_env", "data", "prepare", str(source), "--out", str(target),
               "--workers", "1"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not (made := list(tmp_path.glob("kept.parts/part-*.npz"))) and time.monotonic() < until:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert made and not target.exists()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("kept.parts/part-*.npz")}
    again = prepare_dataset(load_dataset("jsonl", source), target, ViewConfig(), workers=1)
    assert before and len(again) == 500 and {path.name for path in tmp_path.iterdir()} == {"a", "kept"}
