"""Data sets by name: folders of photos, Facial-R1's JSON lines, the portrait, and your own."""

import json

import numpy as np
import pytest
from helpers import picture

from actfer_env.data import Sample, load_dataset, register_dataset
from actfer_env.errors import DataError, ImageError


def record(**changes):
    fields = {"id": "a", "dataset": "setx", "image": "a.png", "question": "?", "AUs": ["AU6", "AU12"],
              "labels": ["happiness"], "description": "smiles", "meta_info": {"quality": "good"}}  # fmt: skip
    return json.dumps({**fields, **changes})


def test_a_folder_of_photos_without_labels(tmp_path):
    picture(tmp_path / "b.png")
    picture(tmp_path / "sub" / "a.jpg")
    samples = load_dataset("photos", tmp_path)
    assert [s.id for s in samples] == ["b.png", "sub/a.jpg"]
    assert samples[0].emotion is None and samples[0].aus is None
    assert samples[0].image.shape == (40, 30, 3)


def test_a_single_image(tmp_path):
    picture(tmp_path / "b.png")
    assert [s.id for s in load_dataset("photos", tmp_path / "b.png")] == ["b.png"]


def test_folders_named_after_emotions_are_labels(tmp_path):
    picture(tmp_path / "Happy" / "1.png")
    picture(tmp_path / "train" / "anger" / "2.png")
    assert [s.emotion for s in load_dataset("photos", tmp_path)] == ["happiness", "anger"]
    assert {s.emotion for s in load_dataset("photos", tmp_path, labels="none")} == {None}


def test_a_manifest_labels_the_photos_that_it_lists(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "z.png")
    (tmp_path / "manifest.jsonl").write_text(record() + "\n")
    listed, other = load_dataset("photos", tmp_path)
    assert (listed.id, listed.emotion, listed.aus) == ("a", "happiness", {6, 12})
    assert (other.id, other.emotion) == ("z.png", None)


@pytest.mark.parametrize("place", ["a.png", "setx/a.png", "file/a.png"])
def test_jsonl_finds_the_image_where_facial_r1_keeps_it(tmp_path, place):
    picture(tmp_path / place)
    (tmp_path / "file.jsonl").write_text(record())
    (sample,) = load_dataset("jsonl", tmp_path / "file.jsonl")
    assert sample.image.shape == (40, 30, 3)
    assert sample.meta["quality"] == "good" and sample.meta["description"] == "smiles"


def test_an_empty_list_of_aus_means_that_none_is_active_unless_told_otherwise(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "f.jsonl").write_text(record(labels=["neutral"], AUs=[]))
    assert load_dataset("jsonl", tmp_path / "f.jsonl")[0].aus == frozenset()
    for value in ("unlabelled", "unknown"):
        with pytest.warns(UserWarning, match="left out as not annotated in 1 line"):
            assert load_dataset("jsonl", tmp_path / "f.jsonl", empty_aus=value)[0].aus is None


@pytest.mark.parametrize(
    "line", ["{broken", "[1, 2]", record(labels=["glee"]), record(AUs=["AU99"]), '{"image": "a.png"}', record(AUs=3)]
)
def test_a_broken_line_is_named_by_number_and_the_rest_kept_on_request(tmp_path, line):
    path = tmp_path / "f.jsonl"
    path.write_text("\n".join([record(), line, record(id="c")]))
    with pytest.raises(DataError, match=r"f\.jsonl, line 2: ") as caught:
        load_dataset("jsonl", path)
    assert "\n" not in str(caught.value)
    with pytest.warns(UserWarning, match="line 2"):
        assert [s.id for s in load_dataset("jsonl", path, on_error="skip")] == ["a", "c"]


def test_errors_name_the_thing(tmp_path):
    with pytest.raises(DataError, match="unknown data set 'x': use one of"):
        load_dataset("x")
    with pytest.raises(DataError, match="unknown split"):
        load_dataset("portrait", split="dev")
    with pytest.raises(DataError, match="needs root"):
        load_dataset("jsonl")
    with pytest.raises(DataError, match="cannot read"):
        load_dataset("jsonl", tmp_path / "none.jsonl")
    with pytest.raises(ImageError, match="no such file or folder"):
        load_dataset("photos", tmp_path / "none")
    with pytest.raises(ImageError, match="no images"):
        load_dataset("photos", tmp_path)
    with pytest.raises(DataError, match="takes no root"):
        load_dataset("portrait", tmp_path)
    with pytest.raises(DataError, match="colour"):
        load_dataset("portrait", colour="red")


def test_two_samples_with_one_id_are_refused(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "f.jsonl").write_text(record() + "\n" + record())
    with pytest.raises(DataError, match="one id"):
        load_dataset("jsonl", tmp_path / "f.jsonl")


def test_your_own_loader():
    register_dataset("mine", lambda root, n=2: [Sample(str(i), np.zeros((20, 20, 3), np.uint8)) for i in range(n)])
    assert len(load_dataset("mine", n=3)) == 3
    with pytest.raises(DataError, match="registered already"):
        register_dataset("mine", lambda root: [])
    register_dataset("mine", lambda root: [], replace=True)
    with pytest.raises(DataError, match="has no samples"):
        load_dataset("mine")


def test_portrait_splits_are_disjoint_and_pictures_repeat_exactly():
    parts = [load_dataset("portrait", split=split) for split in ("train", "val", "test")]
    ids = [sample.id for part in parts for sample in part]
    assert len(ids) == len(set(ids)) == len(load_dataset("portrait")) == 48
    first, again = load_dataset("portrait")[5].image, load_dataset("portrait")[5].image
    assert (first == again).all()
    assert {sample.meta["quality"] for sample in load_dataset("portrait")} == {"good", "poor", "lost"}
