"""Odd input of every kind: taken as documented, or refused in one line that names the thing and the cure."""

import io
import json
import pickle
import signal
import struct

import gymnasium as gym
import numpy as np
import pytest
from helpers import FLAT, PortraitDetector, portrait_sample
from PIL import Image
from skimage.data import astronaut

import actfer_env
from actfer_env import facs
from actfer_env.data import Dataset, Sample, load_dataset
from actfer_env.episode import Episode, EpisodeConfig
from actfer_env.errors import ActFERError, DataError, DetectorError, ImageError, LabelError, WorkerError
from actfer_env.evaluation.run import read_run
from actfer_env.images import load_image
from actfer_env.inspection import picture_names
from actfer_env.rewards import UCGRPO
from actfer_env.rollout import read_rollouts, write_rollouts
from actfer_env.tools import FaceTools, detect_align, make_detector, zoom_in
from actfer_env.wrappers import RecordRollouts


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_tags(*tags):
    """A JPEG of 40 x 30 pixels, dark on top, with EXIF tags (number, type, count, four bytes)."""
    pixels = np.full((30, 40, 3), 200, np.uint8)
    pixels[:10] = 20
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    entries = b"".join(struct.pack("<HHI", *tag[:3]) + tag[3] for tag in tags)
    block = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
    jpeg = stream.getvalue()
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


@pytest.mark.parametrize("odd", [(0x11A, 2, 2, b"72\0\0"), (0x128, 2, 2, b"in\0\0")])
def test_a_sound_photo_with_an_odd_exif_tag_is_read_upright(odd):
    image = load_image(with_tags((0x112, 3, 1, b"\x06\0\0\0"), odd))
    assert image.shape == (40, 30, 3) and image[:, -5:].mean() < 60 < image[:, :5].mean()


def test_what_is_no_image_is_refused():
    for source in (None, 5, [1, 2], bytearray(b"x")):
        with pytest.raises(ImageError, match="is no image"):
            load_image(source)
    stream = io.BytesIO()
    Image.fromarray(np.full((20, 20), 70_000, np.int32)).save(stream, "TIFF")
    with pytest.raises(ImageError, match="32-bit pixels"):
        load_image(stream.getvalue())


def test_pictures_of_two_data_sets_are_not_taken_for_each_other():
    tools = FaceTools(PortraitDetector())
    face = Dataset("one", [Sample("0", astronaut(), "happiness")])[0]
    black = Dataset("two", [Sample("0", np.zeros_like(astronaut()), "neutral")])[0]
    assert tools.image(face).any() and not tools.image(black).any()
    assert tools.detections == 0 and tools.alignment(face) is not tools.alignment(black) and tools.detections == 2
    tools.alignment(face)
    assert tools.detections == 2


def test_labels_of_a_sample_come_in_any_spelling_and_unknown_ones_are_named():
    sample = Sample("s", astronaut(), "Happy", aus=["AU06", 12])
    assert (sample.emotion, sample.aus) == ("happiness", {6, 12})
    for labels in ({"emotion": "gleeful"}, {"aus": ["AU999"]}, {"aus": 5}):
        with pytest.raises(LabelError, match="sample 's'"):
            Sample("s", astronaut(), **labels)


def test_two_samples_with_one_id_are_named():
    with pytest.raises(DataError, match="one id, 'b'"):
        Dataset("d", [Sample(name, astronaut()) for name in "abcb"])


def test_half_an_emoji_in_a_call_can_be_stored(tmp_path):
    episode = Episode(portrait_sample(), FaceTools(PortraitDetector()))
    episode.call("zoom_in", {"regions": ["\ud83d", "é"]})
    episode.answer("happy")
    write_rollouts(tmp_path / "r.jsonl", [episode.rollout()])
    assert read_rollouts(tmp_path / "r.jsonl") == [episode.rollout()]


def test_a_photo_whose_name_is_no_utf8_has_a_plain_id(tmp_path):
    Image.fromarray(astronaut()).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "caf\udce9.png")
    (sample,) = load_dataset("photos", tmp_path)
    assert sample.id == "caf\\udce9.png" and sample.image.shape == astronaut().shape
    json.dumps(sample.meta, ensure_ascii=False).encode()


def test_a_failed_reset_leaves_no_episode_to_play():
    faces = Dataset("m", [portrait_sample(), Sample("lost", "/nowhere.jpg", "sadness")])
    for env_id in ("ActFER-Discrete-v0", "ActFER-Chat-v0"):
        env = gym.make(env_id, dataset=faces).unwrapped
        env.reset(options={"sample": "astronaut"})
        with pytest.raises(ImageError, match="nowhere"):
            env.reset(options={"sample": "lost"})
        with pytest.raises(RuntimeError, match="call reset"):
            env.step(6)


