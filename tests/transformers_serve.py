"""`transformers serve`, also where torchvision is not installed: run as a script, with its arguments.

transformers reads videos through torchvision, and without it refuses to load any processor that could read videos. The
server that is started here is transformers' own; its Qwen3-VL processor lacks its part for videos, nothing else.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

from transformers import AutoProcessor, AutoTokenizer, Qwen2VLImageProcessorPil, Qwen3VLProcessor


class PictureProcessor(Qwen3VLProcessor):
    """Qwen3-VL's processor for texts and pictures."""

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        if argument_name == "video_processor":
            return None
        return super().check_argument_for_proper_class(argument_name, argument)

    @classmethod
    def from_pretrained(cls, path: Any, **_: Any) -> Any:
        tokenizer = AutoTokenizer.from_pretrained(path)
        pictures = Qwen2VLImageProcessorPil.from_pretrained(path)
        return cls(pictures, tokenizer, None, chat_template=tokenizer.chat_template)


def main() -> None:
    from transformers.cli.transformers import main as transformers

    if find_spec("torchvision") is None:
        AutoProcessor.from_pretrained = PictureProcessor.from_pretrained  # it goes by names, and finds the other
    sys.argv[:1] = ["transformers", "serve"]
    transformers()


if __name__ == "__main__":
    main()
