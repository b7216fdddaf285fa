"""Threads and GPU that the detectors of a process may use: one setting for OpenCV and ONNX Runtime.

Both take all cores by default, and ONNX Runtime a GPU where it offers one. That is right for one process, and wrong for
several beside each other, or where the GPUs belong to a trainer.
"""

from __future__ import annotations

from dataclasses import dataclass

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


@dataclass(frozen=True)
class Hardware:
    """Devices and threads that detectors may use.

    Attributes:
        threads: Threads of OpenCV, and of each model of ONNX Runtime; None leaves both their own choice, all cores.
        gpu: Whether ONNX Runtime may take a GPU.
    """

    threads: int | None = None
    gpu: bool = True

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads {self.threads} must be at least 1, or None for all cores")


_in_use = Hardware()


def hardware() -> Hardware:
    """Return what detectors of this process may use."""
    return _in_use


def use_hardware(wanted: Hardware) -> Hardware:
    """Set what detectors that are built from now on may use, in this whole process; OpenCV obeys at once.

    Returns:
        What was set before.
    """
    import cv2

    global _in_use
    before, _in_use = _in_use, wanted
    cv2.setNumThreads(-1 if wanted.threads is None else wanted.threads)
    return before


def offers_gpu() -> bool:
    """Return whether ONNX Runtime is installed here and offers a GPU."""
    try:
        import onnxruntime
    except ImportError:
        return False
    return CUDA in onnxruntime.get_available_providers()
