#!/usr/bin/env bash
# SFT by verl's own trainer, for several nodes: the alternative to train_sft.py. Rows: `actfer data sft --to verl`.
#   MODEL=/models/qwen3vl DATA=/data/rows-verl OUT=/runs/sft examples/sft/sft_verl.sh [HYDRA OVERRIDES]
#   GPUS=4 of a node;   NNODES=1, and with more NODE_RANK and MASTER=host:port on each;   DRY_RUN=1 prints the command
# Settings are those of qwen3vl_4b.yaml, but for two: verl 0.9.1 has one learning rate, and all weights learn ("full-
# parameter", section 3.3 of the paper) unless you freeze some. OUT/global_step_N/huggingface is the model's folder.
# Ids and loss are those of train_sft.py (tests/verl_plugin/test_verl_sft.py). NOT RUN: verl composes the command in a test.
set -euo pipefail
: "${MODEL:?set MODEL to the folder of a Qwen3-VL}" "${DATA:?set DATA to a folder of 'actfer data sft --to verl'}"
: "${OUT:?set OUT to a folder for checkpoints}"
files="$(find "$DATA" -name '*.parquet' 2>/dev/null | sort | paste -sd,)"
[ -n "$files" ] || { echo "error: no parquet in $DATA: write it with 'actfer data sft --to verl'" >&2; exit 2; }
launch=(--nproc_per_node="${GPUS:-4}")
if [ "${NNODES:-1}" = 1 ]; then launch=(--standalone "${launch[@]}"); else
  launch+=(--nnodes="$NNODES" --node_rank="${NODE_RANK:?}" --master_addr="${MASTER%:*}" --master_port="${MASTER#*:}")
fi
command=(python -m torch.distributed.run "${launch[@]}" -m verl.trainer.sft_trainer
  data.train_files="[$files]" data.train_batch_size=16 data.micro_batch_size_per_gpu=1
  data.use_dynamic_bsz=True data.max_token_len_per_gpu=16384 data.max_length=8192 data.truncation=error
  +data.image_patch_size=16
  model.path="$MODEL" model.use_remove_padding=True model.enable_gradient_checkpointing=True
  engine.strategy=fsdp2 optim.lr=1e-5 optim.weight_decay=0.01
  trainer.total_epochs=2 trainer.logger="${LOGGER:-[console,file]}" trainer.project_name=actfer-sft
  trainer.experiment_name="$(basename "$OUT")" trainer.default_local_dir="$OUT"
  "checkpoint.save_contents=[model,optimizer,extra,hf_model]" "$@")
if [ -n "${DRY_RUN:-}" ]; then printf '%q ' "${command[@]}"; echo; exit; fi
exec "${command[@]}"
