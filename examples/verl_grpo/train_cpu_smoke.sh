#!/usr/bin/env bash
# Real GRPO steps of verl with a tiny random Qwen3-VL, without a GPU: two steps, a resume and a third, then an audit.
#   examples/verl_grpo/train_cpu_smoke.sh [WORK_FOLDER [HYDRA OVERRIDES]]     needs requirements-cpu.txt installed
# It proves wiring, masks, both reward passes, the checkpointed EMA and the resume. It does not prove learning, vLLM,
# SGLang or several GPUs.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
work="$(mkdir -p "${1:-verl-smoke}" && cd "${1:-verl-smoke}" && pwd)"
shift || true
rm -rf "$work/data" "$work/ckpt"

unset CUDA_VISIBLE_DEVICES   # unset, not empty
export VERL_PLATFORM=cpu VERL_ENGINE_DEVICE=cuda VERL_USE_EXTERNAL_MODULES=actfer_env.verl_plugin.register
export RAY_worker_niceness=0 HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false RAY_USAGE_STATS_ENABLED=0 HYDRA_FULL_ERROR=1

actfer data verl synthetic --split train -n 8 --out "$work/data/train"
actfer data verl synthetic --split val -n 2 --out "$work/data/val"
python -c "import sys; from actfer_env.verl_plugin.cpu import define_torchvision_operators as mend; mend()
from actfer_env.agents.tiny_qwen import build; build(sys.argv[1])" "$work/model"

train() {
  (cd "$work" && python -m verl.trainer.main_ppo \
    algorithm.adv_estimator=grpo trainer.v1.trainer_mode=ucgrpo_sync +ucgrpo.variant=full \
    data.train_files="$work/data/train/part-00000.parquet" data.val_files="$work/data/val/part-00000.parquet" \
    data.train_batch_size=2 data.dataloader_num_workers=0 data.image_patch_size=16 data.return_raw_chat=True \
    data.max_prompt_length=6144 data.max_response_length=1024 data.filter_overlong_prompts=False \
    actor_rollout_ref.model.path="$work/model" actor_rollout_ref.model.use_remove_padding=False \
    actor_rollout_ref.model.enable_gradient_checkpointing=False \
    +actor_rollout_ref.model.override_config.attn_implementation=sdpa \
    actor_rollout_ref.actor.strategy=fsdp2 actor_rollout_ref.actor.ppo_mini_batch_size=2 \
    actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=2 actor_rollout_ref.actor.use_dynamic_bsz=False \
    actor_rollout_ref.actor.use_torch_compile=False actor_rollout_ref.actor.fsdp_config.use_torch_compile=False \
    actor_rollout_ref.actor.fsdp_config.dtype=float32 actor_rollout_ref.actor.optim.lr=1e-3 \
    actor_rollout_ref.actor.entropy_coeff=0.01 \
    actor_rollout_ref.rollout.name=hf actor_rollout_ref.rollout.n=4 \
    actor_rollout_ref.rollout.tensor_model_parallel_size=1 \
    actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=2 actor_rollout_ref.rollout.agent.num_workers=1 \
    actor_rollout_ref.rollout.agent.agent_loop_config_path="$here/agent_loop_cpu.yaml" \
    actor_rollout_ref.rollout.agent.default_agent_loop=actfer_agent \
    reward.num_workers=1 reward.custom_reward_function.path=pkg://actfer_env.verl_plugin.scoring \
    trainer.n_gpus_per_node=1 trainer.nnodes=1 trainer.device=cpu "trainer.logger=[console]" \
    trainer.val_before_train=False trainer.total_epochs=1 trainer.save_freq=1 trainer.test_freq=-1 \
    trainer.resume_mode=auto trainer.default_local_dir="$work/ckpt" trainer.total_training_steps="$1" \
    transfer_queue.backend.SimpleStorage.num_data_storage_units=1 \
    ray_kwargs.ray_init.num_cpus=8 +ray_kwargs.ray_init.num_gpus=1 \
    +ray_kwargs.ray_init.include_dashboard=False "${@:2}")
}

train 2 "$@"
train 3 "$@"
python "$here/audit.py" "$work/ckpt" --steps 3 --group-size 4
