"""The command line, run as a user runs it."""

import json

import numpy as np
import pytest
from helpers import actfer, broken_files, one_line
from PIL import Image
from skimage.data import astronaut

from actfer_env.cli.options import reward_fields, reward_of
from actfer_env.errors import DataError
from actfer_env.evaluation import read_run
from actfer_env.rewards import UCGRPOConfig


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return folder, actfer("demo", "--out", folder, "-n", "3")


def test_demo_writes_rollouts_and_report(demo):
    folder, done = demo
    assert done.returncode == 0, done.stderr
    assert {p.name for p in folder.iterdir()} == {"rollouts.jsonl", "run.json", "report.html"}
    assert len(read_run(folder).rollouts) == 12 and "report" in done.stdout


def test_report_is_rebuilt_and_audited(demo, tmp_path):
    folder, _ = demo
    before = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    done = actfer("report", folder)
    assert done.returncode == 0 and "no differences" in done.stdout
    assert (folder / "report.html").read_bytes() == before
    tampered = json.loads((folder / "run.json").read_text())
    tampered["scores"]["total"][0] += 0.5
    for name in ("rollouts.jsonl",):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "run.json").write_text(json.dumps(tampered))
    done = actfer("report", tmp_path)
    assert done.returncode == 1 and "total stored" in done.stderr


def test_demo_repeats_to_the_last_byte(demo, tmp_path):
    actfer("demo", "--out", tmp_path, "-n", "3")
    strip = lambda path: [r.to_dict() | {"tool_calls": None} for r in read_run(path).rollouts]  # noqa: E731
    assert strip(tmp_path) == strip(demo[0]) and read_run(tmp_path).rollouts == read_run(demo[0]).rollouts


def test_rollout_over_a_folder_with_broken_images_keeps_the_good_ones(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    reasons = broken_files(photos, Image.fromarray(astronaut()))
    Image.fromarray(astronaut()).save(photos / "good.png")
    done = actfer("rollout", photos, "--out", tmp_path / "out", "--agent", "full:happiness,random", "--group-size", 2)
    assert done.returncode == 0, done.stderr
    run = read_run(tmp_path / "out")
    assert [r.sample_id for r in run.rollouts] == ["good.png"] * 2
    assert {failure["sample_id"] for failure in run.failures} == set(reasons)
    assert all(name in done.stderr for name in reasons)


def test_rollout_over_nothing_but_broken_images_fails_and_writes_nothing(tmp_path):
    (tmp_path / "bad.png").write_text("text")
    done = actfer("rollout", tmp_path / "bad.png", "--out", tmp_path / "out")
    assert done.returncode == 1 and "bad.png: not an image" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["rollout", "nowhere"], 1, "no such file or folder"),
        (["rollout", "empty"], 1, "no images in this folder"),
        (["rollout", "broken.jsonl"], 1, "line 2"),
        (["rollout", "portrait", "--split", "dev"], 1, "unknown split"),
        (["rollout", "portrait", "--detector", "psychic"], 1, "unknown detector 'psychic'"),
        (["rollout", "portrait", "--agent", "wizard"], 1, "unknown agent 'wizard'"),
        (["rollout", "portrait", "--agent", "full:glee"], 1, "unknown emotion 'glee'"),
        (["rollout", "portrait", "--variant", "fuller"], 1, "fuller"),
        (["rollout", "portrait", "--out", "broken.jsonl/out"], 1, "cannot write"),
        (["rollout", "portrait", "--detctor", "mtcnn"], 2, "--detctor"),
        (["rollout", "portrait", "-n", "0"], 2, "--number"),
        (["rollout"], 2, "target"),
        (["report", "empty"], 1, "no stored run here"),
        (["inspect", "nowhere.jpg"], 1, "no such file or folder"),
        (["inspect", "good.png", "--face", "huge"], 1, "--face 'huge'"),
        (["inspect", "good.png", "--face", "7"], 1, "face 7 was asked for"),
        (["inspect", "good.png", "--detector", "insightface:nowhere/x.onnx"], 1, "nowhere/x.onnx"),
        (["inspect", "good.png", "--detector", "yunet"], 1, "yunet"),
        (["frobnicate"], 2, "frobnicate"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, arguments, code, message):
    (tmp_path / "empty").mkdir()
    Image.fromarray(astronaut()).save(tmp_path / "good.png")
    record = {"id": "a", "image": "good.png", "labels": ["fear"], "AUs": []}
    (tmp_path / "broken.jsonl").write_text(json.dumps(record) + "\n{broken\n")
    done = actfer(*arguments, cwd=tmp_path)
    assert done.returncode == code and message.lower() in done.stderr.lower()
    lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("episodes")]
    assert len(lines) <= 2 and all(line.startswith("actfer: ") for line in lines), done.stderr
    assert "Traceback" not in done.stderr


def test_skip_broken_keeps_the_rest(tmp_path):
    Image.fromarray(astronaut()).save(tmp_path / "good.png")
    record = json.dumps({"id": "a", "image": "good.png", "labels": ["fear"], "AUs": []})
    (tmp_path / "f.jsonl").write_text(record + "\n{broken\n" + record.replace('"a"', '"b"'))
    done = actfer("rollout", tmp_path / "f.jsonl", "--skip-broken", "--out", tmp_path / "out")
    assert done.returncode == 0 and "line 2" in done.stderr
    assert [r.sample_id for r in read_run(tmp_path / "out").rollouts] == ["a", "b"]


