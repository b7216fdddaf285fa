#!/usr/bin/env bash
# UC-GRPO for Qwen3-VL-4B on four GPUs of 80 GB, or on several such nodes. NOT RUN: written from the paper's numbers and
# from the settings that train_cpu_smoke.sh exercises. Memory and budgets: docs/verl.md. Needs requirements-gpu.txt.
#
#   SFT=/models/sft DATA=/data OUT=/runs/full examples/verl_grpo/train_qwen3vl_4b.sh [HYDRA OVERRIDES]
#
#   SFT       folder (Hugging Face format) of the checkpoint to start from: the fine-tuned model, as in the paper
#   DATA      folder with train/ and val/, both of `actfer data verl`
#   OUT       folder of checkpoints and rollouts; the same command goes on from the last checkpoint
#   VARIANT   full, no_ema, zoom_biased, au_grounded, emotion_only (the paper's ablation) or task_only
#   ENGINE    vllm or sglang
#   DETECTOR  a detector's spec, such as cached:/data/faces (of `actfer data precompute`); absolute paths
#   GPUS      GPUs of a node; 4
#   NNODES    nodes of the Ray cluster; 1. With more, start Ray first (docs/verl.md) and run this on the head alone
#   DRY_RUN=1 prints the command
#
# Source of every number. Paper: ActFER (arXiv 2604.08990), section 4.1. "Open" ones are not in the text at hand.
#   Qwen3-VL-4B, GPUS=4                       paper
#   train_batch_size 32 prompts               paper
#   max_prompt_length 8192, response 4096     paper
#   kl_loss_coef 0.1, entropy_coeff 0.01      paper; where the KL goes (loss, not reward) is chosen here
#   norm_adv_by_std_in_grpo True              paper: advantages are divided by the group's std
#   total_epochs 1                            paper; 6.8K prompts are 212 steps
#   AdamW                                     paper; weight_decay 0.01 is named for SFT, and is verl's default here
#   rollout.n 8, lr 1e-6, 6 turns             open, chosen here
#   ppo_mini_batch_size 32                    chosen here: one update a step, so that the EMA moves once an update
#   temperature 1.0, gpu_memory_utilization 0.5, save_freq 20    verl's defaults, and chosen here
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
: "${SFT:?set SFT to the folder of a Qwen3-VL checkpoint}" "${DATA:?set DATA to a folder with train/ and val/}"
: "${OUT:?set OUT to a folder for checkpoints}"
engine="${ENGINE:-vllm}" detector="${DETECTOR:-auto}"
case "$engine" in
  vllm)   # pictures of a conversation: the raw one, the face and four crops
    options=(+actor_rollout_ref.rollout.limit_images=6 actor_rollout_ref.rollout.enable_chunked_prefill=True) ;;
  sglang) # wakes up in two stages, so that weights and cache are not both there while weights arrive
    options=(actor_rollout_ref.rollout.multi_stage_wake_up=True) ;;
  *) echo "error: ENGINE=$engine is unknown: use vllm or sglang" >&2; exit 2 ;;
esac
[ -f "$SFT/config.json" ] || { echo "error: $SFT holds no config.json: merge the checkpoint first (docs/verl.md)" >&2; exit 2; }

files() {
  local found; found="$(find "$DATA/$1" -name '*.parquet' 2>/dev/null | sort | paste -sd,)"
  [ -n "$found" ] || { echo "error: no parquet in $DATA/$1: write it with 'actfer data verl'" >&2; return 2; }
  printf '[%s]' "$found"
}
train="$(files train)" val="$(files val)"
mkdir -p "$OUT"
sed "s|^  detector: .*|  detector: \"$detector\"|" "$here/agent_loop.yaml" > "$OUT/agent_loop.yaml"

export VERL_USE_EXTERNAL_MODULES=actfer_env.verl_plugin.register
command=(python -m actfer_env.verl_plugin.train
  algorithm.adv_estimator=grpo algorithm.norm_adv_by_std_in_grpo=True algorithm.use_kl_in_reward=False
  trainer.v1.trainer_mode=ucgrpo_sync +ucgrpo.variant="${VARIANT:-full}"
  data.train_files="$train" data.val_files="$val" data.train_batch_size=32
  data.max_prompt_length=8192 data.max_response_length=4096 data.image_patch_size=16 data.return_raw_chat=True
  data.filter_overlong_prompts=False
  actor_rollout_ref.model.path="$SFT" actor_rollout_ref.model.enable_gradient_checkpointing=True
  actor_rollout_ref.actor.strategy=fsdp2 actor_rollout_ref.actor.optim.lr=1e-6
  actor_rollout_ref.actor.ppo_mini_batch_size=32 actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=1
  actor_rollout_ref.actor.use_kl_loss=True actor_rollout_ref.actor.kl_loss_coef=0.1
  actor_rollout_ref.actor.entropy_coeff=0.01
  actor_rollout_ref.ref.fsdp_config.param_offload=True
  actor_rollout_ref.rollout.name="$engine" actor_rollout_ref.rollout.n=8 actor_rollout_ref.rollout.temperature=1.0
  actor_rollout_ref.rollout.tensor_model_parallel_size=1 actor_rollout_ref.rollout.gpu_memory_utilization=0.5
  actor_rollout_ref.rollout.max_model_len=12288
  actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=1
  actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=1
  actor_rollout_ref.rollout.agent.agent_loop_config_path="$OUT/agent_loop.yaml"
  actor_rollout_ref.rollout.agent.default_agent_loop=actfer_agent
  "${options[@]}"
  reward.custom_reward_function.path=pkg://actfer_env.verl_plugin.scoring
  trainer.n_gpus_per_node="${GPUS:-4}" trainer.nnodes="${NNODES:-1}" trainer.total_epochs=1 trainer.save_freq=20
  trainer.test_freq=20 trainer.resume_mode=auto trainer.default_local_dir="$OUT" "$@")
if [ -n "${DRY_RUN:-}" ]; then printf '%q ' "${command[@]}"; echo; exit; fi
exec "${command[@]}"
