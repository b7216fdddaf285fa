"""`actfer inspect`: pictures of their own, every face, tables, saved pictures, workers."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut
from typer.testing import CliRunner

from actfer_env import facs
from actfer_env.cli import app
from actfer_env.errors import DataError, DetectorError
from actfer_env.inspection import InspectConfig, inspect_all, inspect_image, make_tools, parse_face, picture_names
from actfer_env.tools import Face, register_detector
from actfer_env.tools.detectors import base

POINTS = np.array([[30, 30], [50, 30], [40, 42], [32, 54], [48, 54]], float)


class Two:
    """Finds two faces in every picture that is wider than high, one in a square one, and none else."""

    name = "two"

    def detect(self, image):
        height, width = image.shape[:2]
        faces = [
            Face((20.0, 10.0, 60.0, 70.0), POINTS, 0.9, meta={}),
            Face((85.0, 15.0, 115.0, 65.0), POINTS + np.array([60.0, 0.0]), 0.8),
        ]
        return faces[: 2 if width > height else 1 if width == height else 0]


@pytest.fixture(autouse=True)
def two(monkeypatch):
    monkeypatch.setattr(base.DETECTORS, "_known", dict(base.DETECTORS._known))
    register_detector("two", Two, replace=True)


@pytest.fixture
def photos(tmp_path):
    """Three pictures, named so that their order is not that of their sizes, and a broken one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, shape in (("a", (80, 140)), ("b", (90, 90)), ("d", (140, 80))):
        Image.fromarray(astronaut()[: shape[0], 150 : 150 + shape[1]]).save(folder / f"{name}.png")
    (folder / "c.png").write_bytes(b"\x89PNG broken")
    return folder