def test_reset_options_of_odd_types():
    env = gym.make("ActFER-Discrete-v0", dataset=Dataset("m", [portrait_sample()])).unwrapped
    env.reset(options={"sample": None, "group": 0, "member": np.int64(3)})
    *_, info = env.step(6)
    assert (info["rollout"].group_id, info["rollout"].member) == ("0", 3)
    json.dumps(info["rollout"].to_dict())
    for sample in (1.7, [1]):
        with pytest.raises(DataError, match="neither an index nor an id"):
            env.reset(options={"sample": sample})
    with pytest.raises(ValueError, match="'member' is 'x'"):
        env.reset(options={"member": "x"})


WRONG = {
    "ActFER-Discrete-v0": (-1, 13, 5.9, None, np.array([1])),
    "ActFER-MultiDiscrete-v0": (
        None, 3, [0, 0], np.full(20, -1), np.full(20, 77), [5, -1] + [0] * 18, [5, 0] + [7] * 18, [5.5] + [0] * 19,
    ),
    "ActFER-v0": (
        None, 3, {"tool": 0}, {"tool": -1, "box": np.zeros(4), "emotion": 0, "aus": np.zeros(18)},
        {"tool": 2, "box": np.zeros(4), "emotion": 8, "aus": np.zeros(18)},
        {"tool": 2, "box": np.zeros(4), "emotion": 0, "aus": np.full(18, np.nan)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("env_id", sorted(WRONG))
def test_an_action_outside_the_space_is_refused_and_costs_no_turn(env_id):
    env = gym.make(env_id, dataset=Dataset("m", [portrait_sample()])).unwrapped
    assert len(env.au_set) == 18
    env.reset(seed=0)
    for action in WRONG[env_id]:
        with pytest.raises(ValueError, match="must") as caught:
            env.step(action)
        one_line(caught)
    assert env.episode.turn == 0 and not env.episode.done
    env.step(env.action_space.sample())
    assert env.episode.turn == 1


def test_a_batch_with_a_wrong_action_plays_nothing():
    envs = actfer_env.make_group_vec(FLAT[0], 3, 1, dataset=Dataset("m", [portrait_sample()]))
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="from 0 to 12"):
        envs.step(np.array([0, 0, -1]))
    assert [member[0].turn for member in envs._blocks.start.__self__._episodes] == [0, 0, 0]
    mixed = actfer_env.make_group_vec("ActFER-v0", 2, 1, dataset=Dataset("m", [portrait_sample()]))
    mixed.reset(seed=0)
    for actions in ([mixed.single_action_space.sample()] * 2, {"tool": np.zeros(2, int)}):
        with pytest.raises(ValueError, match="one dict of arrays"):
            mixed.step(actions)


def test_the_action_of_a_frozen_member_is_not_looked_at():
    envs = actfer_env.make_group_vec(FLAT[0], 1, 2, dataset=Dataset("m", [portrait_sample()]))
    envs.reset(seed=0)
    envs.step(np.array([6, 0]))
    *_, info = envs.step(np.array([-1, 6]))
    assert len([one for one in info["rollout"] if one is not None]) == 2


def test_an_interrupt_while_workers_play_ends_them():
    faces = load_dataset("synthetic", n=40, seed=3)
    envs = actfer_env.make_group_vec(FLAT[0], 40, 1, num_workers=1, dataset=faces)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)  # drawing the pictures takes far longer
        with pytest.raises(KeyboardInterrupt):
            envs.reset(seed=0, options={"samples": list(range(40))})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(WorkerError, match="make a new environment"):
        envs.reset(seed=5)
    envs.close()


def test_a_group_that_is_played_again_is_kept_under_another_id(tmp_path):
    paid = []
    for run in range(2):
        env = RecordRollouts(gym.make(FLAT[0], dataset=Dataset("m", [portrait_sample()])), tmp_path / "r.jsonl")
        for actions in ([0, 1, 6], [0, 6], [0, 7]):
            env.reset(seed=0)
            for action in actions:
                _, reward, *_ = env.step(action)
            paid.append(reward)
        if run == 0:  # killed while it wrote a line
            with (tmp_path / "r.jsonl").open("a") as handle:
                handle.write('{"schema": 1, "sample_id": "astro')
    stored = read_rollouts(tmp_path / "r.jsonl")
    assert len({one.group_id for one in stored}) == 6
    assert UCGRPO().score(stored).total == pytest.approx(paid)


def test_rollouts_are_not_appended_to_another_file(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no newline at the end")
    with pytest.raises(DataError, match="something else"):
        RecordRollouts(gym.make(FLAT[0]), path)
    assert path.read_text() == "no newline at the end"


def test_zoom_in_wants_the_picture_that_was_aligned():
    aligned = detect_align(astronaut(), detector=PortraitDetector())
    with pytest.raises(ImageError, match="224 x 224 pixels, the aligned one had 512 x 512"):
        zoom_in(aligned.face, aligned, "eyes")


def test_the_manifest_and_the_arguments_of_photos_agree(tmp_path):
    Image.fromarray(astronaut()).save(tmp_path / "a.png")
    line = {"id": "a", "image": "a.png", "labels": ["happiness"]}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(line))
    assert load_dataset("photos", tmp_path, prealigned=True)[0].prealigned
    (tmp_path / "manifest.jsonl").write_text(json.dumps({**line, "labels": ["gleeful"]}))
    with pytest.warns(UserWarning, match="line 1.*skipped"):
        load_dataset("photos", tmp_path, on_error="skip")
    (tmp_path / "manifest.jsonl").write_text(json.dumps({**line, "image": "b.png"}))
    with pytest.warns(UserWarning, match=r"b\.png, which is not there"):
        load_dataset("photos", tmp_path)
    for options in ({"labels": "bogus"}, {"on_error": "bogus"}):
        with pytest.raises(DataError, match="'bogus' is unknown"):
            load_dataset("photos", tmp_path, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prealigned": "false"}, "prealigned must be true or false"),
        ({"AUs": {"AU12": 0}}, "AUs must be a list"),
        ({"split": "holdout"}, "unknown split 'holdout'"),
        ({"image": "x" * 5000}, "line 1"),
    ],
)
def test_a_json_line_with_an_odd_value_is_named(tmp_path, change, message):
    line = {"id": "a", "image": "a.png", "labels": ["happiness"], **change}
    (tmp_path / "f.jsonl").write_text(json.dumps(line))
    with pytest.raises(DataError, match=message) as caught:
        load_dataset("jsonl", tmp_path / "f.jsonl")
    assert "f.jsonl, line 1" in one_line(caught)


