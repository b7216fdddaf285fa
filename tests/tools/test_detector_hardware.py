"""Threads and GPU of detectors, read from OpenCV and from ONNX Runtime's own sessions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers import photo, shared_path

from actfer_env.tools.detectors import make_detector
from actfer_env.tools.detectors.hardware import Hardware, hardware, use_hardware


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    use_hardware(Hardware())


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A folder with a network that InsightFace takes for a detector."""
    onnx = pytest.importorskip("onnx", reason="needs the extra insightface")
    pytest.importorskip("insightface", reason="needs the extra insightface")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    names = [f"o{number}" for number in range(9)]
    outputs = [helper.make_tensor_value_info(name, kind, [1, 8, 1]) for name in names]
    picture = helper.make_tensor_value_info("picture", kind, [1, 3, 640, 640])
    zeros = onnx.numpy_helper.from_array(np.zeros((1, 8, 1), np.float32), "zeros")
    nodes = [helper.make_node("Identity", ["zeros"], [name]) for name in names]
    graph = helper.make_graph(nodes, "graph", [picture], outputs, [zeros])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(tmp_path / "detector.onnx"))
    return tmp_path


def session_of(detector: Any) -> Any:
    return detector._model.session


def test_by_default_the_libraries_choose(pack: Path) -> None:
    assert hardware() == Hardware(None, gpu=True)
    options = session_of(make_detector(f"insightface:{pack}")).get_session_options()
    assert options.intra_op_num_threads == 0  # ONNX Runtime's word for all cores


def test_a_bound_holds_for_opencv_and_for_every_session(pack: Path) -> None:
    every = cv2.getNumThreads()
    assert use_hardware(Hardware(threads=1)) == Hardware()
    options = session_of(make_detector(f"insightface:{pack}")).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads, cv2.getNumThreads()) == (1, 1, 1)
    wrapped = make_detector(f"unturned:insightface:{pack}")
    assert session_of(wrapped.inner).get_session_options().intra_op_num_threads == 1
    use_hardware(Hardware())
    assert cv2.getNumThreads() == every
    with pytest.raises(ValueError, match="threads 0 must be at least 1"):
        Hardware(threads=0)


def test_a_gpu_is_asked_for_only_where_it_may_be_used(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from actfer_env.tools.detectors.insightface import default_providers

    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra insightface")
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
    assert default_providers() == both
    use_hardware(Hardware(gpu=False))
    assert default_providers() == both[1:]
    assert session_of(make_detector(f"insightface:{pack}")).get_providers() == both[1:]


def test_faces_do_not_depend_on_the_number_of_threads() -> None:
    pytest.importorskip("insightface", reason="needs the extra insightface")
    spec, found = f"insightface:{shared_path('weights', 'scrfd_2.5g_bnkps.onnx')}", []
    for threads in (1, 2):
        use_hardware(Hardware(threads=threads, gpu=False))
        found.append([(face.box, face.score) for face in make_detector(spec).detect(photo("astronaut"))])
    assert found[0] == found[1] and found[0]
