"""Splits: found in paths and manifests, refused where a data set has none, never sharing a picture."""

import json

import gymnasium as gym
import numpy as np
import pytest
from helpers import lines, pictures
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import actfer_env
from actfer_env.cli import app
from actfer_env.data import Dataset, Sample, load_dataset, register_dataset
from actfer_env.errors import DataError
from actfer_env.splits import folder_split, parse_split


def ids(split, folder, name="photos"):
    return [sample.id for sample in load_dataset(name, folder, split)]


@pytest.mark.parametrize(
    ("train", "test"),
    [("train/angry/1.png", "test/angry/1.png"), ("angry/Train/1.png", "angry/TEST/1.png"),
     ("a/b/Training/sad/1.png", "a/b/PrivateTest/sad/1.png"), ("FER2013Train/happy/1.png", "FER2013Test/happy/1.png"),
     ("Train_Aligned_Faces/Sad/1.png", "Test_Aligned_Faces/Sad/1.png"), ("train_set/images/1.png", "test_set/a/1.png"),
     ("DATASET/train/1/1.png", "DATASET/test/1/1.png"), ("train2017/1.png", "test2017/1.png")],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*no picture has a label")
def test_folders_name_the_split_at_any_depth_and_in_any_case(tmp_path, train, test):
    pictures(tmp_path, train, test)
    assert ids("train", tmp_path) == [train] and ids("test", tmp_path) == [test]
    assert set(ids(None, tmp_path)) == {train, test}
    with pytest.raises(DataError, match=r"has no split 'val'; it has train \(1\), test \(1\)"):
        load_dataset("photos", tmp_path, "val")


def test_the_folder_nearest_to_the_picture_names_its_split(tmp_path):
    pictures(tmp_path, "train/angry/1.png", "train/val/angry/2.png", "happy/3.png")
    assert ids("train", tmp_path) == ["train/angry/1.png"] and ids("val", tmp_path) == ["train/val/angry/2.png"]
    assert load_dataset("photos", tmp_path).describe() == "photos: 3 samples, splits: train 1, val 1, in none 1"


@pytest.mark.parametrize("name", ["test", "train", "validation"])
def test_the_roots_own_name_is_no_split(tmp_path, name):
    pictures(tmp_path / name, "angry/1.png", "happy/2.png")
    assert {sample.split for sample in load_dataset("photos", tmp_path / name)} == {None}
    with pytest.raises(DataError, match="names no splits"):
        load_dataset("photos", tmp_path / name, "test")


@pytest.mark.parametrize(
    "name", ["train station", "test results", "contest", "trainers", "latest", "développement", "1"]
)
def test_other_folders_are_no_splits(name):
    assert folder_split(name) is None


@given(st.text(max_size=30))
def test_any_name_is_a_split_or_none(name):
    assert folder_split(name) in ("train", "val", "test", None)


def test_file_names_tell_the_split_where_all_do(tmp_path):
    pictures(tmp_path, "train_00001_aligned.png", "train_00002_aligned.png", "test_0001_aligned.png")
    assert len(ids("train", tmp_path)) == 2 and ids("test", tmp_path) == ["test_0001_aligned.png"]
    pictures(tmp_path, "holiday.png")
    with pytest.raises(DataError, match="names no splits"):
        load_dataset("photos", tmp_path, "test")


def test_a_manifest_names_splits_before_folders_do(tmp_path):
    pictures(tmp_path, "train/a.png", "train/b.png", "c.png")
    lines(tmp_path / "manifest.jsonl", {"id": "a", "image": "train/a.png", "split": "Validation"},
          {"id": "b", "image": "train/b.png"}, {"id": "c", "image": "c.png", "usage": "PublicTest"})  # fmt: skip
    with pytest.warns(UserWarning, match="'usage' is read as 'split' in 1 line"):
        found = {sample.id: sample.split for sample in load_dataset("photos", tmp_path)}
    assert found == {"a": "val", "b": "train", "c": "val"}


def test_json_lines_take_the_split_from_the_path_of_the_image(tmp_path):
    pictures(tmp_path, "train/a.png", "test/b.png")
    path = lines(tmp_path / "f.jsonl", {"id": "a", "image": "train\\a.png"},
                 {"id": "b", "image": str(tmp_path / "test" / "b.png")})  # fmt: skip
    assert ids("train", path, "jsonl") == ["a"] and ids("test", path, "jsonl") == ["b"]


@pytest.mark.parametrize("name", ["manifest.jsonl", "f.jsonl"])
def test_a_picture_in_two_splits_is_refused(tmp_path, name):
    pictures(tmp_path, "a.png")
    path = lines(tmp_path / name, {"id": "1", "image": "a.png", "split": "train"},
                 {"id": "2", "image": "./a.png", "split": "test"})  # fmt: skip
    for split in ("train", "test", None):
        with pytest.raises(DataError, match=r"a\.png is in .*leave it in one split alone"):
            load_dataset(*(("photos", tmp_path) if "manifest" in name else ("jsonl", path)), split)


def test_a_link_from_one_split_into_another_is_refused(tmp_path):
    pictures(tmp_path, "train/happy/a.png", "test/happy/b.png")
    (tmp_path / "test" / "happy" / "c.png").symlink_to(tmp_path / "train" / "happy" / "a.png")
    with pytest.raises(DataError, match="leave it in one split alone"):
        load_dataset("photos", tmp_path, "test")


def test_pictures_that_a_manifest_lists_again_are_told(tmp_path):
    pictures(tmp_path, "a.png")
    lines(tmp_path / "manifest.jsonl", {"id": "1", "image": "a.png", "labels": ["fear"]}, {"id": "2", "image": "a.png"})
    with pytest.warns(UserWarning, match=r"listed again .*a\.png \(line 2\), 1 in all"):
        assert [sample.emotion for sample in load_dataset("photos", tmp_path)] == ["fear"]


def test_environments_train_on_the_train_split_and_on_everything_where_there_is_none(tmp_path):
    plain, split = pictures(tmp_path / "p", "a.png", "b.png"), pictures(tmp_path / "s", "train/a.png", "test/b.png")
    for name in ("ActFER-v0", "ActFER-Chat-v0"):
        make = lambda root, name=name, **kw: gym.make(name, dataset="photos", root=str(root), **kw).unwrapped.dataset  # noqa: E731
        assert len(make(plain)) == 2 and [s.id for s in make(split)] == ["train/a.png"]
        assert len(make(split, split=None)) == 2 and make(split).arguments["split"] == "train"
        with pytest.raises(DataError, match="names no splits"):
            make(plain, split="train")
    only = pictures(tmp_path / "t", "test/a.png")
    with pytest.raises(DataError, match=r"has no split 'train'; it has test \(1\)"):
        gym.make("ActFER-v0", dataset="photos", root=str(only))


def test_a_loader_of_your_own_is_asked_for_the_train_split():
    register_dataset(
        "asked", lambda root, split=None: [Sample(str(split), np.zeros((20, 20, 3), np.uint8))], replace=True
    )
    assert [load_dataset("asked", split=split)[0].id for split in ("auto", None, "test")] == ["train", "None", "test"]


@pytest.mark.parametrize("command", [["rollout"], ["data", "verl"], ["data", "precompute"], ["eval", "--model", "m"]])
def test_every_command_says_what_it_plays_or_refuses_the_split(tmp_path, command):
    photos = pictures(tmp_path / "p", "train/happy/a.png", "train/sad/b.png", "test/sad/c.png")
    plain = pictures(tmp_path / "q", "happy/a.png")
    run = lambda *rest: CliRunner().invoke(app, [*command, *map(str, rest)])  # noqa: E731
    more = ["--dry-run"] if command[0] == "eval" else ["--out", tmp_path / "out"]
    done = run(photos, "--split", "train", "-n", 1, *more)
    assert "photos: 1 of 2 samples, split train\n" in done.output and done.exit_code == 0, done.output
    done = run(plain, "--split", "test", *more[:1], *(tmp_path / name for name in ["fresh"][: len(more) - 1]))
    assert isinstance(done.exception, DataError) and "names no splits" in str(done.exception)
    assert not (tmp_path / "fresh").exists()


def test_what_a_data_set_holds_is_told_in_one_line():
    one = Dataset("mine", [Sample("a", np.zeros((20, 20, 3), np.uint8))])
    assert one.describe() == "mine: 1 sample, no splits"
    assert load_dataset("synthetic", split="val", n=9).describe(4) == "synthetic: 4 of 9 samples, split val"


@pytest.mark.parametrize("name", ["dev", "DEV", "test set", "Validation", "private_test"])
def test_texts_of_splits(name):
    assert parse_split(name) in ("val", "test")


def test_presets_are_passed_on_and_refused_where_there_are_none(tmp_path):
    for name in ("ActFER-v0", "ActFER-Chat-v0"):
        made = gym.make(name, preset="hard").unwrapped.dataset
        assert made.arguments["preset"] == "hard" and made.arguments["split"] == "train"
        with pytest.raises(DataError, match="'photos' has no option 'preset': it takes labels"):
            gym.make(name, dataset="photos", root=str(tmp_path), preset="hard")
    with pytest.raises(DataError, match="unknown preset 'harder'"):
        gym.make("ActFER-v0", preset="harder")
    with pytest.raises(DataError, match="goes with a data set's name"):
        gym.make("ActFER-v0", dataset=load_dataset("portrait"), preset="hard")
    envs = actfer_env.make_group_vec("ActFER-Discrete-v0", 1, 2, preset="easy")
    assert envs.dataset.arguments["preset"] == "easy"
    out = ["--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["rollout", "synthetic", "-n", "1", "--preset", "hard", *out])
    assert (
        done.exit_code == 0 and json.loads((tmp_path / "out" / "run.json").read_text())["dataset"]["preset"] == "hard"
    )
    done = CliRunner().invoke(
        app, ["eval", "synthetic", "--model", "m", "-n", "1", "--dry-run", "--data-preset", "easy"]
    )
    assert done.exit_code == 0 and "synthetic: 1 of 5000 samples, split test" in done.output
