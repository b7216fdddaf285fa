#!/usr/bin/env bash
# A small Qwen3-VL from nothing to the checkpoint that UC-GRPO starts from, on a machine without GPU:
#   curate drawn faces (template writer) -> teach the vision tower -> export rows -> SFT by TRL.
#   examples/sft/teach_small.sh WORK_FOLDER [OPTIONS OF train_sft.py]           needs pip install -e ".[vlm,data,trl]"
#   FACES=6000  faces to curate;   RL=640  of them for the RL set;   PRESET=easy
#   REGIONS=2  into which a trajectory zooms at most;   FORCED=0  share of trajectories under the prompts of forced zooming
#   TOOLS  tools that the prompts offer, by commas; ActFER's two if left out (trajectories call no others)
#   SIZE=small  tiny, small (2.5 million parameters) or medium;   VISION_STEPS=700;   THREADS=2;   SEED=0;   DEVICE=cpu
# It leaves WORK_FOLDER/curated (sft.jsonl, rl.jsonl), eyes (the model before SFT), rows and sft (the taught model).
# What is finished is kept: a second start goes on where the first one stopped.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
work="$(mkdir -p "${1:?give a folder to work in}" && cd "$1" && pwd)"
shift
threads="${THREADS:-2}" seed="${SEED:-0}" device="${DEVICE:-cpu}"
unset PYTHONDONTWRITEBYTECODE   # several processes start, and each would compile what it imports anew
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS="$threads"

[ -f "$work/curated/report.json" ] || actfer data curate synthetic --split train --data-preset "${PRESET:-easy}" \
  --number "${FACES:-6000}" --rl-size "${RL:-640}" --length short --views none --seed "$seed" --workers "$threads" \
  --set most_regions="${REGIONS:-2}" --set forced_share="${FORCED:-0}" ${TOOLS:+--episode "tools=[\"${TOOLS//,/\",\"}\"]"} \
  --chat brief=true --chat image_side=64 --chat face_side=64 --chat crop_side=64 --out "$work/curated"
[ -f "$work/eyes/vision.json" ] || python -m actfer_env.agents.qwen.vision "$work/curated/sft.jsonl" --out "$work/eyes" \
  --size "${SIZE:-small}" --steps "${VISION_STEPS:-700}" --threads "$threads" --seed "$seed" --device "$device"
[ -d "$work/rows" ] || actfer data sft "$work/curated" --to trl --model "$work/eyes" --out "$work/rows"
[ "$device" = cpu ] || set -- --use_cpu false "$@"
[ -f "$work/sft/sft.json" ] || python "$here/train_sft.py" --config "$here/small.yaml" --model "$work/eyes" \
  --data "$work/rows" --output_dir "$work/sft" --seed "$seed" "$@"
