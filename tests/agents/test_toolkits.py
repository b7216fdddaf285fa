"""Toolkits of facial expression analysis as agents.

The doubles here return what each toolkit's documentation says; the tests at the end call the real package where it is
installed, with a small random model in the place of its weights.
"""

import sys
from types import ModuleType, SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from typer.testing import CliRunner

from actfer_env import facs
from actfer_env.agents import make_agent
from actfer_env.agents.registry import TOOLKIT_AGENTS, env_for
from actfer_env.agents.toolkits import TOOLKITS, OpenFace3, Reading, Toolkit, ToolkitAgent
from actfer_env.cli import app
from actfer_env.data import load_dataset
from actfer_env.errors import AgentError, DataError
from actfer_env.evaluation import summarize
from actfer_env.evaluation.play import RolloutConfig, config_for, play
from actfer_env.testing import check_agent

FACES = load_dataset("synthetic", split="test", n=3, preset="easy")
SEEN = []


def put(monkeypatch, name, **parts):
    """Install a module of these parts under a dotted name, its parents too."""
    for i in range(name.count(".") + 1):
        part = ".".join(name.split(".")[: i + 1])
        monkeypatch.setitem(sys.modules, part, ModuleType(part))
    vars(sys.modules[name]).update(parts)


def pyfeat(monkeypatch):
    """`detect` returns a Fex: a data frame with a row a face, of NaN where there is none."""
    pandas, torch = pytest.importorskip("pandas"), pytest.importorskip("torch")

    class Detectorv1:
        emotion_columns = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")

        def __init__(self, **options):
            assert options == {"identity_model": None, "gaze_model": None}

        def detect(self, inputs, data_type="image", progress_bar=True, **_):
            assert isinstance(inputs, torch.Tensor) and inputs.dtype == torch.uint8 and inputs.shape[:2] == (1, 3)
            assert data_type == "tensor" and not progress_bar
            SEEN.append(inputs[0].permute(1, 2, 0).numpy())
            faces = [(0.6, "sadness", ("AU01", "AU15")), (0.9, "happiness", ("AU06", "AU12", "AU28"))]
            faces = [(np.nan, None, ())] if np.ptp(SEEN[-1]) == 0 else faces
            aus = pandas.DataFrame([{f"AU{unit:02}": np.nan if name is None else 0.5 * (f"AU{unit:02}" in units)
                                     for unit in TOOLKITS["pyfeat"].aus} for _, name, units in faces])  # fmt: skip
            emotions = pandas.DataFrame([{one: np.nan if name is None else float(one == name)
                                          for one in self.emotion_columns} for _, name, _ in faces])  # fmt: skip
            boxes = pandas.DataFrame({"FaceScore": [score for score, *_ in faces]})
            return SimpleNamespace(faceboxes=boxes, emotions=emotions, aus=aus)

    put(monkeypatch, "feat", Detectorv1=Detectorv1)


def emotiefflib(monkeypatch):
    """`predict_emotions` returns a list of labels and an array of scores."""

    class Recognizer:
        def __init__(self, engine="torch", model_name="enet_b0_8_best_vgaf", device="cpu"):
            assert (engine, model_name) == ("onnx", "enet_b0_8_best_vgaf")

        def predict_emotions(self, face_img, logits=True):
            SEEN.append(face_img)
            return ["Happiness"], np.eye(8, dtype=np.float32)[4:5]

    put(monkeypatch, "emotiefflib.facial_analysis", EmotiEffLibRecognizer=Recognizer,
        get_model_list=lambda: ["enet_b0_8_best_vgaf", "enet_b2_7"])  # fmt: skip


def deepface(monkeypatch):
    """`analyze` takes BGR and returns a list with a dict for each face."""

    def analyze(img_path, actions, enforce_detection, detector_backend, silent):
        assert actions == ["emotion"] and detector_backend == "skip" and not enforce_detection
        SEEN.append(img_path[:, :, ::-1])
        return [{"emotion": {"happy": 90.0, "angry": 10.0}, "dominant_emotion": "happy", "face_confidence": 0}]

    put(monkeypatch, "deepface.DeepFace", analyze=analyze)


