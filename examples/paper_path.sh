#!/usr/bin/env bash
# The paper's path at toy size, as one command, on a machine without GPU: curate -> SFT -> UC-GRPO on vLLM -> table.
#   examples/paper_path.sh OUT            for two cores;   FAST=1: the form for CI, a smaller model that learns the
#                                         format alone; its UC-GRPO is verl_grpo/train_cpu_smoke.sh, with all its checks
#   ENGINE=vllm  hf where vLLM is not installed (the default then);   STEPS=20 of UC-GRPO;   SEED=0;   THREADS=2
#   examples/paper_path.sh OUT +ucgrpo.contrast_members=legal   what follows OUT goes to verl's configuration
#   FACES, VISION_STEPS, EPOCHS, FORCED: see sft/teach_small.sh;   TEST=400 held-out faces for the greedy rows of the table
# Needs pip install -e ".[vlm,data,trl]" and, for UC-GRPO, verl_grpo/requirements-cpu.txt (-vllm-cpu.txt). Without verl
# this stage is left out, and said so.
# 1. sft/teach_small.sh: drawn faces are curated by the template writer into disjoint SFT and RL sets; the vision tower of a
#    small Qwen3-VL learns Action Units; TRL fine-tunes the whole model on the SFT set.
# 2. The model before and after SFT on held-out faces of other people, also with exchanged pictures (chance is 1 in 8).
# 3. verl_grpo/train_qwen3vl_4b.sh, the GPU script itself, trains OUT/sft on the RL set with strict format; merged, judged.
# 4. The gate report of the last model (OUT/gate/gate.html): each face with zooms forbidden, forced and free; GATE=200 faces.
# 5. OUT/table.md. What it must show is checked at the end; the script fails where it does not.
# What is finished is kept: a second start goes on where the first one stopped.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)" parts="$(cd "$(dirname "$0")/.." && pwd)/benchmarks/verl"
[ -d "$parts" ] || { echo "error: no folder $parts: run this script in a checkout of the package" >&2; exit 2; }
out="$(mkdir -p "${1:?give a folder for the results}" && cd "$1" && pwd)"
has() { python -c "import importlib.util as u, sys; sys.exit(u.find_spec('$1') is None)"; }
has trl || { echo "error: TRL is not installed: pip install -e '.[vlm,data,trl]'" >&2; exit 2; }
if has vllm; then engine="${ENGINE:-vllm}"; else engine="${ENGINE:-hf}"; fi
threads="${THREADS:-2}" steps="${STEPS:-20}" test="${TEST:-400}" gate="${GATE:-200}" group=4 prompts=8
last="$out/sft"
export FACES="${FACES:-5000}" RL="${RL:-400}" VISION_STEPS="${VISION_STEPS:-600}" THREADS="$threads" SEED="${SEED:-0}"
export FORCED="${FORCED:-0.3}"   # without it the gate report's passes "never" and "always" ask what was never taught
epochs="${EPOCHS:-3}" want_format=0.95 want_accuracy=0.5
if [ -n "${FAST:-}" ]; then
  export SIZE="${SIZE:-tiny}" REGIONS=1   # learns the format, and not to read: that needs the minutes of the whole form
  FACES=300 RL=32 VISION_STEPS=30 FORCED=0 epochs="${EPOCHS:-18}" test="${TEST:-32}" gate="${GATE:-4}" want_format=0.9 want_accuracy=0
fi
asked="SEED=$SEED FORMAT=${FORMAT:-strict} FAST=${FAST:-} ${*:2}"
if [ -f "$out/settings" ] && [ "$(cat "$out/settings")" != "$asked" ]; then
  echo "error: $out was begun with $(cat "$out/settings"), not $asked: take another folder" >&2; exit 2
fi
printf '%s\n' "$asked" > "$out/settings"
unset PYTHONDONTWRITEBYTECODE   # many processes start, and each would compile what it imports anew

"$here/sft/teach_small.sh" "$out" --num_train_epochs "$epochs"

judge() {   # NAME MODEL MODE [NUMBER]   held-out faces
  [ -f "$out/eval/$1/figures.json" ] || HF_HUB_OFFLINE=1 python "$parts/learn_eval.py" "$2" "$out/eval/$1" --mode "$3" \
    --number "${4:-$test}" --threads "$threads" --seed "$SEED"
}
judge before "$out/eyes" greedy 16   # few: an untaught model ends no turn
judge sft "$out/sft" greedy
judge sft-sampled "$out/sft" sampled "$((test / 2))"   # half as many: sampled turns are longer
judge sft-exchanged "$out/sft" exchanged "$((test / 2))"

if has verl && [ -n "${FAST:-}" ]; then
  [ -f "$out/smoke/audited" ] || TAUGHT="$out/sft" ROWS="$out/curated/rl.jsonl" ENGINE="$engine" \
    "$here/verl_grpo/train_cpu_smoke.sh" "$out/smoke" "${@:2}"
  ln -sfn smoke/merged "$out/ucgrpo"
