"""verl's SFT rows: the tokens and the loss of the project's own collator, and a command that verl can compose.

Runs where verl is installed: ``python -m pytest -o addopts= -q tests/verl_plugin/test_verl_sft.py``.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT

pytest.importorskip("datasets", reason="needs datasets: pip install 'actfer-env[data]'")
pytest.importorskip("pydantic", reason="needs the extra [data]")
if find_spec("verl") is None:
    pytest.skip("needs verl: pip install 'actfer-env[verl]'", allow_module_level=True)
os.environ.setdefault("VERL_PLATFORM", "cpu")

from actfer_env.agents.qwen.torchvision_guard import guard

guard()

from actfer_env.agents.qwen.conversation import TokenCodec  # noqa: E402
from actfer_env.agents.qwen.supervised import TurnsCollator  # noqa: E402
from actfer_env.agents.qwen.tiny import TinyQwenConfig, build  # noqa: E402
from actfer_env.curate.curate import curate  # noqa: E402
from actfer_env.curate.exports import export  # noqa: E402
from actfer_env.curate.options import CurateOptions  # noqa: E402
from actfer_env.curate.replay import Curated  # noqa: E402
from actfer_env.data import load_dataset  # noqa: E402


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A model, and rows for TRL and for verl, with the whole prompt."""
    work = tmp_path_factory.mktemp("verl-sft")
    curate(
        load_dataset("synthetic", split="train", preset="easy", n=4), work / "c",
        CurateOptions.build(views="none", rl_size=0),
    )  # fmt: skip
    model = build(work / "model", TinyQwenConfig(max_pixels=256 * 256))
    for kind in ("trl", "verl"):
        export(Curated.open(work / "c"), kind, work / kind, model=model)
    return model, work / "trl", work / "verl"


def test_verls_rows_have_the_tokens_and_the_loss_of_trls(exported: tuple[Path, Path, Path]) -> None:
    from datasets import load_dataset as load_rows
    from omegaconf import OmegaConf
    from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset
    from verl.utils.tokenizer import hf_processor, hf_tokenizer

    model, trl, verl = exported
    tokenizer, processor = hf_tokenizer(str(model)), hf_processor(str(model))
    settings: Any = {"max_length": 8192, "truncation": "error", "pad_mode": "no_padding", "image_patch_size": 16}
    theirs = MultiTurnSFTDataset([str(path) for path in sorted(verl.glob("*.parquet"))], tokenizer,
                                 OmegaConf.create(settings), processor)  # fmt: skip
    codec = TokenCodec(processor.tokenizer, processor.image_processor)
    ours = load_rows("parquet", data_files=str(trl / "*.parquet"), split="train")
    assert len(theirs) == len(ours) == 4
    for number, row in enumerate(ours):
        wanted, found = TurnsCollator(codec).tokens(row), theirs[number]
        line_end = codec.encode("\n")
        assert found["input_ids"].tolist() == [*wanted.ids, *line_end], "but for the last line end"
        mask = found["loss_mask"].tolist()[: len(wanted.ids)]
        apart = {tokenizer.decode([one]) for one, a, b in zip(wanted.ids, mask, wanted.written, strict=True) if a != b}
        assert apart <= {"\n"}, "verl also teaches the line end behind a turn"
        assert found["multi_modal_inputs"]["image_grid_thw"].tolist() == [list(grid) for grid in wanted.grids]


def test_verl_composes_the_scripts_command(exported: tuple[Path, Path, Path], tmp_path: Path) -> None:
    from hydra import compose, initialize_config_module

    model, _, verl = exported
    script = ROOT / "examples" / "sft" / "sft_verl.sh"
    env = {**os.environ, "MODEL": str(model), "DATA": str(verl), "OUT": str(tmp_path), "DRY_RUN": "1"}
    done = subprocess.run(["bash", script], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    words = shlex.split(done.stdout)
    overrides = words[words.index("verl.trainer.sft_trainer") + 1 :]
    with initialize_config_module(config_module="verl.trainer.config", version_base=None):
        config = compose(config_name="sft_trainer_engine", overrides=overrides)
    assert config.data.train_batch_size == 16 and config.data.max_length == 8192
    assert config.optim.weight_decay == 0.01 and config.trainer.total_epochs == 2
    assert Path(config.data.train_files[0]).is_file() and config.model.path == str(model)


def test_verl_takes_a_trl_without_value_heads_for_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from actfer_env.verl_plugin import beside_trl

    for name in ("trl", "trl.experimental.ppo"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())  # type: ignore[arg-type]
    assert not beside_trl._with_value_head(lambda: True)()
    monkeypatch.setitem(sys.modules, "trl", SimpleNamespace(AutoModelForCausalLMWithValueHead=1))  # type: ignore[arg-type]
    assert beside_trl._with_value_head(lambda: True)() and not beside_trl._with_value_head(lambda: False)()
