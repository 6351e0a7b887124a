#!/usr/bin/env bash
# Swapped language modelling: roberta-base on full windows of text, sizes for 8 GPUs.
# DATA is a folder with train/, valid/ and test/: rows with a column text.
# TINY=1: a small model from scratch on the documentation of Python; a minute on a CPU, no network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [[ ${TINY:-0} == 1 ]]; then
    export HF_HUB_OFFLINE=1 ACCELERATOR=${ACCELERATOR:-cpu} DEVICES=${DEVICES:-1} PRECISION=${PRECISION:-32}
    DATA=${DATA:-outputs/scripts/data}
    python examples/demo_data.py "$DATA" --limit 64
    DATA_FLAGS=(
        --train_dataset "$DATA/seq_class/train.jsonl" --valid_dataset "$DATA/seq_class/valid.jsonl"
        --test_dataset "$DATA/seq_class/test.jsonl" --input_columns text
    )
    MODEL_FLAGS=(--model bert --pre_trained_config "$DATA/model" --pre_trained_tokenizer "$DATA/model")
    SIZE_FLAGS=(--batch_size 8 --max_epochs 1 --max_sequence_length 48 --num_warmup_steps 1 --num_workers 0 --learning_rate 1e-3)
else
    DATA=${DATA:-data/wikipedia}
    DATA_FLAGS=(
        --train_dataset "$DATA/train" --valid_dataset "$DATA/valid" --test_dataset "$DATA/test" --input_columns text
    )
    MODEL_FLAGS=(--model "${FAMILY:-roberta}" --pre_trained_model "${MODEL:-roberta-base}")
    SIZE_FLAGS=(--batch_size 32 --max_epochs 3 --max_sequence_length 512 --num_warmup_steps 1000 --num_workers 4 --learning_rate 1e-4)
fi

python -m transformers_framework --pipeline swapped_lm "${MODEL_FLAGS[@]}" "${DATA_FLAGS[@]}" \
    --name "${NAME:-swapped_lm}" --output_dir "${OUTPUT:-outputs/scripts}" --overwrite \
    --accelerator "${ACCELERATOR:-gpu}" --devices "${DEVICES:-8}" --strategy "${STRATEGY:-auto}" --precision "${PRECISION:-16}" \
    "${SIZE_FLAGS[@]}" --packing full --val_check_interval 0.5 --log_every_n_steps 10 \
    --monitor_direction min --monitor valid/swapped_lm/perplexity "$@"
