"""`actfer data check`: what is found in a data set, and what is not."""

import json
import shutil

import loader_trees as trees
import numpy as np
import pytest
from helpers import shared_path
from PIL import Image
from typer.testing import CliRunner

from actfer_env.cli import app
from actfer_env.data.check import CheckConfig, check_dataset
from actfer_env.data.duplicates import bits_apart, near_pairs, perceptual_hash
from actfer_env.errors import ActFERError

pytest.importorskip("imagehash")


def kinds(report):
    """The faults of a report, and its notes but for that the tree is a part of the data set."""
    return {one.kind for one in report.findings if one.fault}, {
        one.kind for one in report.findings if not one.fault and one.kind != "a part"
    }


def finding(report, kind):
    return next(one for one in report.findings if one.kind == kind)


@pytest.mark.parametrize(
    ("name", "build"),
    [("rafdb", trees.rafdb), ("ferplus", trees.ferplus_pictures), ("affectnet", trees.affectnet_npy),
     ("disfa", trees.disfa), ("disfaplus", trees.disfa_plus), ("bp4d", trees.bp4d), ("sfew", trees.sfew),
     ("facial_expressions", trees.facial_expressions), ("rafau", trees.rafau)],
)  # fmt: skip
def test_a_sound_tree_has_no_faults(name, build, tmp_path):
    report = check_dataset(name, trees.fresh(tmp_path, build))
    assert report.ok and not kinds(report)[0], report.findings
    assert report.edition and report.licence


def test_counts_stand_beside_the_official_ones_in_the_data_sets_own_order(tmp_path):
    report = check_dataset("rafdb", trees.fresh(tmp_path, trees.rafdb))
    assert report.order == trees.RAF
    assert report.counts["train"] == dict.fromkeys(trees.RAF, 2)
    assert report.official["test"]["fear"] == 74
    assert finding(report, "a part").text == "a part of the official data set: train 14 of 12,271, test 14 of 3,068"


def test_action_units_are_counted_where_they_are_annotated(tmp_path):
    report = check_dataset("bp4d", trees.fresh(tmp_path, trees.bp4d))
    assert report.coded == {"train": 12, "test": 6}  # the fourth frame of each task has an unknown unit
    assert {name: number for name, number in report.units["train"].items() if number} == {"AU6": 12, "AU12": 12}
    assert report.units["train"]["AU24"] == 0
    assert report.subjects == {"train": 2, "test": 1}


def test_missing_broken_and_equal_pictures_are_named(tmp_path):
    root = trees.fresh(tmp_path, trees.rafdb)
    folder = root / "basic/Image/aligned"
    (folder / "train_00003_aligned.jpg").unlink()
    (folder / "train_00004_aligned.jpg").write_bytes(b"no picture")
    shutil.copy(folder / "train_00001_aligned.jpg", folder / "test_00001_aligned.jpg")
    shutil.copy(folder / "train_00001_aligned.jpg", folder / "train_00002_aligned.jpg")
    report = check_dataset("rafdb", root)
    faults, notes = kinds(report)
    assert faults == {"missing files", "broken pictures", "equal pictures in two splits"}
    assert notes == {"equal pictures"}
    assert finding(report, "missing files").examples == (str(folder / "train_00003_aligned.jpg"),)
    assert str(folder / "train_00004_aligned.jpg") in finding(report, "broken pictures").text
    assert finding(report, "equal pictures in two splits").examples == ("train train_00001 = test test_00001",)
    assert kinds(check_dataset("rafdb", root, CheckConfig(pictures=False)))[0] == {"missing files"}


def test_a_picture_that_was_packed_and_scaled_anew_is_found_across_splits(tmp_path):
    root = trees.fresh(tmp_path, trees.rafdb)
    folder = root / "basic/Image/aligned"
    again = Image.open(folder / "train_00005_aligned.jpg").resize((80, 80))
    again.save(folder / "test_00009_aligned.jpg", quality=60)
    report = check_dataset("rafdb", root)
    assert kinds(report) == ({"near-duplicates across splits"}, set())
    assert finding(report, "near-duplicates across splits").examples == ("train train_00005 = test test_00009",)


def test_flat_pictures_are_no_near_duplicates(tmp_path):
    root = tmp_path / "own"
    for part, grey in (("train", 90), ("test", 120)):
        (root / part / "fear").mkdir(parents=True)
        Image.fromarray(np.full((40, 40, 3), grey, np.uint8)).save(root / part / "fear/a.png")
    assert check_dataset("folders", root).ok


