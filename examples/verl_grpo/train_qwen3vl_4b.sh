#!/usr/bin/env bash
# UC-GRPO for Qwen3-VL-4B on four GPUs. NOT RUN YET: written from the paper's numbers and from the settings that
# train_cpu_smoke.sh exercises; expect to adjust memory settings.
#   MODEL=path DATA=folder OUT=folder examples/verl_grpo/train_qwen3vl_4b.sh [HYDRA OVERRIDES]
#   VARIANT=no_ema ...          an ablation
#   ROLLOUT=sglang ...          instead of vllm
# From the paper (ActFER 4.1): Qwen3-VL-4B, 4 GPUs of 80 GB, 32 prompts a step, prompt 8192 and response 4096 tokens,
# KL 0.1, entropy 0.01, one epoch, advantages divided by the group's std. Chosen here, the paper's values being lost:
# learning rate 1e-6, 8 rollouts a prompt, 6 turns (agent_loop.yaml).
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
: "${MODEL:?set MODEL to a Qwen3-VL checkpoint after SFT}" "${DATA:?set DATA to a folder with train/ and val/}" "${OUT:?}"
export VERL_USE_EXTERNAL_MODULES=actfer_env.verl_plugin.register

files() { printf '[%s]' "$(find "$DATA/$1" -name '*.parquet' | sort | paste -sd,)"; }

exec python -m verl.trainer.main_ppo \
  algorithm.adv_estimator=grpo algorithm.norm_adv_by_std_in_grpo=True algorithm.use_kl_in_reward=False \
  trainer.v1.trainer_mode=ucgrpo_sync +ucgrpo.variant="${VARIANT:-full}" \
  data.train_files="$(files train)" data.val_files="$(files val)" data.train_batch_size=32 \
  data.max_prompt_length=8192 data.max_response_length=4096 data.image_patch_size=16 data.return_raw_chat=True \
  data.filter_overlong_prompts=False \
  actor_rollout_ref.model.path="$MODEL" actor_rollout_ref.model.enable_gradient_checkpointing=True \
  actor_rollout_ref.actor.strategy=fsdp2 actor_rollout_ref.actor.optim.lr=1e-6 \
  actor_rollout_ref.actor.ppo_mini_batch_size=32 actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=1 \
  actor_rollout_ref.actor.use_kl_loss=True actor_rollout_ref.actor.kl_loss_coef=0.1 \
  actor_rollout_ref.actor.entropy_coeff=0.01 \
  actor_rollout_ref.rollout.name="${ROLLOUT:-vllm}" actor_rollout_ref.rollout.n=8 \
  actor_rollout_ref.rollout.tensor_model_parallel_size=1 \
  actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=1 actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=1 \
  actor_rollout_ref.rollout.agent.agent_loop_config_path="$here/agent_loop.yaml" \
  actor_rollout_ref.rollout.agent.default_agent_loop=actfer_agent \
  reward.custom_reward_function.path=pkg://actfer_env.verl_plugin.scoring \
  trainer.n_gpus_per_node="${GPUS:-4}" trainer.nnodes="${NODES:-1}" trainer.total_epochs=1 trainer.save_freq=20 \
  trainer.test_freq=20 trainer.resume_mode=auto trainer.default_local_dir="$OUT" "$@"
