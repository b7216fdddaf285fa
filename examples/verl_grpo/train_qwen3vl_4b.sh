#!/usr/bin/env bash
# UC-GRPO for Qwen3-VL-4B on four GPUs of 80 GB, or on several such nodes. NOT RUN: written from the paper's numbers and
# from the settings that train_cpu_smoke.sh exercises. Memory and budgets: docs/verl.md. Needs requirements-gpu.txt.
#
#   SFT=/models/sft DATA=/data OUT=/runs/full examples/verl_grpo/train_qwen3vl_4b.sh [HYDRA OVERRIDES]
#
#   SFT       folder (Hugging Face format) of the checkpoint to start from: the fine-tuned model, as in the paper
#   DATA      folder with train/ and val/, both of `actfer data verl`
#   OUT       folder of checkpoints and rollouts; the same command goes on from the last checkpoint. 53 GB a checkpoint,
#             two are kept, and one is written beside them
#   VARIANT   full, no_ema, zoom_biased, au_grounded, emotion_only (the paper's ablation) or task_only; facial_r1 and tag
#             are the rewards of two other papers, which ask in their own way (PRESET follows)
#   FORMAT    strict: each turn needs a thought, and its form must be as documented; lenient: repairs are free, and an
#             absent thought costs nothing
#   ATTN      sdpa where flash-attn is not installed (verl's extras do not bring it); flash_attention_2
#   LOGGER    verl's loggers; [console,file]. wandb needs its package and WANDB_API_KEY
#   MAX_ZOOMS crops of an episode; 4. The engine is told to take as many pictures as such a conversation has
#   DETECTOR  a detector's spec, such as cached:/data/faces (of `actfer data precompute`); absolute paths
#   LOOP      the agent loop's file; agent_loop.yaml
#   GPUS      GPUs of a node; 4
#   NNODES    nodes of the Ray cluster; 1. With more, start Ray first (docs/verl.md) and run this on the head alone;
#             SFT, DATA and OUT then lie on a file system that all nodes share
#   DRY_RUN=1 prints the command
#
# Before Ray starts, the settings and the machine are checked; everything that would stop the run later is said at once.
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
#   use_dynamic_bsz, 16,384 tokens a pass     chosen here: a pass for each rollout would be 64 small ones
#   val_batch_size 256                        chosen here: else all validation pictures are in flight at once
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
needed=(verl)
[ -z "${DRY_RUN:-}" ] || needed=()
python "$here/_installed.py" ${needed[@]+"${needed[@]}"}
: "${SFT:?set SFT to the folder of a Qwen3-VL checkpoint}" "${DATA:?set DATA to a folder with train/ and val/}"
: "${OUT:?set OUT to a folder for checkpoints}"
detector="${DETECTOR:-auto}" zooms="${MAX_ZOOMS:-4}" format="${FORMAT:-strict}" variant="${VARIANT:-full}"
case "$variant" in facial_r1 | tag) preset="${PRESET:-$variant}" ;; *) preset="${PRESET:-}" ;; esac
options=()
if [ "${ATTN:-}" = sdpa ]; then
  options+=(+actor_rollout_ref.model.override_config.attn_implementation=sdpa actor_rollout_ref.model.use_fused_kernels=True)
fi
SFT="$(realpath -m "$SFT")" DATA="$(realpath -m "$DATA")" OUT="$(realpath -m "$OUT")"
[ -f "$SFT/config.json" ] || { echo "error: $SFT holds no config.json: merge the checkpoint first (docs/verl.md)" >&2; exit 2; }

files() {
  local found; found="$(find "$DATA/$1" -name '*.parquet' 2>/dev/null | sort | paste -sd,)"
  [ -n "$found" ] || { echo "error: no parquet in $DATA/$1: write it with 'actfer data verl'" >&2; return 2; }
  printf '[%s]' "$found"
}
train="$(files train)" val="$(files val)"
mkdir -p "$OUT"
sed -e "s|^  detector: .*|  detector: \"$detector\"|" -e "s|max_turns: 6|max_turns: 6, max_zooms: $zooms|" \
  "${LOOP:-$here/agent_loop.yaml}" > "$OUT/agent_loop.yaml"
