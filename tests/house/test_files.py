"""Files and folders: modes, links, failures."""

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from actfer_env.data import load_dataset
from actfer_env.errors import DataError
from actfer_env.evaluation import write_report, write_run
from actfer_env.evaluation.play import RolloutConfig, play
from actfer_env.files import (
    append_line,
    check_writable,
    draft_file,
    draft_files,
    draft_folder,
    expand,
    make_folder,
    new_folder,
    sweep,
    write_bytes_atomic,
    write_text_atomic,
)
from actfer_env.images import save_png
from actfer_env.rollout import write_rollouts
from actfer_env.tools.detectors import Face
from actfer_env.tools.detectors.cached import DetectionStore, Row


@pytest.fixture
def umask(request):
    old = os.umask(request.param)
    yield request.param
    os.umask(old)


def fill(path):
    with draft_folder(path) as draft:
        np.save(draft / "a.npy", np.zeros(3))
        (draft / "a.npy").chmod(0o600)  # as some libraries do


def fill_files(path):
    with draft_files(path) as draft:
        (draft / "weights").write_bytes(b"1")
        (draft / "weights").chmod(0o600)


def shard(path):
    DetectionStore.write(path, [Row("a", "b", [Face((0.0, 0.0, 9.0, 9.0), np.zeros((5, 2)), 0.5)])])


def checkpoint(path):
    pytest.importorskip("torch")
    from actfer_env.agents.light.trainer import save_atomic

    save_atomic(path, {"a": 1})


def shards(path):
    pytest.importorskip("pyarrow")
    from actfer_env.verl_plugin.rows import write_parquet

    write_parquet(load_dataset("synthetic", split="test", n=1), path)


def figure(path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("torch")
    from actfer_env.agents.light.ablate import plot_curves

    plot_curves({}, path)


WRITERS = {
    "report": lambda path: write_text_atomic(path / "report.html", "faces"),
    "rollouts": lambda path: write_rollouts(path / "r.jsonl", []),
    "journal": lambda path: append_line(path / "journal.jsonl", "{}"),
    "png": lambda path: save_png(np.zeros((8, 8, 3), np.uint8), path / "a.png"),
    "shard": lambda path: shard(path / "a.sqlite"),
    "views": lambda path: fill(path / "views"),
    "model": fill_files,
    "folder": lambda path: make_folder(path / "new"),
    "checkpoint": lambda path: checkpoint(path / "warm.pt"),
    "parquet": shards,
    "curves": figure,
}


@pytest.mark.parametrize("umask", [0o077, 0o022, 0o002], indirect=True, ids="{:03o}".format)
@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_file_follows_the_umask(tmp_path, umask, kind):
    out = tmp_path / "out" / "deep"
    WRITERS[kind](out)
    made = [tmp_path / "out", *(tmp_path / "out").rglob("*")]
    assert len(made) > 2
    for path in made:
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask, path
    assert not [path for path in made if "draft" in path.name or path.name.startswith(".")]


@pytest.mark.parametrize("umask", [0o077, 0o002], indirect=True, ids="{:03o}".format)
def test_a_whole_run_follows_the_umask(tmp_path, umask):
    run = play(load_dataset("synthetic", split="test", n=1), RolloutConfig())
    write_run(tmp_path / "run", run)
    write_report(tmp_path / "run", run)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "run").iterdir()}
    assert modes == dict.fromkeys(("rollouts.jsonl", "run.json", "report.html"), 0o666 & ~umask)


def test_a_link_stays_one_and_what_it_points_at_is_replaced(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").write_text("old")
    (tmp_path / "a.txt").symlink_to(tmp_path / "elsewhere" / "a.txt")
    (tmp_path / "new.txt").symlink_to(tmp_path / "elsewhere" / "b.txt")
    (tmp_path / "views").symlink_to(tmp_path / "elsewhere" / "views")
    write_text_atomic(tmp_path / "a.txt", "new")
    write_text_atomic(tmp_path / "new.txt", "new")
    fill(tmp_path / "views")
    assert (tmp_path / "a.txt").is_symlink() and (tmp_path / "views").is_symlink()
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == ["a.txt", "b.txt", "views"]
    assert (tmp_path / "elsewhere" / "a.txt").read_text() == "new"


@pytest.mark.parametrize("name", ["a" * 255, "é" * 127, "顔" * 85])
def test_the_longest_names_can_be_written(tmp_path, name):
    write_text_atomic(tmp_path / name, "x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("folder", "Is a directory; choose another name"),
        ("/dev/null", "choose a folder"),
        ("a" * 256, "File name too long; choose a shorter name"),
        ("file/below", "choose a folder that can be written"),
        ("/proc/nowhere/a", "choose a folder that can be written"),
    ],
)
def test_places_that_are_none_are_named_with_the_cure(tmp_path, path, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=message) as caught:
        write_text_atomic(tmp_path / path, "x")
    assert str(caught.value).startswith("cannot write ") and "\n" not in str(caught.value)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "folder"]
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), FileNotFoundError(2, "no", "photo.jpg")])
@pytest.mark.parametrize("opened", [draft_file, draft_folder, draft_files, new_folder])
def test_an_error_in_the_block_passes_and_leaves_nothing(tmp_path, error, opened):
    with pytest.raises(type(error)) as caught, opened(tmp_path / "deep" / "er") as draft:
        if draft.is_dir() and opened is not new_folder:
            (draft / "half").write_text("x")
        raise error
    assert caught.value is error, "an error of another kind is not taken for one of writing"
    assert not list(tmp_path.iterdir())


