"""Supervised fine-tuning of a Qwen3-VL on curated trajectories, by TRL's SFTTrainer.

    python examples/sft/train_sft.py --config examples/sft/qwen3vl_4b.yaml --model MODEL --data ROWS --output_dir OUT
    accelerate launch --config_file examples/sft/fsdp.yaml examples/sft/train_sft.py ...        # several GPUs

ROWS is a folder of parquet files with `messages` and `images`, as `actfer data sft --to trl` writes them. OUT becomes a
Hugging Face folder, which `actfer eval --model OUT` and `SFT=OUT` of ../verl_grpo/train_qwen3vl_4b.sh take as it is.
A second start with the same OUT goes on from its last checkpoint. Every option of TRL's SFTConfig can be given, in the
file or behind it. Needs `pip install -e ".[trl]"`.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actfer_env.errors import ActFERError
from actfer_env.packages import needs

PROJECTOR = (".visual.merger.", ".visual.deepstack_merger_list.")
"""Parts of the vision tower that lead into the language model."""
PROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json",
              "chat_template.jinja", "chat_template.json")  # fmt: skip
"""Files of a model that training does not change."""


@dataclass
class TurnsArguments:
    """What to teach, and what of it learns."""

    model: str = field(metadata={"help": "folder or hub name of a Qwen3-VL"})
    data: str = field(metadata={"help": "folder of parquet files with messages and images, or one such file"})
    trained: str = field(
        default="language",
        metadata={
            "help": "language: the language model and the projector; linear: of the language model its linear layers "
            "alone; all: the vision encoder, too",
            "choices": ["language", "linear", "all"],
        },
    )
    projector_lr: float | None = field(
        default=None, metadata={"help": "learning rate of the projector; learning_rate if left out"}
    )
    attention: str | None = field(default=None, metadata={"help": "sdpa, eager or flash_attention_2"})


def main() -> None:
    """Teach a model, and write it as a folder of its own."""
    from actfer_env.agents.qwen.torchvision_guard import guard

    guard()
    with needs("trl"):
        import torch
        from datasets import load_dataset
        from trl import SFTConfig, SFTTrainer, TrlParser

    from actfer_env.agents.qwen.agent import load
    from actfer_env.agents.qwen.conversation import TokenCodec
    from actfer_env.agents.qwen.fast_vision import use_fast_vision
    from actfer_env.agents.qwen.supervised import TurnsCollator

    class ProjectorTrainer(SFTTrainer):
        """TRL's trainer, with a learning rate of its own for the projector."""

        def create_optimizer(self, model: Any = None) -> Any:
            optimizer = super().create_optimizer(*([] if model is None else [model]))
            if options.projector_lr is not None:
                named = (model or self.model).named_parameters()
                projector = {id(weight) for name, weight in named if _in_projector(name)}
                for group in list(optimizer.param_groups):
                    own = [weight for weight in group["params"] if id(weight) in projector]
                    group["params"] = [weight for weight in group["params"] if id(weight) not in projector]
                    if own:
                        optimizer.add_param_group({**group, "params": own, "lr": options.projector_lr})
            return optimizer

    options, training = TrlParser((TurnsArguments, SFTConfig)).parse_args_and_config()
    training.remove_unused_columns = False  # the collator reads the tools, too
    # Weights are held in float32, and bf16 is the precision of the sums: steps of 1e-5 vanish in bfloat16 weights.
    model, tokenizer, image_processor = load(options.model, "float32")
    if options.attention:
        model.set_attn_implementation(options.attention)
    use_fast_vision()
    if training.use_cpu:
        torch.set_float32_matmul_precision("medium")  # CPUs that can multiply in pieces of bfloat16
    learning = freeze(model, options.trained)

    data = Path(options.data)
    files = sorted(map(str, data.glob("*.parquet"))) if data.is_dir() else [str(data)]
    if not files:
        raise ActFERError(f"{data} holds no parquet files: write them with 'actfer data sft'")
    rows = load_dataset("parquet", data_files=files, split="train")
    collator = TurnsCollator(
        TokenCodec(tokenizer, image_processor, pictures_kept=0), training.max_length or sys.maxsize
    )
    trainer = ProjectorTrainer(
        model, training, data_collator=collator, train_dataset=rows,
        processing_class=processor(tokenizer, image_processor),
    )  # fmt: skip
    if trainer.is_world_process_zero():
        print(f"{len(rows)} rows; {learning / 1e6:.1f} of {model.num_parameters() / 1e6:.1f} million weights learn")
    begun = Path(training.output_dir).glob("checkpoint-*")
    trainer.train(resume_from_checkpoint=any(path.is_dir() for path in begun) or None)

    trainer.save_model()  # from every process: the shards of several come together
    if trainer.is_world_process_zero():
        save_rest(Path(options.model), Path(training.output_dir), tokenizer, image_processor)
        history = [entry for entry in trainer.state.log_history if "loss" in entry]
        record = {"rows": len(rows), "trained": options.trained, "learning": learning, "history": history}
        (Path(training.output_dir) / "sft.json").write_text(json.dumps(record) + "\n", encoding="utf-8")


def freeze(model: Any, trained: str) -> int:
    """Let the chosen weights learn and no others, and return how many they are.

    Args:
        model: A Qwen3-VL.
        trained: "language", "linear" or "all"; see `TurnsArguments`.
    """
    import torch

    linear = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Linear)}
    for name, weight in model.named_parameters():
        language = ".visual." not in name and (trained != "linear" or id(weight) in linear)
        weight.requires_grad_(trained == "all" or language or _in_projector(name))
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def _in_projector(name: str) -> bool:
    return any(part in f".{name}" for part in PROJECTOR)


def processor(tokenizer: Any, image_processor: Any) -> Any:
    """Return what TRL takes as a vision-language model's processor; the collator does the work."""
    from transformers import ProcessorMixin

    class Pair(ProcessorMixin):
        """A tokenizer and an image processor; transformers' own would need torchvision for videos."""

        def __init__(self) -> None:
            self.tokenizer, self.image_processor, self.chat_template = tokenizer, image_processor, None

        def save_pretrained(self, folder: Any, **_: Any) -> None:
            tokenizer.save_pretrained(folder)

    return Pair()


def save_rest(source: Path, out: Path, tokenizer: Any, image_processor: Any) -> None:
    """Write what stands beside the weights, as the model had it."""
    tokenizer.save_pretrained(out)
    if source.is_dir():
        for name in PROCESSORS:
            if (source / name).is_file():
                shutil.copyfile(source / name, out / name)
    else:
        image_processor.save_pretrained(out)


if __name__ == "__main__":
    try:
        main()
    except ActFERError as error:
        sys.exit(f"train_sft: {error}")
