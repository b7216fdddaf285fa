#!/usr/bin/env bash
# Real GRPO steps of verl with a tiny Qwen3-VL that was taught the format, without a GPU:
#   two steps; a resume and a third; the checkpoint of step 2 resumed by path, with sessions that follow a script and
#   whose numbers are worked out by hand (injected.py); an audit of all that was stored (audit.py).
#   examples/verl_grpo/train_cpu_smoke.sh [WORK_FOLDER [HYDRA OVERRIDES]]     needs requirements-cpu.txt installed
# It proves wiring, masks, both reward passes, the checkpointed EMA and the resume. It does not prove learning, vLLM
# or several GPUs.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
work="$(mkdir -p "${1:-verl-smoke}" && cd "${1:-verl-smoke}" && pwd)"
shift || true
rm -rf "$work/data" "$work/ckpt" "$work/injected" "$work"/metrics-*.jsonl "$work/model" "$work/model-blank"

unset CUDA_VISIBLE_DEVICES   # unset, not empty
export VERL_PLATFORM=cpu VERL_ENGINE_DEVICE=cuda VERL_USE_EXTERNAL_MODULES=actfer_env.verl_plugin.register
export RAY_worker_niceness=0 RAY_prestart_worker_first_driver=0 HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false RAY_USAGE_STATS_ENABLED=0
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"   # Ray's workers find injected_loop.py

python "$here/teach_format.py" "$work/model" --faces 16
actfer data verl synthetic --split train -n 15 --out "$work/data/train"
actfer data verl synthetic --split val -n 2 --out "$work/data/val"
python "$here/injected.py" data "$work/data/injected"

train() {  # NAME STEPS LOOP OVERRIDES
  printf '== %s\n' "$1"
  (cd "$work" && VERL_FILE_LOGGER_PATH="$work/metrics-$1.jsonl" python -m actfer_env.verl_plugin.train \
    algorithm.adv_estimator=grpo trainer.v1.trainer_mode=ucgrpo_sync +ucgrpo.variant=full +ucgrpo.record_tokens=True \
    data.train_files="$work/data/train/part-00000.parquet" data.val_files="$work/data/val/part-00000.parquet" \
    data.train_batch_size=5 data.shuffle=False data.dataloader_num_workers=0 data.image_patch_size=16 \
    data.return_raw_chat=True \
    data.max_prompt_length=512 data.max_response_length=512 data.filter_overlong_prompts=False \
    actor_rollout_ref.model.path="$work/model" actor_rollout_ref.model.use_remove_padding=False \
    actor_rollout_ref.model.enable_gradient_checkpointing=False \
    +actor_rollout_ref.model.override_config.attn_implementation=sdpa \
    actor_rollout_ref.actor.strategy=fsdp2 actor_rollout_ref.actor.ppo_mini_batch_size=5 \
    actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=10 actor_rollout_ref.actor.use_dynamic_bsz=False \
    actor_rollout_ref.actor.use_torch_compile=False actor_rollout_ref.actor.fsdp_config.use_torch_compile=False \
    "+actor_rollout_ref.actor.fsdp_config.mixed_precision={param_dtype:fp32,reduce_dtype:fp32,buffer_dtype:fp32}" \
    actor_rollout_ref.actor.optim.lr=1e-4 \
    actor_rollout_ref.rollout.name=hf actor_rollout_ref.rollout.n=4 \
    actor_rollout_ref.rollout.tensor_model_parallel_size=1 \
    actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=10 actor_rollout_ref.rollout.agent.num_workers=1 \
    actor_rollout_ref.rollout.agent.agent_loop_config_path="$here/$3" \
    actor_rollout_ref.rollout.agent.default_agent_loop=actfer_agent \
    reward.num_workers=1 reward.custom_reward_function.path=pkg://actfer_env.verl_plugin.scoring \
    trainer.n_gpus_per_node=1 trainer.nnodes=1 trainer.device=cpu "trainer.logger=[console,file]" \
    trainer.val_before_train=False trainer.total_epochs=1 trainer.save_freq=1 trainer.test_freq=-1 \
    trainer.resume_mode=auto trainer.default_local_dir="$work/ckpt" trainer.total_training_steps="$2" \
    transfer_queue.backend.SimpleStorage.num_data_storage_units=1 \
    ray_kwargs.ray_init.num_cpus=8 +ray_kwargs.ray_init.num_gpus=1 \
    +ray_kwargs.ray_init.include_dashboard=False "${@:4}")
}

train first 2 agent_loop_cpu.yaml "$@"
# Beside each other: both begin from step 2, and mostly wait for their processes to start.
train resumed 3 agent_loop_cpu.yaml "$@" > "$work/resumed.log" 2>&1 &
resumed=$!
five="$work/data/injected/part-00000.parquet"
train injected 3 agent_loop_injected.yaml data.train_files="[$five,$five,$five]" \
  trainer.resume_mode=resume_path trainer.resume_from_path="$work/ckpt/global_step_2" \
  trainer.default_local_dir="$work/injected" "$@"
wait "$resumed" || { tail -n 60 "$work/resumed.log"; exit 1; }

python "$here/audit.py" "$work/ckpt" --steps 3 --group-size 4 --model "$work/model" \
  --metrics "$work/metrics-first.jsonl" "$work/metrics-resumed.jsonl"
python "$here/injected.py" check "$work/injected" --step 3 --before "$work/ckpt/global_step_2/ucgrpo_state.json"
python "$here/costs.py" "$work"/metrics-first.jsonl "$work"/metrics-resumed.jsonl