def libreface(monkeypatch):
    """`get_facial_attributes` reads a file, prints, and raises RuntimeError where it finds no face."""
    import cv2

    def attributes(file_path, temp_dir="./tmp", weights_download_dir="./weights_libreface"):
        print("Using device: cpu for inference...")
        SEEN.append(cv2.imread(file_path)[:, :, ::-1])
        if np.ptp(SEEN[-1]) == 0:
            raise RuntimeError("No face landmarks")
        return {"facial_expression": "Happiness", "gaze_yaw": 0.0,
                "detected_aus": {"au_6": 1, "au_12": 1, "au_4": 0},
                "au_intensities": {"au_4_intensity": 4.0, "au_25_intensity": 2.0, "au_26_intensity": 1.9}}  # fmt: skip

    put(monkeypatch, "libreface", get_facial_attributes=attributes)


def openface3(monkeypatch):
    """`predict` takes BGR and returns logits (1, 8), gaze (1, 2) and unit scores (1, 8)."""
    torch = pytest.importorskip("torch")

    class MultitaskPredictor:
        def __init__(self, model_path, device="cpu"):
            assert model_path.endswith("MTL_backbone.pth")

        def predict(self, face):
            SEEN.append(face[:, :, ::-1])
            return torch.eye(8)[1:2], torch.zeros(1, 2), torch.tensor([[0.1, 0, 0, 0.9, 0, 0.7, 0.2, 0.49]])

    put(monkeypatch, "openface.multitask_model", MultitaskPredictor=MultitaskPredictor)


UNITS = {"pyfeat": {6, 12}, "libreface": {6, 12, 25}, "openface3": {6, 12}}
"""Active units that the doubles name, of those that count."""


@pytest.fixture(params=TOOLKIT_AGENTS)
def spec(request, monkeypatch, tmp_path):
    globals()[request.param](monkeypatch)
    SEEN.clear()
    (tmp_path / OpenFace3.WEIGHTS).touch()
    return f"openface3:{tmp_path}" if request.param == "openface3" else request.param


def test_a_toolkit_detects_and_answers_and_stands_in_the_same_tables(spec, capsys):
    config = config_for((spec, "full:truth"), group_size=2)
    assert config.face_size == config.image_size == 320
    run = play(FACES, config)
    assert not run.failures and capsys.readouterr().out == ""
    name = spec.partition(":")[0]
    for rollout in run.rollouts[::2]:
        assert [call.name for call in rollout.tool_calls] == ["detect_align"] and not rollout.violations
        assert rollout.predicted_emotion == "happiness" and rollout.looked and not rollout.zoomed
        assert rollout.predicted_aus == UNITS.get(name, facs.prototype_aus("happiness"))
        assert rollout.meta.get("aus_derived", False) is (name not in UNITS)
        facts = rollout.meta["toolkit"]
        assert facts["name"] == TOOLKITS[name].name and facts["face"] and rollout.meta["agent"] == spec
    summary = summarize(run.rollouts)
    assert summary.scripted == 3 and summary.labelled == 3 and summary.zoom_ratio == 0.5


def test_a_toolkit_that_looks_for_no_face_is_shown_what_the_regions_span(spec):
    env = gym.make("ActFER-MultiDiscrete-v0", dataset=FACES, **env_for([spec]))
    agent = make_agent(spec, env.action_space, dataset=FACES)
    obs, info = env.reset(seed=0)
    obs, *_ = env.step(agent.act(obs, info))
    SEEN.clear()
    agent.act(obs, info)
    boxes = obs["region_boxes"] * 320
    whole = agent.toolkit.finds_faces
    wanted = (320, 320) if whole else np.ceil(boxes[:, 3:1:-1].max(0)) - np.floor(boxes[:, 1::-1].min(0))
    assert SEEN[0].shape == (*map(int, wanted), 3)
    left, top = (0, 0) if whole else np.floor(boxes[:, :2].min(0)).astype(int)
    part = obs["face"][top : top + len(SEEN[0]), left : left + SEEN[0].shape[1]]
    np.testing.assert_array_equal(SEEN[0], part)  # RGB and BGR are not mixed up


@pytest.mark.parametrize("env_id", ["ActFER-v0", "ActFER-MultiDiscrete-v0", "ActFER-Discrete-v0"])
def test_a_toolkit_keeps_the_contract_of_agents(spec, env_id):
    env = gym.make(env_id, dataset=FACES, **env_for([spec]))
    check_agent(make_agent(spec, env.action_space, dataset=FACES), env, episodes=2)


def test_a_face_is_read_once(monkeypatch):
    emotiefflib(monkeypatch)
    SEEN.clear()
    play(FACES, config_for(("emotiefflib",), group_size=4, number=2))
    assert len(SEEN) == 2


class NoFaces:
    name = "none"

    def detect(self, image):
        return []


