"""MCP's reference SDK in JavaScript, as a second client beside that of the Python SDK."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).with_name("mcp_client.mjs")


def sdk() -> Path:
    """Return the folder of the SDK, or skip the test: ACTFER_MCP_JS, into which npm has installed it."""
    folder = Path(os.environ.get("ACTFER_MCP_JS") or "no-folder")
    if shutil.which("node") is None or not (folder / "node_modules" / "@modelcontextprotocol" / "sdk").is_dir():
        pytest.skip(
            "needs node, and ACTFER_MCP_JS=FOLDER after 'npm install --prefix FOLDER @modelcontextprotocol/sdk'"
        )
    return folder


def ask(sessions: list[list[tuple[str, dict]]], **target: object) -> list[dict]:
    """Play sessions at a time, each over a connection of its own; return their tools and results."""
    asked = {"modules": str(sdk()), "sessions": sessions, **target}
    done = subprocess.run(["node", SCRIPT], input=json.dumps(asked), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)["sessions"]


def read(result: dict) -> tuple[list[np.ndarray], dict]:
    """Return the pictures and the JSON of a result that is no error."""
    assert not result.get("isError") and "thrown" not in result, result
    *pictures, told = result["content"]
    assert all(one["type"] == "image" and one["mimeType"] == "image/png" for one in pictures)
    decoded = [np.asarray(Image.open(io.BytesIO(base64.b64decode(one["data"])))) for one in pictures]
    return decoded, json.loads(told["text"])
