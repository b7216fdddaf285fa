"""Add your own tool, and check that it keeps the contract: here one that brightens a dark face.

It works in conversations, rewards, reports, data for verl and its agent loop by its name alone. For the command line
and for worker processes put it into a module that registers it: `actfer --import my_tools ...`, or `ACTFER_IMPORT`. The
commands `eval` and `data verl` then take `--tools detect_align,zoom_in,brighten`.
"""

import numpy as np

from actfer_env.chat import ChatConfig, ChatEpisode, chat_tools
from actfer_env.data import load_dataset
from actfer_env.episode import EpisodeConfig
from actfer_env.rewards import UCGRPO
from actfer_env.testing import check_tool
from actfer_env.tools import Tool, ToolOutput, function_schema, register_tool


class Brighten(Tool):
    """Shows the aligned face brighter, or another picture of your own."""

    name = "brighten"
    looks_closer = True  # the contrast asks whether calling it pays, as it does for zooms
    example = {"gain": 2.0}

    def schema(self, wire):
        gain = {"type": "number", "minimum": 1, "maximum": 4, "description": "Factor of the brightness."}
        return function_schema(self.name, "Show the aligned face brighter.", {"gain": gain}, required=["gain"])

    def guide(self, wire):
        return f"If the face is too dark to read, call {self.name}."

    def legal(self, episode):
        return episode.alignment is not None

    def run(self, episode, gain):
        face = episode.tools.face(episode.sample, episode.alignment, episode.wire.face or 224)
        bright = self.brighten(face, gain)
        found = {"gain": gain, "mean": round(float(bright.mean()), 1)}
        return ToolOutput(f"Brightened the face by {gain:g}.", (bright,), result=found)

    def describe(self, call):
        return f"face brightened by {call.result['gain']:g}"

    def draw(self, call, image, alignment, side):
        return [("brighter face", self.brighten(alignment.draw(image, side), call.result["gain"]))]

    @staticmethod
    def brighten(face, gain):
        return np.clip(face * float(gain), 0, 255).astype(np.uint8)


register_tool("brighten", Brighten)

if __name__ == "__main__":
    check_tool("brighten")
    config = EpisodeConfig(tools=("detect_align", "zoom_in", "brighten"))
    sample = load_dataset("synthetic", split="test", n=1)[0]
    episode = ChatEpisode(sample, chat_tools(), ChatConfig(), config)
    for turn in (
        '<tool_call>{"name": "detect_align", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "brighten", "arguments": {"gain": 2}}</tool_call>',
        '<answer>{"emotion": "happiness", "aus": ["AU6", "AU12"]}</answer>',
    ):
        for message in episode.step(turn).messages:
            print(message["role"], message.get("name", ""), message["content"][-1]["text"])
    rollout = episode.rollout()
    print("counts as a zoom:", rollout.zoomed, UCGRPO().score([rollout]).terms(0))
