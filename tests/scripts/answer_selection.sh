#!/usr/bin/env bash
# Answer selection by its command line: roberta-base on ASNQ, a few hours on 8 GPUs.
# TINY=1: a small model from scratch on the documentation of Python; a minute on a CPU, no network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [[ ${TINY:-0} == 1 ]]; then
    export HF_HUB_OFFLINE=1 ACCELERATOR=${ACCELERATOR:-cpu} DEVICES=${DEVICES:-1} PRECISION=${PRECISION:-32}
    DATA=${DATA:-outputs/scripts/data}
    python examples/demo_data.py "$DATA" --limit 64
    SPLITS=("$DATA"/answer_selection/{train,valid,test}.jsonl)
    MODEL_FLAGS=(--model bert --pre_trained_config "$DATA/model" --pre_trained_tokenizer "$DATA/model")
    SIZE_FLAGS=(--batch_size 32 --max_epochs 1 --num_warmup_steps 5 --num_workers 0 --learning_rate 1e-3)
else
    DATA=${DATA:-lucadiliello/asnq}
    SPLITS=("$DATA"/{train,dev,test})
    MODEL_FLAGS=(--model "${FAMILY:-roberta}" --pre_trained_model "${MODEL:-roberta-base}")
    SIZE_FLAGS=(--batch_size 256 --max_epochs 10 --num_warmup_steps 10000 --num_workers 4 --learning_rate 1e-5)
fi

python -m transformers_framework --pipeline answer_selection "${MODEL_FLAGS[@]}" \
    --name "${NAME:-answer_selection}" --output_dir "${OUTPUT:-outputs/scripts}" --overwrite \
    --accelerator "${ACCELERATOR:-gpu}" --devices "${DEVICES:-8}" --strategy "${STRATEGY:-auto}" --precision "${PRECISION:-16}" \
    --train_dataset "${SPLITS[0]}" --valid_dataset "${SPLITS[1]}" --test_dataset "${SPLITS[2]}" \
    --input_columns question answer --label_column label --index_column key --max_sequence_length 128 \
    "${SIZE_FLAGS[@]}" --val_check_interval 0.5 --log_every_n_steps 10 \
    --monitor valid/answer_selection/mean_average_precision --early_stopping --patience 5 "$@"
