#!/usr/bin/env bash
# Does it learn? From nothing to UC-GRPO and its two controls on a machine without GPU, as one command.
#   examples/verl_grpo/learn_on_cpu.sh [WORK_FOLDER]            needs requirements-cpu.txt, the extras [data,trl] and matplotlib
#   RUNS="full-0 random-0"  ...   only these runs: full, random or emotion, and a seed
#   PRESET=easy  of the faces that GRPO plays and that models are judged on; the teaching is always on "easy" ones
#   AT_ONCE=2  runs or evaluations beside each other, of one thread each;   THREADS=2  of the teaching
#   STEPS=48 PROMPTS=32 GROUP=8 RATE=1e-4 KL=0.1 FACES=2500  ...
#   SPLIT=val  of the faces that models are judged on, for choosing constants;   SETTINGS="a.b=1 c.d=2"  more of verl's
#   DEVICE=cuda SIZE=medium TEACH="--learning_rate 4e-4"  on a GPU, there with a larger model;   WORKERS=4  that play, in each run
# 1. A Qwen3-VL of 2.5 million parameters, taught from scratch by ../sft/teach_small.sh: vision warm-up, then SFT by TRL on
#    curated trajectories with thoughts.
# 2. For each run: GRPO in verl from there.   full: UC-GRPO;   random: random rewards;   emotion: plain GRPO whose only
#    reward is the emotion (the variant task_only without Action Units).
# 3. Every model over held-out faces, greedy and sampled, and the table and curves of learn_report.py. Its Python parts lie in benchmarks/verl.
# The vision tower is frozen, as in the paper's fine-tuning (4.1); the KL penalty is the paper's, too.
# An update sees each batch once, so the rollout's own log-probabilities are the old policy's (bypass_mode).
# Whatever is finished is kept: a second start goes on where the first one stopped.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)" parts="$(cd "$(dirname "$0")/../.." && pwd)/benchmarks/verl"
python "$here/_installed.py" verl
[ -d "$parts" ] || { echo "error: no folder $parts: run this script in a checkout of the package" >&2; exit 2; }
work="$(mkdir -p "${1:-verl-learn}" && cd "${1:-verl-learn}" && pwd)"
steps="${STEPS:-48}" prompts="${PROMPTS:-32}" group="${GROUP:-8}" rate="${RATE:-1e-4}" faces="${FACES:-2500}" preset="${PRESET:-easy}" split="${SPLIT:-test}"
runs="${RUNS:-full-0 random-0 emotion-0 full-1 random-1 emotion-1 full-2 random-2 emotion-2}"
threads="${THREADS:-2}" at_once="${AT_ONCE:-2}" workers="${WORKERS:-1}" device="${DEVICE:-cpu}" kl="${KL:-0.1}" micro=$((prompts * group / 8))   # verl wants a divisor of prompts times group

platform=(trainer.device="$device")
if [ "$device" = cpu ]; then
  unset CUDA_VISIBLE_DEVICES   # unset, not empty
  export VERL_PLATFORM=cpu VERL_ENGINE_DEVICE=cuda
  platform+=(+ray_kwargs.ray_init.num_gpus=1)
fi
export PYTHONPATH="$parts${PYTHONPATH:+:$PYTHONPATH}"
export VERL_USE_EXTERNAL_MODULES=actfer_env.verl_plugin.register,random_rewards
export RAY_worker_niceness=0 HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false RAY_USAGE_STATS_ENABLED=0 HYDRA_FULL_ERROR=1

start="$work/teach/sft" pictures="$work/pictures"
# shellcheck disable=SC2086  # several options in one word
[ -f "$start/sft.json" ] || FACES="${TAUGHT:-6000}" PRESET=easy THREADS="$threads" DEVICE="$device" \
  "$here/../sft/teach_small.sh" "$work/teach" ${TEACH:-}
[ -d "$work/data/train" ] || python "$parts/learn_data.py" "$work/data/train" --number $((steps * prompts)) \
  --preset "$preset" --pictures "$pictures" --detections "$work/detections" --workers "$threads"
sed "s|^  detector: .*|  detector: \"cached:$work/detections\"|" "$here/agent_loop_learn.yaml" > "$work/agent_loop.yaml"
[ -d "$work/data/val" ] || python "$parts/learn_data.py" "$work/data/val" --first 0 --number 8 \
  --preset "$preset" --pictures "$pictures"

fp32="mixed_precision={param_dtype:fp32,reduce_dtype:fp32,buffer_dtype:fp32}" penalty=()
if [ "$kl" != 0 ]; then   # to the start, which is then played once more over each batch
  penalty=(actor_rollout_ref.actor.use_kl_loss=True actor_rollout_ref.actor.kl_loss_coef="$kl"
    actor_rollout_ref.actor.kl_loss_type=low_var_kl actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu="$micro"
    actor_rollout_ref.ref.fsdp_config.model_dtype=fp32 "+actor_rollout_ref.ref.fsdp_config.$fp32"
    actor_rollout_ref.ref.fsdp_config.use_torch_compile=False)
fi

judge() {   # MODEL OUT MODE NUMBER PRESET
  [ -f "$2/$3/figures.json" ] || python "$parts/learn_eval.py" "$1" "$2/$3" --mode "$3" --number "$4" --preset "$5" \
    --split "$split" --pictures "$pictures" --threads 1 --device "$device"
}

