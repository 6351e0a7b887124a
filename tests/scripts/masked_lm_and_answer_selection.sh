#!/usr/bin/env bash
# Masked words and ranking on one backbone: roberta-base on ASNQ, a few hours on 8 GPUs.
# TINY=1: a small model from scratch on the documentation of Python; a minute on a CPU, no network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [[ ${TINY:-0} == 1 ]]; then
    export HF_HUB_OFFLINE=1 ACCELERATOR=${ACCELERATOR:-cpu} DEVICES=${DEVICES:-1} PRECISION=${PRECISION:-32}
    DATA=${DATA:-outputs/scripts/data}
    python examples/demo_data.py "$DATA" --limit 64
    DATA_FLAGS=(
        --train_dataset "$DATA/answer_selection/train.jsonl" --valid_dataset "$DATA/answer_selection/valid.jsonl"
        --test_dataset "$DATA/answer_selection/test.jsonl"
        --input_columns question answer --label_column label --index_column key
    )
    MODEL_FLAGS=(--model bert --pre_trained_config "$DATA/model" --pre_trained_tokenizer "$DATA/model")
    SIZE_FLAGS=(--batch_size 8 --max_epochs 1 --max_sequence_length 48 --num_warmup_steps 1 --num_workers 0 --learning_rate 1e-3)
else
    DATA=${DATA:-lucadiliello/asnq}
    DATA_FLAGS=(
        --train_dataset "$DATA/train" --valid_dataset "$DATA/dev" --test_dataset "$DATA/test"
        --input_columns question answer --label_column label --index_column key
    )
    MODEL_FLAGS=(--model "${FAMILY:-roberta}" --pre_trained_model "${MODEL:-roberta-base}")
    SIZE_FLAGS=(--batch_size 256 --max_epochs 10 --max_sequence_length 128 --num_warmup_steps 10000 --num_workers 4 --learning_rate 1e-5)
fi

python -m transformers_framework --pipeline masked_lm_and_answer_selection "${MODEL_FLAGS[@]}" "${DATA_FLAGS[@]}" \
    --name "${NAME:-masked_lm_and_answer_selection}" --output_dir "${OUTPUT:-outputs/scripts}" --overwrite \
    --accelerator "${ACCELERATOR:-gpu}" --devices "${DEVICES:-8}" --strategy "${STRATEGY:-auto}" --precision "${PRECISION:-16}" \
    "${SIZE_FLAGS[@]}" --masked_lm_weight 0.5 --val_check_interval 0.5 --log_every_n_steps 10 \
    --monitor valid/answer_selection/mean_average_precision --early_stopping --patience 5 "$@"