@pytest.mark.parametrize("text", ['{"id": "a", "image": "a.png", "meta_info": {"quality": NaN}}', "[" * 100_000])
def test_a_json_line_that_is_none_is_named(tmp_path, text):
    (tmp_path / "f.jsonl").write_text(text)
    with pytest.raises(DataError, match=r"f\.jsonl, line 1"):
        load_dataset("jsonl", tmp_path / "f.jsonl")


def test_splits_are_read_as_people_write_them_and_do_not_leak(tmp_path):
    names = ("Test", "training", "dev", None)
    lines = [{"id": str(i), "image": "a.png", "split": name} for i, name in enumerate(names)]
    (tmp_path / "f.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = {split: [s.id for s in load_dataset("jsonl", tmp_path / "f.jsonl", split)]
             for split in ("train", "val", "test", None)}  # fmt: skip
    assert found == {"train": ["1"], "val": ["2"], "test": ["0"], None: ["0", "1", "2", "3"]}


def test_deep_arguments_are_cut():
    boxes = deep = []
    for _ in range(5000):
        deep.append([])
        deep = deep[0]
    episode = Episode(portrait_sample(), FaceTools(PortraitDetector()))
    assert episode.call("zoom_in", {"boxes": boxes}).violation == "illegal_order"
    assert len(json.dumps(episode.calls[0].arguments)) < 200


def test_a_malformed_call_can_be_drawn():
    env = gym.make("ActFER-Chat-v0", dataset=Dataset("m", [portrait_sample()]), render_mode="rgb_array").unwrapped
    env.reset()
    env.step('<tool_call>{"name": "zoom_in", "arguments": {"regions": [1, null]}}</tool_call>')
    assert env.render().ndim == 3


def rollout_line(**changes):
    episode = Episode(portrait_sample(), FaceTools(PortraitDetector()))
    episode.answer("happy")
    return json.dumps({**episode.rollout().to_dict(), **changes})