def test_inspect_prints_json_and_writes_a_picture(tmp_path):
    Image.fromarray(astronaut()).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "b.png")
    done = actfer("inspect", tmp_path / "a.png", tmp_path / "b.png", "--out", tmp_path / "out", "--size", 128)
    face, blank = map(json.loads, done.stdout.splitlines())
    assert face["found"] and face["faces"] == 1 and len(face["crops"]) == 4 and len(face["transform"]) == 2
    assert not blank["found"] and blank["faces"] == 0
    for result in (face, blank):
        assert Image.open(result["picture"]).size == (960, 540)


def test_envs_and_doctor_say_what_is_there():
    listed = actfer("envs").stdout
    assert all(name in listed for name in ("ActFER-v0", "ActFER-Discrete-v0", "ActFER-MultiDiscrete-v0"))
    told = actfer("doctor").stdout
    assert all(name in told for name in ("gymnasium", "mtcnn", "insightface", "yunet"))


def test_gallery_and_data_sets(tmp_path):
    done = actfer("data", "gallery", "--out", tmp_path, "--size", "64", "--people", "1")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "gallery.html").read_text()
    assert page.count("<img") == 8 + 18 * 6 and "http" not in page
    # Eight rows of one 64-pixel face with a 30-pixel caption; eighteen rows of six.
    assert Image.open(tmp_path / "emotions.png").size == (64, 8 * 94)
    assert Image.open(tmp_path / "action_units.png").size == (6 * 64, 18 * 94)
    assert Image.open(tmp_path / "strip.png").size == (4 * 92, 2 * 122)
    assert "synthetic" in actfer("data", "list").stdout


@pytest.mark.parametrize(
    ("given", "message"),
    [("ema_gain", "must be FIELD=VALUE"), ("gain=3", "unknown field 'gain'"),
     ("ema_gain=-3", "must be a number above 0, got -3"),
     ("fallback_of=mine", "one of own, unzoomed")],
)  # fmt: skip
def test_a_wrong_constant_is_named_before_any_training(given, message, tmp_path):
    pytest.importorskip("torch")
    done = actfer("train", "--preset", "smoke", "--set", given, "--out", tmp_path / "out")
    assert done.returncode == 1 and one_line(done.stderr) and message in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "named", "message"),
    [
        (["zoom_cost=0.2"], 0.1, "zoom_cost is given twice, as --zoom-cost 0.1 and as --set zoom_cost=0.2: leave out"),
        (["zoom_cost=0.2"], 0.0, "zoom_cost is given twice, as --zoom-cost 0.0 and as"),
        (["zoom_cost=0"], 0.1, "zoom_cost is given twice"),
        (["r=0.2", "r=0.3"], None, "r is given twice, as --set r=0.2 and as --set r=0.3: leave out one"),
    ],
)
def test_a_constant_that_is_given_twice_must_be_the_same(given, named, message):
    with pytest.raises(DataError, match=message):
        reward_fields(given, zoom_cost=named)


def test_constants_from_set():
    assert reward_fields(["zoom_cost=0.1"], zoom_cost=0.1) == (("zoom_cost", 0.1),)
    assert reward_fields(["r=0.2", "r=0.2"], zoom_cost=None) == (("r", 0.2),)
    assert reward_fields([], zoom_cost=0.1) == ()
    assert reward_of(["normalize_std=false", "fallback_of=unzoomed"], "no_ema") == UCGRPOConfig(
        use_ema=False, normalize_std=False, fallback_of="unzoomed"
    )
    assert reward_of([], "task_only") == UCGRPOConfig.variant("task_only")


def test_constants_reach_the_rewards_of_a_rollout(tmp_path):
    """``--set`` goes through to the stored rewards; the report recomputes them with the same constants."""
    for name, extra in (("plain", ()), ("costly", ("--set", "zoom_cost=0.25", "--set", "gamma=0.5"))):
        done = actfer("rollout", "portrait", "--agent", "full:happiness", "-n", "1", "--out", tmp_path / name, *extra)
        assert done.returncode == 0, done.stderr
    plain, costly = (read_run(tmp_path / name) for name in ("plain", "costly"))
    assert costly.reward == UCGRPOConfig(zoom_cost=0.25, gamma=0.5)
    assert plain.rollouts[0].zoomed
    assert costly.scores.utility[0] == pytest.approx(plain.scores.utility[0] - 0.25)
    done = actfer("report", tmp_path / "costly")
    assert done.returncode == 0 and "no differences" in done.stdout, done.stderr


@pytest.mark.parametrize("command", [["rollout", "portrait"], ["eval", "portrait", "--model", "m", "--dry-run"]])
def test_a_wrong_constant_is_named_by_every_command(command, tmp_path):
    for given, message in (("gain=3", "unknown field 'gain'"), ("r=-1", "r must be a number of at least 0, got -1")):
        done = actfer(*command, "--out", tmp_path / "out", "--set", given)
        assert done.returncode == 1 and one_line(done.stderr) and message in done.stderr
    assert not (tmp_path / "out").exists()


def test_one_door_for_the_cost_of_a_zoom(tmp_path):
    pytest.importorskip("torch")
    done = actfer("train", "--preset", "smoke", "--out", tmp_path / "out", "--zoom-cost", "0.1",
                  "--set", "zoom_cost=0.2")  # fmt: skip
    assert done.returncode == 1 and one_line(done.stderr)
    assert "as --zoom-cost 0.1 and as --set zoom_cost=0.2" in done.stderr
    assert not (tmp_path / "out").exists()