@pytest.mark.parametrize("name", ["pyfeat", "libreface"])
def test_where_the_toolkit_finds_no_face_the_answer_is_neutral_and_marked(name, monkeypatch):
    globals()[name](monkeypatch)
    env = gym.make("ActFER-MultiDiscrete-v0", dataset=FACES, detector=NoFaces(), **env_for([name]))
    agent = make_agent(name, env.action_space, dataset=FACES)
    obs, info = env.reset(seed=0)
    obs, _, _, _, info = env.step(agent.act(obs, info))
    obs = {**obs, "image": np.zeros_like(obs["image"])}
    with pytest.warns(UserWarning, match="finds no face in a picture: it is answered with 'neutral'"):
        action = agent.act(obs, info)
    assert agent.meta["toolkit"]["face"] is False
    *_, info = env.step(action)
    assert info["rollout"].predicted_emotion == "neutral" and info["rollout"].predicted_aus == frozenset()


def test_in_the_last_turn_it_answers_from_the_raw_picture(monkeypatch):
    emotiefflib(monkeypatch)
    (rollout,) = play(FACES, config_for(("emotiefflib",), number=1, max_turns=1)).rollouts
    assert rollout.predicted_emotion == "happiness" and rollout.detection == "not_called"


@pytest.mark.parametrize(("name", "cure"), [(name, kind.install) for name, kind in TOOLKITS.items()])
def test_a_missing_toolkit_is_one_line_that_says_what_to_install(name, cure, monkeypatch, tmp_path):
    kind = TOOLKITS[name]
    monkeypatch.setitem(sys.modules, kind.module.partition(".")[0], None)
    result = CliRunner().invoke(
        app, ["rollout", "synthetic", "-n", "1", "--agent", name, "--out", str(tmp_path / "out")]
    )
    with pytest.raises(DataError, match="is missing") as caught:
        kind()
    assert str(caught.value) == f"{kind.name} is missing: {cure}" and isinstance(result.exception, DataError)
    assert not (tmp_path / "out").exists()


def test_a_toolkit_whose_own_needs_are_missing_says_which(monkeypatch, tmp_path):
    (tmp_path / "libreface.py").write_text("import mediapipe_of_its_own\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "libreface", raising=False)
    with pytest.raises(
        DataError, match=r"libreface cannot start \(mediapipe_of_its_own is missing\): pip install libr"
    ):
        TOOLKITS["libreface"]()


WRONG = {
    "pyfeat:v7": "use pyfeat, pyfeat:v1 or pyfeat:v2",
    "emotiefflib:large": "EmotiEffLib has no model 'large': use one of enet_b0_8_best_vgaf, enet_b2_7",
    "deepface:retinaface": "deepface takes no argument",
    "openface3:nowhere": "nowhere/MTL_backbone.pth is missing: download OpenFace 3's weights",
}


@pytest.mark.parametrize("spec", WRONG)
def test_a_wrong_argument_is_one_line(spec, monkeypatch):
    globals()[spec.partition(":")[0]](monkeypatch)
    with pytest.raises(DataError, match=WRONG[spec]) as caught:
        play(FACES, config_for((spec,)))
    assert "\n" not in str(caught.value)


def test_weights_that_cannot_be_downloaded_and_faces_that_cannot_be_read_are_one_line(monkeypatch):
    def fails(*_, **__):
        raise OSError("no route\nto host")

    put(monkeypatch, "deepface.DeepFace", analyze=fails)
    with pytest.raises(AgentError, match=r"deepface cannot read a face \(OSError: no route to host\)"):
        play(FACES, config_for(("deepface",)))
    put(monkeypatch, "feat", Detectorv1=fails)
    with pytest.raises(DataError, match=r"py-feat cannot load its models \(OSError: no route to host\)"):
        play(FACES, config_for(("pyfeat",)))


def test_two_picture_sizes_in_one_run_are_refused(monkeypatch):
    emotiefflib(monkeypatch)
    assert config_for(("emotiefflib", "deepface")).face_size == 320
    assert config_for(("emotiefflib",), face_size=112) == RolloutConfig(
        agents=("emotiefflib",), image_size=320, face_size=112
    )


def test_a_toolkit_of_ones_own():
    class Smile(Toolkit):
        name, module, install = "smile", "math", "-"

        def read(self, image):
            return Reading("happiness", frozenset({12, 28}))

    env = gym.make("ActFER-MultiDiscrete-v0", dataset=FACES, **ToolkitAgent.env_arguments)
    agent = ToolkitAgent(env.action_space, Smile())
    check_agent(agent, env, episodes=1)
    assert agent.meta["toolkit"] == {"name": "smile", "version": "unknown", "face": True}