def test_an_old_folder_stays_where_the_new_one_fails_and_goes_where_it_is_whole(tmp_path):
    fill(tmp_path / "a")
    with pytest.raises(RuntimeError), draft_folder(tmp_path / "a", replace=True) as draft:
        (draft / "b").write_text("x")
        raise RuntimeError
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["a.npy"]
    with draft_folder(tmp_path / "a", replace=True) as draft:
        (draft / "b").write_text("x")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    with draft_folder(tmp_path / "a") as draft:
        (draft / "c").write_text("another process was faster")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from actfer_env.errors import ActFERError
from actfer_env.files import *
from actfer_env.files import draft_folder
from actfer_env.tools.detectors.cached import DetectionStore, Row

def saved(path):
    with draft_folder(path) as draft:
        np.save(draft / "a.npy", np.zeros(9999))

resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
out = Path(sys.argv[1])
append_line(out / "kept" / "lines", "x" * 3000)
for write in (
    lambda: write_bytes_atomic(out / "a" / "file", bytes(9999)),
    lambda: saved(out / "b" / "views"),
    lambda: append_line(out / "kept" / "lines", "y" * 3000),
    lambda: DetectionStore.write(out / "c" / "s.sqlite", [Row(str(i), "x" * 99, []) for i in range(99)]),
):
    try:
        write()
    except ActFERError as error:
        print(error)
append_line(out / "kept" / "lines", "z")
"""


def test_a_full_disk_is_named_and_leaves_no_halves(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4 and all("cannot write" in line for line in lines), lines
    assert all("make room" in line for line in lines[:3]), lines
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["kept", "kept/lines"]
    assert (tmp_path / "kept" / "lines").read_text() == "x" * 3000 + "\nz\n", "no line goes on from half of another"


def test_a_shard_that_fails_leaves_no_journal(tmp_path):
    def rows():
        yield Row("a", "b", [])
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(Exception, match="disk I/O error"):
        DetectionStore.write(tmp_path / "x" / "a.sqlite", rows())
    assert not list(tmp_path.iterdir())


def test_a_place_is_tried_without_a_trace(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        check_writable(tmp_path / "file")


def test_drafts_of_processes_that_are_gone_are_swept_and_others_stay(tmp_path):
    code = f"from actfer_env.files import draft_file\nimport os\nwith draft_file({str(tmp_path / 'a')!r}): os._exit(9)"
    subprocess.run([sys.executable, "-c", code], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    with draft_file(tmp_path / "b"):
        sweep(tmp_path)
        assert len(list(tmp_path.iterdir())) == 1, "one's own draft is in use"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_readers_never_see_a_part(tmp_path):
    texts = ["a" * 100_000, "b" * 100_000]
    write_text_atomic(tmp_path / "x", texts[0])
    writer = threading.Thread(target=lambda: [write_text_atomic(tmp_path / "x", texts[i % 2]) for i in range(40)])
    writer.start()
    while writer.is_alive():
        assert (tmp_path / "x").read_text() in texts
    writer.join()


def test_a_path_without_a_home_is_named(monkeypatch):
    import pwd

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: (_ for _ in ()).throw(KeyError(uid)))
    assert expand("a/b") == Path("a/b")
    with pytest.raises(DataError, match=r"~/weights: there is no home folder: .*set HOME"):
        expand("~/weights")


def test_bytes_are_written_as_they_are(tmp_path):
    write_bytes_atomic(tmp_path / "a", b"\r\n\x00")
    assert (tmp_path / "a").read_bytes() == b"\r\n\x00"


def test_folders_that_others_try_and_take_away_do_not_lose_a_file(tmp_path):
    """A thread that only tries a folder removes it again while it is empty; one that writes must not fail for that."""
    faults, stop = [], threading.Event()

    def trying():
        while not stop.is_set():
            check_writable(tmp_path / "kept")

    def writing(number):
        try:
            for turn in range(150):
                place = tmp_path / "kept" / f"{number}"
                for write in (write_text_atomic, append_line):
                    write(place, str(turn))
                    place.unlink()
                    with suppress(OSError):  # another's file is in it
                        place.parent.rmdir()
        except DataError as error:
            faults.append(error)

    triers = [threading.Thread(target=trying) for _ in range(2)]
    writers = [threading.Thread(target=writing, args=(number,)) for number in range(3)]
    for one in (*triers, *writers):
        one.start()
    for one in writers:
        one.join()
    stop.set()
    for one in triers:
        one.join()
    assert not faults