train() {   # RUN SEED OVERRIDES...
  (cd "$work" && VERL_FILE_LOGGER_PATH="$work/runs/$1.metrics.$(date +%s).jsonl" python -m actfer_env.verl_plugin.train \
    algorithm.adv_estimator=grpo data.seed="$2" data.shuffle=True \
    data.train_files="$work/data/train/part-00000.parquet" data.val_files="$work/data/val/part-00000.parquet" \
    data.train_batch_size="$prompts" data.dataloader_num_workers=0 data.image_patch_size=16 data.return_raw_chat=True \
    data.max_prompt_length=128 data.max_response_length=512 data.filter_overlong_prompts=False \
    actor_rollout_ref.model.path="$start" actor_rollout_ref.model.use_remove_padding=False \
    actor_rollout_ref.model.enable_gradient_checkpointing=False \
    +actor_rollout_ref.model.override_config.attn_implementation=eager \
    actor_rollout_ref.actor.freeze_vision_tower=True \
    actor_rollout_ref.actor.strategy=fsdp2 actor_rollout_ref.actor.ppo_mini_batch_size="$prompts" \
    actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu="$micro" actor_rollout_ref.actor.use_dynamic_bsz=False \
    actor_rollout_ref.actor.use_torch_compile=False actor_rollout_ref.actor.fsdp_config.use_torch_compile=False \
    "+actor_rollout_ref.actor.fsdp_config.$fp32" "${penalty[@]}" \
    actor_rollout_ref.actor.optim.lr="$rate" \
    actor_rollout_ref.actor.optim.lr_warmup_steps=10 actor_rollout_ref.actor.entropy_coeff=0 \
    algorithm.rollout_correction.bypass_mode=True \
    "actor_rollout_ref.actor.checkpoint.save_contents=[model,optimizer,extra,hf_model]" \
    actor_rollout_ref.rollout.name=hf actor_rollout_ref.rollout.n="$group" actor_rollout_ref.rollout.temperature=1.0 \
    actor_rollout_ref.rollout.tensor_model_parallel_size=1 \
    actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu="$micro" actor_rollout_ref.rollout.agent.num_workers="$workers" \
    actor_rollout_ref.rollout.agent.agent_loop_config_path="$work/agent_loop.yaml" \
    actor_rollout_ref.rollout.agent.default_agent_loop=actfer_agent \
    reward.num_workers=1 reward.custom_reward_function.path=pkg://actfer_env.verl_plugin.scoring \
    trainer.n_gpus_per_node=1 trainer.nnodes=1 "${platform[@]}" "trainer.logger=[console,file]" \
    trainer.val_before_train=False trainer.total_epochs=1 trainer.save_freq=6 trainer.test_freq=-1 \
    trainer.resume_mode=auto trainer.default_local_dir="$work/runs/$1" trainer.total_training_steps="$steps" \
    transfer_queue.backend.SimpleStorage.num_data_storage_units=1 \
    ray_kwargs.ray_init.num_cpus=8 \
    +ray_kwargs.ray_init.include_dashboard=False "${@:3}")
}

options() {   # KIND
  case "$1" in
    full) echo "trainer.v1.trainer_mode=ucgrpo_sync +ucgrpo.variant=full" ;;
    random) echo "trainer.v1.trainer_mode=random_rewards +ucgrpo.variant=full" ;;
    emotion) echo "trainer.v1.trainer_mode=ucgrpo_sync +ucgrpo.variant=task_only +ucgrpo.dense_au=False" ;;
    *) echo "unknown run $1: use full, random or emotion, and a seed, such as full-0" >&2; return 1 ;;
  esac
}

play() {   # RUN
  local run="$1" model="$work/runs/$1/global_step_$steps/actor/huggingface" settings
  settings="$(options "${run%-*}")"
  if [ ! -f "$work/runs/$run/done" ]; then
    # shellcheck disable=SC2086  # several settings in one word
    train "$run" "${run##*-}" $settings ${SETTINGS:-}
    touch "$work/runs/$run/done"
  fi
  cp -n "$start/preprocessor_config.json" "$model/" 2> /dev/null || true
  judge "$model" "$work/eval/$run" greedy "$faces" "$preset"
  judge "$model" "$work/eval/$run" sampled "$faces" "$preset"
}

begin() {   # NAME COMMAND...   beside at most AT_ONCE - 1 others; a mark tells failures, since `jobs` forgets who ended
  while [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; do sleep 1; done
  echo "$1: $work/runs/$1.log"
  mark="$work/runs/$1.failed"
  (trap '[ $? = 0 ] || touch "$mark"' EXIT; set -e; "${@:2}") > "$work/runs/$1.log" 2>&1 &
}

mkdir -p "$work/runs"
rm -f "$work"/runs/*.failed
for run in $runs; do options "${run%-*}" > /dev/null; done
for mode in greedy sampled exchanged; do begin "taught-$mode" judge "$start" "$work/eval/taught" "$mode" 1000 easy; done
for mode in greedy sampled; do begin "start-$mode" judge "$start" "$work/eval/start" "$mode" "$faces" "$preset"; done
for run in $runs; do begin "$run" play "$run"; done
wait
failed=""
for mark in "$work"/runs/*.failed; do
  [ ! -e "$mark" ] || failed="$failed $(basename "$mark" .failed)"
done
[ -z "$failed" ] || echo "failed:$failed; see the logs, and start again to go on" >&2
python "$parts/learn_report.py" "$work"
[ -z "$failed" ]
