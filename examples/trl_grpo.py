"""UC-GRPO in TRL's GRPOTrainer: a Qwen3-VL on a GPU, or with --tiny a small one on two cores.

python examples/trl_grpo.py --data parquet/ --out run/ --lora --vllm     # rows of `actfer data verl`
python examples/trl_grpo.py --tiny --model teach/sft --out run/          # a model that examples/sft/teach_small.sh made
The same command goes on from the last checkpoint in --out, with the same EMA.
"""

import argparse
from pathlib import Path

import transformers
import trl

from actfer_env.agents.qwen.tiny import BRIEF_CHAT, TINY_QWEN, build
from actfer_env.agents.qwen.torchvision_guard import guard
from actfer_env.chat import ChatConfig
from actfer_env.data import load_dataset
from actfer_env.integrations.trl import UCGRPOReward, environments, forbidden_tokens, last_checkpoint, read_turns, rows

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", help="default: Qwen/Qwen3-VL-4B-Instruct, with --tiny one that knows nothing")
parser.add_argument("--data", help="folder of `actfer data verl`; drawn faces if left out")
parser.add_argument("--variant", default="full", help="a variant of UC-GRPO, or another paper's reward")
parser.add_argument("--out", type=Path, default=Path("actfer-trl"))
parser.add_argument("--steps", type=int, default=200)
parser.add_argument("--lora", action="store_true", help="train adapters; needs peft")
parser.add_argument("--vllm", action="store_true", help="sample with vLLM in the same process")
parser.add_argument("--openenv", metavar="URL", help="episodes are played by a server of `actfer openenv`")
parser.add_argument("--tiny", action="store_true", help="small sizes and brief conversations, on the CPU")
options = parser.parse_args()

guard()  # before anything of transformers and TRL is loaded, which happens by name
tiny, peft_config, group = options.tiny, None, 4 if options.tiny else 8
chat = BRIEF_CHAT if tiny else ChatConfig()
if options.model is None:
    options.model = build(options.out / "tiny", TINY_QWEN) if tiny else "Qwen/Qwen3-VL-4B-Instruct"
processor = read_turns(transformers.AutoProcessor.from_pretrained(options.model, padding_side="left"), chat)
model_class = transformers.AutoModelForImageTextToText
model = model_class.from_pretrained(options.model, dtype="float32" if tiny else "bfloat16")
if options.lora:
    from peft import LoraConfig

    peft_config = LoraConfig(r=64, lora_alpha=128, target_modules="all-linear", exclude_modules=".*visual.*")
never = forbidden_tokens(processor)
sampling = {"logit_bias": dict.fromkeys(never, -100.0)} if options.vllm else {"suppress_tokens": never}
args = trl.GRPOConfig(
    str(options.out), max_steps=options.steps, save_steps=1 if tiny else 25, logging_steps=1, report_to="none",
    num_generations=group, per_device_train_batch_size=group, gradient_accumulation_steps=1 if tiny else 4,
    learning_rate=1e-4 if tiny else 1e-6, beta=0.0 if tiny else 0.1, bf16=not tiny, use_cpu=tiny,
    max_completion_length=512 if tiny else 4096, max_tool_calling_iterations=6, gradient_checkpointing=not tiny,
    use_vllm=options.vllm, vllm_mode="colocate", scale_rewards="none", generation_kwargs=sampling,
)  # fmt: skip
reward = UCGRPOReward(options.variant, returns="advantage", out=options.out / "rollouts")
data = rows(options.data or load_dataset("synthetic", split="train", n=8 if tiny else 2000), chat)
trainer = trl.GRPOTrainer(
    model, reward_funcs=reward, args=args, train_dataset=data, processing_class=processor, peft_config=peft_config,
    environment_factory=environments(chat, options.openenv), callbacks=[reward.callback()],
)  # fmt: skip
trainer.train(resume_from_checkpoint=last_checkpoint(options.out))