chat() { # FIELD VALUE: sets a field of the chat, unless LOOP sets it itself
  grep -q "^  chat: .*\b$1:" "$OUT/agent_loop.yaml" || sed -i -e "s|^  chat: {|&$1: $2, |" "$OUT/agent_loop.yaml"
}
[ "$format" != strict ] || chat parsing strict
[ -z "$preset" ] || chat preset "$preset"

export VERL_USE_EXTERNAL_MODULES=actfer_env.verl_plugin.register
command=(python -m actfer_env.verl_plugin.train
  algorithm.adv_estimator=grpo algorithm.norm_adv_by_std_in_grpo=True algorithm.use_kl_in_reward=False
  trainer.v1.trainer_mode=ucgrpo_sync +ucgrpo.variant="$variant" +ucgrpo.format="$format"
  data.train_files="$train" data.val_files="$val" data.train_batch_size=32
  data.max_prompt_length=8192 data.max_response_length=4096 data.image_patch_size=16 data.return_raw_chat=True
  data.filter_overlong_prompts=False data.val_batch_size=256
  actor_rollout_ref.model.path="$SFT" actor_rollout_ref.model.enable_gradient_checkpointing=True
  actor_rollout_ref.actor.strategy=fsdp2 actor_rollout_ref.actor.optim.lr=1e-6
  actor_rollout_ref.actor.ppo_mini_batch_size=32 actor_rollout_ref.actor.use_dynamic_bsz=True
  actor_rollout_ref.actor.ppo_max_token_len_per_gpu=16384
  actor_rollout_ref.actor.use_kl_loss=True actor_rollout_ref.actor.kl_loss_coef=0.1
  actor_rollout_ref.actor.entropy_coeff=0.01
  actor_rollout_ref.ref.fsdp_config.param_offload=True
  actor_rollout_ref.rollout.name=vllm actor_rollout_ref.rollout.n=8 actor_rollout_ref.rollout.temperature=1.0
  actor_rollout_ref.rollout.tensor_model_parallel_size=1 actor_rollout_ref.rollout.gpu_memory_utilization=0.5
  actor_rollout_ref.rollout.max_model_len=12288 actor_rollout_ref.rollout.enable_chunked_prefill=True
  actor_rollout_ref.rollout.calculate_log_probs=True
  +actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt="{image: $((zooms + 2)), video: 0}"
  actor_rollout_ref.rollout.log_prob_use_dynamic_bsz=True actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu=16384
  actor_rollout_ref.ref.log_prob_use_dynamic_bsz=True actor_rollout_ref.ref.log_prob_max_token_len_per_gpu=16384
  actor_rollout_ref.rollout.agent.agent_loop_config_path="$OUT/agent_loop.yaml"
  actor_rollout_ref.rollout.agent.default_agent_loop=actfer_agent
  ${options[@]+"${options[@]}"}
  reward.custom_reward_function.path=pkg://actfer_env.verl_plugin.scoring
  trainer.n_gpus_per_node="${GPUS:-4}" trainer.nnodes="${NNODES:-1}" trainer.total_epochs=1 trainer.save_freq=20
  trainer.max_actor_ckpt_to_keep=2 trainer.logger="${LOGGER:-[console,file]}"
  trainer.project_name="${PROJECT:-actfer}" trainer.experiment_name="$(basename "$OUT")"
  trainer.test_freq=20 trainer.resume_mode=auto trainer.default_local_dir="$OUT" "$@")
if [ -n "${DRY_RUN:-}" ]; then printf '%q ' "${command[@]}"; echo; exit; fi
exec "${command[@]}"