@pytest.mark.parametrize(
    "line",
    [rollout_line(schema="2"), rollout_line(schema=None), rollout_line(group_id=[]), rollout_line(texts="abc"),
     rollout_line(texts=[5]), rollout_line(tool_calls=[5]), "[" * 100_000, "\udcff"],
)  # fmt: skip
def test_an_odd_rollout_is_named(tmp_path, line):
    (tmp_path / "r.jsonl").write_text(line, errors="surrogateescape")
    with pytest.raises(DataError, match=r"r\.jsonl") as caught:
        read_rollouts(tmp_path / "r.jsonl")
    one_line(caught)


@pytest.mark.parametrize(
    "change", [{"scores": {"bogus": [1]}}, {"settings": None}, {"dataset": None}, {"failures": [5]}, {"schema": "x"}]
)
def test_an_odd_run_is_named(tmp_path, change):
    head = {"schema": 1, "dataset": {}, "settings": {}, "reward": {}, "scorer_state": UCGRPO().state_dict(),
            "scores": {}, "failures": [], "actfer_env": "0"}  # fmt: skip
    (tmp_path / "rollouts.jsonl").write_text(rollout_line() + "\n")
    (tmp_path / "run.json").write_text(json.dumps(head))
    assert len(read_run(tmp_path).rollouts) == 1
    (tmp_path / "run.json").write_text(json.dumps({**head, **change}))
    with pytest.raises(DataError, match=r"run\.json"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(head))
    (tmp_path / "rollouts.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"rollouts\.jsonl, line 1"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"action_format": "foo"}, "unknown action_format 'foo'"),
        ({"dataset": []}, "registered name or a Dataset"),
        ({"max_turns": 2.5}, "max_turns must be a whole number of at least 1, got 2.5"),
        ({"max_zooms": -1}, "max_zooms must be a whole number of at least 0, got -1"),
        ({"face_size": 64.5}, "face_size is 64.5"),
        ({"tools": FaceTools("auto")}, "not square"),
    ],
)
def test_odd_arguments_of_the_environment(arguments, message):
    from actfer_env.envs.face import ActFEREnv

    with pytest.raises(ValueError, match=message):
        ActFEREnv(**arguments)


def test_odd_detectors_and_faces():
    for spec, message in (("mtcnn:foo", "takes no argument"), (None, "is no detector"), ("auto:x", "no argument")):
        with pytest.raises(DetectorError, match=message):
            make_detector(spec)
    assert detect_align(astronaut(), detector=PortraitDetector(), face=np.int64(0)).index == 0
    for face in (None, 1.5, "smallest"):
        with pytest.raises(DetectorError, match="unknown face"):
            detect_align(astronaut(), detector=PortraitDetector(), face=face)
    with pytest.raises(ValueError, match="whole number"):
        detect_align(astronaut(), detector=PortraitDetector(), size=224.5)


def test_a_vector_environment_of_any_size_can_be_pickled():
    envs = actfer_env.make_group_vec(FLAT[0], 4, 8, dataset=load_dataset("synthetic", n=2))
    envs.reset(seed=1)
    copy = pickle.loads(pickle.dumps(envs))
    assert all(np.array_equal(a, b) for a, b in zip(envs.reset(seed=2)[0].values(), copy.reset(seed=2)[0].values(),
                                                    strict=True))  # fmt: skip


def test_rendering_before_a_reset_says_so():
    envs = actfer_env.make_group_vec(FLAT[0], 2, 1, dataset=load_dataset("synthetic", n=2), render_mode="rgb_array")
    with pytest.raises(RuntimeError, match="call reset"):
        envs.render()


def test_bits_are_in_ascending_order_of_action_unit():
    assert EpisodeConfig(au_set=(12, 6)).au_set == (6, 12)
    env = gym.make(FLAT[1], au_set=(12, 6), dataset=Dataset("m", [portrait_sample()])).unwrapped
    env.reset()
    *_, info = env.step([5, facs.EMOTIONS.index("fear"), 1, 0])
    assert info["rollout"].predicted_aus == {6}


def test_pictures_of_inspect_do_not_overwrite_each_other(tmp_path):
    paths = [tmp_path / "a" / "1.jpg", tmp_path / "b" / "1.jpg", tmp_path / "2.png"]
    assert picture_names(paths) == ["1", "1-2", "2"]


def test_parquet_to_an_impossible_folder_is_named(tmp_path):
    pytest.importorskip("pyarrow")
    from actfer_env.verl_plugin.rows import write_parquet

    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ActFERError, match=r"cannot write .*file.*choose a folder"):
        write_parquet(Dataset("m", [portrait_sample()]), tmp_path / "file" / "shards")
