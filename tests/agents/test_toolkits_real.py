"""The packages of the toolkits themselves, where they are installed, each with a small random model as its weights.

Their weights come from the network and are not here, so the answers mean nothing: what is tested is the call, the order
of the channels, and the spelling of what comes back.
"""

import sys

import gymnasium as gym
import numpy as np
import pytest

from actfer_env.agents import make_agent
from actfer_env.agents.registry import env_for
from actfer_env.agents.toolkits import TOOLKITS, OpenFace3
from actfer_env.data import load_dataset
from actfer_env.evaluation.play import config_for, play
from actfer_env.testing import check_agent

FACES = load_dataset("synthetic", split="test", n=4, preset="easy")


def check(spec):
    """Play, compare a face read twice, and check the contract; return the rollouts."""
    run = play(FACES, config_for((spec,)))
    assert not run.failures and [r.tool_calls[0].name for r in run.rollouts] == ["detect_align"] * 4
    env = gym.make("ActFER-MultiDiscrete-v0", dataset=FACES, **env_for([spec]))
    check_agent(make_agent(spec, env.action_space, dataset=FACES), env, episodes=1)
    version = run.rollouts[0].meta["toolkit"]["version"]
    assert version[0].isdecimal()
    return run.rollouts


def save_onnx(path, in_shape, out_classes, nhwc=False):
    """Write a network of one layer over the mean of each channel; its last node is a Gemm, as EmotiEffLib needs it."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    channels = in_shape[-1] if nhwc else in_shape[1]
    weights = numpy_helper.from_array(rng.normal(size=(out_classes, channels)).astype(np.float32), "w")
    bias = numpy_helper.from_array(np.zeros(out_classes, np.float32), "b")
    axes = numpy_helper.from_array(np.array([1, 2] if nhwc else [2, 3]), "axes")
    nodes = [helper.make_node("ReduceMean", ["input", "axes"], ["features"], keepdims=0),
             helper.make_node("Gemm", ["features", "w", "b"], ["scores"], transB=1)]  # fmt: skip
    graph = helper.make_graph(
        nodes, "tiny", [helper.make_tensor_value_info("input", TensorProto.FLOAT, in_shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, out_classes])], [weights, bias, axes],
    )  # fmt: skip
    path.parent.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return numpy_helper.to_array(weights)


def test_emotiefflib_itself(tmp_path, monkeypatch):
    pytest.importorskip("emotiefflib", reason="needs the extra emotiefflib")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    weights = save_onnx(tmp_path / ".emotiefflib" / "enet_b0_8_best_vgaf.onnx", [None, 3, 224, 224], 8)
    emotions = {rollout.predicted_emotion for rollout in check("emotiefflib")}
    assert emotions  # and by hand, on a picture of one colour: the classes of its list, in RGB
    red = np.zeros((64, 64, 3), np.uint8)
    red[:, :, 0] = 255
    normal = (np.array([1.0, 0, 0]) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    order = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
    assert TOOLKITS["emotiefflib"]().read(red).emotion == order[int(np.argmax(weights @ normal))]


def test_deepface_itself(tmp_path, monkeypatch):
    pytest.importorskip("deepface", reason="needs deepface, which docs/evaluate.md tells how to install")
    monkeypatch.setenv("DEEPFACE_HOME", str(tmp_path))
    monkeypatch.setenv("DEEPFACE_BACKEND_ENGINE", "onnx")
    place = tmp_path / ".deepface" / "weights" / "facial_expression_model_weights.onnx"
    save_onnx(place, [None, 48, 48, 1], 7, nhwc=True)
    emotions = {rollout.predicted_emotion for rollout in check("deepface")}
    assert emotions and emotions <= {"anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"}


def test_openface_3_itself(tmp_path):
    pytest.importorskip("timm", reason="needs timm")
    mtl = pytest.importorskip("openface.model.MTL", reason="needs openface-test, see docs/evaluate.md")
    import torch

    torch.manual_seed(0)
    model = mtl.MTL()
    torch.save(model.state_dict(), tmp_path / OpenFace3.WEIGHTS)
    rollouts = check(f"openface3:{tmp_path}")
    assert all(rollout.predicted_aus <= {1, 2, 4, 6, 9, 12, 25, 26} for rollout in rollouts)
    gray = np.full((64, 64, 3), 99, np.uint8)
    reading, again = (TOOLKITS["openface3"](str(tmp_path)).read(gray) for _ in range(2))
    assert reading == again


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("face", [True, False])
def test_pyfeat_itself(version, face, monkeypatch):
    """py-feat's detectors, but that the networks behind them are stood in for: their weights cannot be had here."""
    feat = pytest.importorskip("feat", reason="needs py-feat")
    import torch
    from feat.utils import FEAT_FACEBOX_COLUMNS  # its own names of columns

    kind = {"v1": feat.Detectorv1, "v2": feat.Detectorv2}[version]
    if version == "v2":
        units, emotions = feat.multitask.AU_COLUMNS_V2, feat.multitask.EMOTION_COLUMNS_V2
    else:
        units, emotions = feat.pretrained.AU_LANDMARK_MAP["Feat"], feat.utils.FEAT_EMOTION_COLUMNS

    def init(self, **options):
        torch.nn.Module.__init__(self)
        self.face_detection_threshold, self.face_size = 0.5, 112
        self.info = dict.fromkeys(("face_model", "landmark_model", "au_model", "emotion_model", "facepose_model",
                                   "identity_model", "gaze_model"))  # fmt: skip
        self.multitask = type("Names", (), {"au_names": units, "emotion_names": emotions})()

    def forward(self, faces_data, batch_data):
        import pandas

        shape = batch_data["Image"].shape
        assert shape[:2] == (1, 3) and batch_data["Image"].dtype == torch.uint8
        table = pandas.DataFrame([[0.0, 0, 9, 9, 0.9]], columns=FEAT_FACEBOX_COLUMNS)
        table[list(emotions)] = [[float(name.lower() in ("surprise",)) for name in emotions]]
        table[list(units)] = [[float(name in ("AU01", "AU02", "AU26", "AU1", "AU2")) for name in units]]
        columns = [name for name in _columns(feat) if name not in table]
        table = pandas.concat([table, pandas.DataFrame(0.0, index=[0], columns=columns)], axis=1)
        return table if face else table.map(lambda _: np.nan)

    monkeypatch.setattr(kind, "__init__", init)
    monkeypatch.setattr(kind, "forward", forward)
    monkeypatch.setattr(kind, "detect_faces", lambda self, images, **_: [{"scores": [0.9]}])
    if not face:
        with pytest.warns(UserWarning, match="finds no face"):
            rollouts = check(f"pyfeat:{version}")
        assert all(r.predicted_emotion == "neutral" and not r.meta["toolkit"]["face"] for r in rollouts)
        return
    rollouts = check(f"pyfeat:{version}")
    assert all(r.predicted_emotion == "surprise" and r.predicted_aus == {1, 2, 26} for r in rollouts)


def _columns(feat):
    """The other columns that py-feat's table has."""
    from feat import utils

    groups = ("openface_2d_landmark_columns", "FEAT_FACEPOSE_COLUMNS_6D", "FEAT_GAZE_COLUMNS", "FEAT_IDENTITY_COLUMNS",
              "MP_BLENDSHAPE_NAMES")  # fmt: skip
    return [name for group in groups for name in getattr(utils, group)]


if __name__ == "__main__":
    sys.exit(pytest.main(["-n", "0", "-q", "-rs", __file__]))