elif has verl; then
  unset CUDA_VISIBLE_DEVICES    # unset, not empty
  export VERL_PLATFORM=cpu VERL_ENGINE_DEVICE=cuda HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
  export RAY_worker_niceness=0 RAY_prestart_worker_first_driver=0 RAY_USAGE_STATS_ENABLED=0
  export VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind VLLM_LOGGING_LEVEL=WARNING
  export PYTHONPATH="$here/verl_grpo/vllm_cpu${PYTHONPATH:+:$PYTHONPATH}"   # aids of vLLM's build for CPUs
  [ -d "$out/data/train" ] || actfer data verl curated --root "$out/curated/rl.jsonl" --images none --out "$out/data/train"
  [ -d "$out/data/val" ] || actfer data verl synthetic --split val -n 8 --data-preset easy --images none --out "$out/data/val"
  fp32="{param_dtype:fp32,reduce_dtype:fp32,buffer_dtype:fp32}"
  [ -d "$out/rl/global_step_$steps" ] || (cd "$out" && OMP_NUM_THREADS=1 \
    SFT="$out/sft" DATA="$out/data" OUT="$out/rl" MAX_ZOOMS=2 GPUS=1 LOOP="$here/verl_grpo/agent_loop_cpu.yaml" \
    VERL_FILE_LOGGER_PATH="$out/metrics.jsonl" "$here/verl_grpo/train_qwen3vl_4b.sh" \
    trainer.device=cpu trainer.save_freq="$steps" trainer.test_freq=-1 trainer.val_before_train=False \
    trainer.total_training_steps="$steps" data.train_batch_size="$prompts" data.dataloader_num_workers=0 \
    data.max_prompt_length=256 data.max_response_length=768 actor_rollout_ref.rollout.max_model_len=1024 \
    +actor_rollout_ref.model.override_config.attn_implementation=sdpa actor_rollout_ref.model.use_remove_padding=False \
    actor_rollout_ref.model.enable_gradient_checkpointing=False \
    actor_rollout_ref.actor.freeze_vision_tower=True actor_rollout_ref.actor.ppo_mini_batch_size="$prompts" \
    actor_rollout_ref.actor.ppo_max_token_len_per_gpu=4096 \
    actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu=4096 \
    actor_rollout_ref.ref.log_prob_max_token_len_per_gpu=4096 \
    actor_rollout_ref.actor.use_torch_compile=False actor_rollout_ref.actor.fsdp_config.use_torch_compile=False \
    actor_rollout_ref.ref.fsdp_config.use_torch_compile=False actor_rollout_ref.ref.fsdp_config.model_dtype=fp32 \
    "+actor_rollout_ref.actor.fsdp_config.mixed_precision=$fp32" "+actor_rollout_ref.ref.fsdp_config.mixed_precision=$fp32" \
    actor_rollout_ref.actor.optim.lr=1e-4 data.seed="$SEED" \
    actor_rollout_ref.rollout.name="$engine" actor_rollout_ref.rollout.n="$group" actor_rollout_ref.rollout.dtype=float32 \
    +actor_rollout_ref.rollout.enable_sleep_mode=False actor_rollout_ref.rollout.free_cache_engine=False \
    actor_rollout_ref.rollout.enforce_eager=True actor_rollout_ref.rollout.max_num_seqs=32 \
    actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=64 \
    actor_rollout_ref.rollout.agent.num_workers=1 reward.num_workers=1 \
    transfer_queue.backend.SimpleStorage.num_data_storage_units=1 \
    ray_kwargs.ray_init.num_cpus=8 +ray_kwargs.ray_init.num_gpus=1 +ray_kwargs.ray_init.include_dashboard=False "${@:2}")
  [ -d "$out/ucgrpo" ] || python -m verl.model_merger merge --backend fsdp \
    --local_dir "$out/rl/global_step_$steps/actor" --target_dir "$out/ucgrpo"
else
  echo "left out: UC-GRPO, since verl is not installed (verl_grpo/requirements-cpu.txt)"
fi
if [ -d "$out/ucgrpo" ]; then
  last="$out/ucgrpo"
  judge ucgrpo "$last" greedy
  judge ucgrpo-sampled "$last" sampled "$((test / 2))"
fi
[ -f "$out/gate/gate.json" ] || HF_HUB_OFFLINE=1 OMP_NUM_THREADS="$threads" actfer eval synthetic --split test --data-preset easy \
  -n "$gate" --model "$last" --chat brief=true --chat image_side=64 --chat face_side=64 --chat crop_side=64 --parsing strict \
  --max-new-tokens 128 --batch 64 --device cpu --dtype float32 --seed "$SEED" --gate --out "$out/gate"
python "$here/sft/paper_table.py" "$out" --format "$want_format" --accuracy "$want_accuracy"
echo "paper path: $SECONDS s"
