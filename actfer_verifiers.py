"""The plugin that verifiers finds under the id ``actfer_verifiers``: a taskset, its harness and its env."""

from actfer_env.integrations.verifiers import FaceGroupEnv, FaceHarness, FaceTaskset

__all__ = ["FaceGroupEnv", "FaceHarness", "FaceTaskset"]