def actfer(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def lines(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


# --- names


@pytest.mark.parametrize(
    "paths",
    [
        ["1-2.jpg", "a/1.jpg", "b/1.jpg"],
        ["a/1.jpg", "b/1.jpg", "1-2.jpg", "1-2.png", "c/1.jpg", "1-3.jpg"],
        ["Mia.jpg", "mia.png", "MIA.webp", "mia-2.jpg"],
        ["stra\N{LATIN SMALL LETTER SHARP S}e.jpg", "strasse.jpg", "STRASSE.png"],
        ["caf\N{LATIN SMALL LETTER E WITH ACUTE}.jpg", "cafe\N{COMBINING ACUTE ACCENT}.jpg"],
        ["a.jpg", "a.jpg", "./a.jpg"],
        ["1.jpg", "1.inspect.jpg", "1.inspect.png", "1.face.jpg", "1.0.jpg"],
        ["x" * 250 + ".jpg", "x" * 249 + "y.jpg", "x" * 251],
        ["\N{GRINNING FACE}" * 62 + ".jpg", "\N{GRINNING FACE}" * 61 + ".jpg"],
    ],
)
def test_names_are_distinct_on_every_file_system_and_fit(paths):
    names = picture_names([Path(path) for path in paths])
    assert len({name.casefold() for name in names}) == len(paths)
    assert all(len(f"{name}.forehead-eyebrow-12.png".encode()) < 200 for name in names)


def test_a_lone_image_keeps_its_stem():
    assert picture_names([Path("a/my photo.v2.jpg")]) == ["my photo.v2"]


def test_pictures_of_an_earlier_run_stay_unless_they_are_of_the_same_image(tmp_path):
    for folder, grey in (("a", 60), ("b", 200)):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.full((90, 90, 3), grey, np.uint8)).save(tmp_path / folder / "1.jpg")
    out = tmp_path / "out"
    first = lines(actfer("inspect", tmp_path / "a" / "1.jpg", "--detector", "two", "--out", out))[0]["picture"]
    before = Path(first).read_bytes()
    second = lines(actfer("inspect", tmp_path / "b" / "1.jpg", "--detector", "two", "--out", out))[0]["picture"]
    assert first != second and Path(first).read_bytes() == before
    again = lines(actfer("inspect", tmp_path / "b" / "1.jpg", "--detector", "two", "--out", out))[0]["picture"]
    assert again == second and len(list(out.iterdir())) == 2


def test_a_foreign_file_of_that_name_stays(tmp_path, photos):
    out = tmp_path / "out"
    out.mkdir()
    (out / "B.inspect.png").write_text("mine")
    (record,) = lines(actfer("inspect", photos / "b.png", "--detector", "two", "--out", out))
    assert Path(record["picture"]).name == "b-2.inspect.png" and (out / "B.inspect.png").read_text() == "mine"


def test_odd_names_are_written(tmp_path):
    for name in ("{0}{}.png", "a b%s.png", "[x]*.png", "x" * 240 + ".png", "\N{GRINNING FACE}" * 60 + ".png"):
        Image.fromarray(astronaut()[:90, 150:240]).save(tmp_path / name)
    done = actfer("inspect", tmp_path, "--detector", "two", "--out", tmp_path / "out", "--save", "faces,crops")
    found = lines(done)
    assert done.exit_code == 0 and len(found) == 5
    files = [file for one in found for file in (one["picture"], *one["saved"].values())]
    assert len(set(files)) == 5 * 6 and all(Image.open(file).size[0] > 0 for file in files)


# --- what is looked at and printed


def test_lines_keep_the_order_of_the_images_and_a_broken_one_is_named(photos):
    done = actfer("inspect", photos, "nowhere.jpg", "--detector", "two", "--no-panels")
    assert done.exit_code == 0
    assert [Path(one["image"]).name for one in lines(done)] == ["a.png", "b.png", "d.png"]
    assert [one["found"] for one in lines(done)] == [True, True, False]
    assert "c.png" in done.stderr and "nowhere.jpg: no such file" in done.stderr and "detector two" in done.stderr
    assert not any("picture" in one for one in lines(done)) and not Path("actfer-inspect").exists()


def test_the_code_is_not_zero_only_if_nothing_could_be_read(photos):
    done = actfer("inspect", photos / "c.png", "--detector", "two", "--no-panels")
    assert done.exit_code == 1 and not done.stdout


def test_every_face(photos, tmp_path):
    done = actfer("inspect", photos, "--detector", "two", "--face", "all", "--out", tmp_path / "out")
    found = lines(done)
    assert [(Path(one["image"]).stem, one.get("index")) for one in found] == [("a", 0), ("a", 1), ("b", 0), ("d", None)]
    assert [Path(one["picture"]).name for one in found] == [
        "a.inspect-0.png", "a.inspect-1.png", "b.inspect.png", "d.inspect.png",
    ]  # fmt: skip
    assert all(Image.open(one["picture"]).size == (960, 540) for one in found)
    assert found[0]["landmarks"] != found[1]["landmarks"] and found[0]["faces"] == 2


def test_a_table_has_one_row_a_face_and_the_same_columns(photos):
    done = actfer("inspect", photos, "--detector", "two", "--face", "all", "--format", "csv", "--no-panels")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [Path(row["image"]).stem for row in rows] == ["a", "a", "b", "d"]
    assert [row["found"] for row in rows] == ["True"] * 3 + ["False"]
    assert [float(rows[0][key]) for key in ("x1", "y1", "x2", "y2", "nose_x", "nose_y")] == [20, 10, 60, 70, 40, 42]
    assert rows[0]["upright"] == "True" and rows[0]["rotated"] == "0" and rows[3]["score"] == ""
    assert all(0 < float(rows[2][f"{region}_inside"]) <= 1 for region in facs.REGIONS)


def test_faces_and_crops_are_saved_without_loss(photos, tmp_path):
    out = tmp_path / "out"
    done = actfer("inspect", photos / "b.png", "--detector", "two", "--save", "faces,crops", "--no-panels",
                  "--size", 64, "--out", out)  # fmt: skip
    (record,) = lines(done)
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["b.face.png", *(f"b.{region}.png" for region in facs.REGIONS)]
    )
    assert Image.open(record["saved"]["face"]).size == (64, 64)
    for crop in record["crops"]:
        assert list(Image.open(record["saved"][crop["region"]]).size) == crop["size"]


def test_one_face_alone_is_the_record_of_python(photos, tmp_path):
    one = inspect_image(photos / "b.png", make_tools("two", 128, "largest"), tmp_path)
    (same,) = lines(actfer("inspect", photos / "b.png", "--detector", "two", "--size", 128, "--out", tmp_path))
    assert json.loads(json.dumps(one)) == same


def test_workers_print_the_same(tmp_path):
    for name in "abc":
        Image.fromarray(astronaut()[:200, 120:320]).save(tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_bytes(b"broken")
    paths = sorted(tmp_path.glob("*.png"))
    config = InspectConfig("mtcnn", out=tmp_path / "out", panels=False)
    alone, shared = list(inspect_all(paths, config)), list(inspect_all(paths, config, workers=2))
    assert alone == shared and [one.error is None for one in alone] == [True, False, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--save", "photos"], "cannot save 'photos'"),
        (["--face", "every"], "'largest', 'all'"),
        (["--detector", "nobody"], "unknown detector 'nobody'"),
    ],
)
def test_a_wrong_option_is_one_line(photos, arguments, message):
    done = actfer("inspect", photos, *arguments)
    assert isinstance(done.exception, DataError | DetectorError) and message in str(done.exception)
    assert not done.stdout


def test_choices_of_a_face():
    assert [parse_face(text) for text in ("all", "largest", "1", "3,4")] == ["all", "largest", 1, (3.0, 4.0)]
