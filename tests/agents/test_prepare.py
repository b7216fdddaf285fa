"""What trainers keep of a data set: no stored classes, versions in names, broken and unwritable folders, races."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'actfer-env[torch]'")
pytest.importorskip("transformers", reason="needs transformers: pip install 'actfer-env[vlm]'")

from actfer_env import prepare  # noqa: E402
from actfer_env.agents.light import session  # noqa: E402
from actfer_env.agents.qwen.tiny import build  # noqa: E402
from actfer_env.agents.torch_files import load_state, save_atomic  # noqa: E402
from actfer_env.data import Dataset, load_dataset, views  # noqa: E402
from actfer_env.data.precompute import PrecomputeConfig, precompute  # noqa: E402
from actfer_env.data.views import ViewConfig, views_name  # noqa: E402
from actfer_env.errors import DataError  # noqa: E402
from actfer_env.files import draft_file, draft_folder  # noqa: E402
from actfer_env.prepare import prepared, prepared_name, read_arrays, write_arrays  # noqa: E402

CONFIG = ViewConfig(crop_size=32)


@pytest.fixture(scope="module")
def faces() -> Dataset:
    return load_dataset("synthetic-mixed", split="train", n=6)


@pytest.fixture(scope="module")
def kept(faces: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of views."""
    folder = tmp_path_factory.mktemp("kept")
    views.prepare(faces, folder, CONFIG, workers=1)
    return folder


def test_no_path_of_a_class_is_stored(kept: Path) -> None:
    files = [path for path in kept.rglob("*") if path.is_file()]
    assert len({path.parent for path in files}) == 1
    assert {path.suffix for path in files} == {".npy", ".json"}
    assert not [path for path in files if b"actfer_env" in path.read_bytes()]


def test_views_are_those_that_the_tools_draw_to_the_last_bit(kept: Path, faces: Dataset) -> None:
    found, tools = views.prepare(faces, kept, CONFIG), CONFIG.tools()
    for number, sample in enumerate(faces):
        alignment, stored = tools.alignment(sample), found.alignments[number]
        assert (alignment is None) == (stored is None) != found.found[number]
        if alignment is None or stored is None:
            continue
        assert stored.to_dict() == alignment.to_dict() and stored.score == alignment.score
        assert stored.transform.tobytes() == alignment.transform.tobytes()
        for (box, inside, native), (region, where) in zip(
            found.crop_facts[number], alignment.regions.items(), strict=True
        ):
            crop = tools.crop(sample, alignment, where, region)
            assert (box, inside, native) == (crop.box, crop.inside, crop.native) and isinstance(box, tuple)


def test_names_change_with_the_versions(faces: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {views_name(faces, CONFIG)}
    monkeypatch.setattr(views, "VIEWS_VERSION", 99)
    names.add(views_name(faces, CONFIG))
    monkeypatch.setattr(prepare, "LAYOUT_VERSION", 99)
    names.add(views_name(faces, CONFIG))
    assert len(names) == 3
    assert prepared_name("a", 1, {}) != prepared_name("a", 1, {"b": 2}) != prepared_name("b", 1, {"b": 2})


@pytest.mark.parametrize("name", ["facts.json", "emotion.npy"])
@pytest.mark.parametrize("content", [b"", b"null", b"[[1]]", None], ids=["empty", "null", "odd", "missing"])
def test_a_broken_folder_is_named_with_the_cure(
    kept: Path, faces: Dataset, tmp_path: Path, name: str, content: bytes | None
) -> None:
    place = tmp_path / views_name(faces, CONFIG)
    place.mkdir()
    for path in (kept / place.name).iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    (place / name).unlink()
    if content is not None:
        (place / name).write_bytes(content)
    with pytest.raises(DataError, match=r"is broken .*: delete it and run again") as caught:
        views.prepare(faces, tmp_path, CONFIG)
    assert "\n" not in str(caught.value) and place.name in str(caught.value)


def test_arrays_of_objects_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        write_arrays(tmp_path, {"a": np.array([{}])})
    write_arrays(tmp_path, {"b": np.arange(3)}, {"c": [1.5]})
    found, facts = read_arrays(tmp_path, ["b"])
    assert found["b"].tolist() == [0, 1, 2] and facts == {"c": [1.5]}


def test_torch_files_hold_no_objects(tmp_path: Path) -> None:
    save_atomic(tmp_path / "a.pt", {"x": torch.ones(2), "n": 1, "s": ["t"]})
    assert load_state(tmp_path / "a.pt")["s"] == ["t"]
    save_atomic(tmp_path / "b.pt", CONFIG)
    with pytest.raises(DataError, match=r"b\.pt is broken .*delete"):
        load_state(tmp_path / "b.pt")


def at_once(work: Callable[[int], Any], count: int = 4) -> list[str]:
    """Run a function in threads that start together; return the errors."""
    errors: list[str] = []
    barrier = threading.Barrier(count)

    def one(number: int) -> None:
        barrier.wait()
        try:
            work(number)
        except Exception as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_those_who_prepare_at_once_share_one_folder(tmp_path: Path) -> None:
    barrier = threading.Barrier(4)

    def fill(draft: Path) -> None:
        write_arrays(draft, {"a": np.arange(3)})
        barrier.wait()  # everybody has found nothing there, and is ready

    assert at_once(lambda number: read_arrays(prepared(tmp_path, "work", fill), ["a"])) == []
    assert [path.name for path in tmp_path.iterdir()] == ["work"]
    prepared(tmp_path, "work", lambda draft: pytest.fail("it is there"))


def test_those_who_replace_a_folder_at_once_leave_a_whole_one(tmp_path: Path) -> None:
    def write(number: int) -> None:
        for turn in range(15):
            with draft_folder(tmp_path / "model", replace=True) as draft:
                for name in "ab":
                    (draft / name).write_text(f"{number} {turn}")

    assert at_once(write) == []
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "a").read_text() == (tmp_path / "model" / "b").read_text()


def test_the_first_of_those_who_begin_a_folder_at_once_counts(tmp_path: Path) -> None:
    seen: list[str] = []

    def begin(number: int) -> None:
        with draft_file(tmp_path / "about", replace=False) as draft:
            draft.write_text(str(number))
        seen.append((tmp_path / "about").read_text())

    assert at_once(begin) == [] and len(set(seen)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["about"]


def light(out: Path, cache: Path) -> None:
    small = replace(session.PRESETS["smoke"], train=8, val=8, test=0)
    session.run(small, out, cache, lambda text: None, 1)


PLACES: dict[str, Callable[[Path, Path, Dataset, Path], Any]] = {
    "views": lambda bad, good, faces, model: views.prepare(faces, bad, CONFIG, workers=1),
    "model": lambda bad, good, faces, model: build(bad / "model"),
    "pictures": lambda bad, good, faces, model: load_dataset("synthetic", n=1, cache=str(bad))[0].load(),
    "detections": lambda bad, good, faces, model: precompute(faces, bad, PrecomputeConfig("simulated")),
    "light, its cache": lambda bad, good, faces, model: light(good, bad),
    "light, its folder": lambda bad, good, faces, model: light(bad, good),
}


@pytest.mark.parametrize("place", PLACES)
def test_an_unwritable_folder_is_one_line_and_leaves_nothing(
    tmp_path: Path, faces: Dataset, model: Path, place: str
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write .*choose a folder that can be written") as caught:
        PLACES[place](tmp_path / "file" / "cache", tmp_path / "good", faces, model)
    message = str(caught.value)
    assert "\n" not in message and str(tmp_path / "file" / "cache") in message and "draft" not in message
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "it was found before any work"