def test_a_subject_in_two_splits_is_a_fault(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = []
    write = trees.Pictures()
    for number, split in enumerate(("train", "test", "train")):
        write(tmp_path / f"{number}.png")
        rows.append({"id": str(number), "image": f"{number}.png", "labels": ["fear"], "split": split,
                     "meta_info": {"subject": "S1" if number < 2 else "S2"}})  # fmt: skip
    trees.text(path, *map(json.dumps, rows), "not json")
    report = check_dataset("jsonl", path)
    assert kinds(report)[0] == {"subjects in two splits", "broken lines"}
    assert finding(report, "subjects in two splits").examples == ("S1",)
    assert "line 4" in finding(report, "broken lines").text


def test_more_pictures_than_the_edition_has_are_a_fault_and_an_unreadable_list_is_one(tmp_path):
    root = trees.fresh(tmp_path, trees.rafdb)
    label = root / "basic/EmoLabel/list_patition_label.txt"
    label.write_text(label.read_text() + "".join(f"test_{number:05d}.jpg 2\n" for number in range(100, 180)))
    report = check_dataset("rafdb", root, CheckConfig(pictures=False))
    assert finding(report, "too many").text.startswith("test fear: 82 pictures, officially 74")
    label.write_text("train_00001.jpg 9\n")
    report = check_dataset("rafdb", root)
    assert f"{label}, line 1: label '9'" in finding(report, "cannot be loaded").text and not report.ok


def test_photos_and_drawn_faces_are_checked_too(tmp_path):
    write = trees.Pictures()
    for name in ("train/happy/1.png", "train/sad/2.png", "test/happy/3.png"):
        write(tmp_path / name)
    report = check_dataset("photos", tmp_path)
    assert report.ok and report.counts["test"] == {"happiness": 1}
    drawn = check_dataset("synthetic", config=CheckConfig(number=3))
    assert {split: sum(classes.values()) for split, classes in drawn.counts.items()} == dict.fromkeys(
        ("train", "val", "test"), 3
    )
    with pytest.raises(ActFERError, match="unknown data set 'nothing'"):
        check_dataset("nothing")


def test_near_pairs_are_those_of_all_pairs():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**64, 300, dtype=np.uint64)
    bits = (rng.choice(64, size % 9, replace=False).tolist() for size in range(300))
    flips = np.array([sum(1 << bit for bit in some) for some in bits], np.uint64)
    hashes = np.unique(np.concatenate([base, base ^ flips]))
    first, second = np.triu_indices(len(hashes), 1)
    apart = bits_apart(hashes[first], hashes[second])
    for distance in (0, 1, 4, 8):
        wanted = {(int(a), int(b)) for a, b in zip(first[apart <= distance], second[apart <= distance], strict=True)}
        found = [np.sort(np.stack(portion, axis=1), axis=1).tolist() for portion in near_pairs(hashes, distance)]
        assert {tuple(pair) for portion in found for pair in portion} == wanted
    assert not list(near_pairs(np.zeros(0, np.uint64), 4))


def test_the_hash_bears_packing_and_tells_pictures_apart():
    rng = np.random.default_rng(1)
    coarse = (Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in "ab")
    pictures = [np.asarray(one.resize((96, 96))) for one in coarse]
    one, other = (np.array([perceptual_hash(picture)], np.uint64) for picture in pictures)
    small = np.array([perceptual_hash(np.asarray(Image.fromarray(pictures[0]).resize((64, 64))))], np.uint64)
    assert bits_apart(one, small)[0] <= 4 < bits_apart(one, other)[0]
    assert perceptual_hash(np.full((50, 50, 3), 7, np.uint8)) is None


def run(*words):
    return CliRunner().invoke(app, ["data", "check", *map(str, words)], env={"COLUMNS": "80"})


def test_the_command_prints_a_report_and_its_exit_code_tells_of_faults(tmp_path):
    root = trees.fresh(tmp_path, trees.rafdb)
    result = run("RAF-DB", "--root", root)
    assert result.exit_code == 0, result.output
    assert "RAF-DB: basic, aligned" in result.stdout and "2 / 1,290" in result.stdout
    assert "surprise, fear, disgust, happiness, sadness, anger, neutral" in " ".join(result.stdout.split())
    assert max(map(len, result.stdout.splitlines())) <= 80
    (root / "basic/Image/aligned/train_00001_aligned.jpg").unlink()
    again = run("rafdb", "--root", root)
    assert again.exit_code == 1 and "1 picture not there" in " ".join(again.stdout.split())


def test_the_report_as_json_is_the_same_each_time_and_with_workers(tmp_path):
    root = trees.fresh(tmp_path, trees.affectnet_csv)
    results = [run("affectnet", "--root", root, "--json", *more) for more in ((), (), ("--workers", 2))]
    assert len({result.stdout for result in results}) == 1
    found = json.loads(results[0].stdout)
    assert found["ok"] is True and found["samples"] == 16 and found["edition"] == "CSV, photos"
    assert found["official"]["val"]["contempt"] == 500
    seven = json.loads(run("affectnet", "--root", root, "--json", "--option", "classes=7").stdout)
    assert seven["samples"] == 14 and "contempt" not in seven["order"]


def test_the_public_photos_have_no_person_in_two_splits():
    report = check_dataset("facial_expressions", shared_path("facial_expressions"), CheckConfig(pictures=False))
    assert report.ok and sum(sum(classes.values()) for classes in report.counts.values()) == 1922
    assert all(min(classes.values()) > 0 for classes in report.counts.values())


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["rafdb", "--root", "nowhere"], "nowhere: no such folder; data set 'rafdb' needs one with"),
        (["rafdb"], "data set 'rafdb' needs root=FOLDER"),
        (["photos", "--root", "nowhere"], "nowhere: no such file or folder"),
        (["prepared:nowhere"], "nowhere holds no prepared data set"),
        (["synthetic", "--root", "nowhere"], "takes no root"),
    ],
)
def test_a_data_set_that_cannot_be_loaded_is_one_line(words, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert result.exit_code == 1 and result.stdout == ""
    assert text in result.stderr and result.stderr.count("\n") == 1
