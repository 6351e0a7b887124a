#!/usr/bin/env bash
# Masked words and entities on one backbone: roberta-base on CoNLL-2003, half an hour on a GPU.
# TINY=1: a small model from scratch on signatures of Python's functions; a minute on a CPU, no network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [[ ${TINY:-0} == 1 ]]; then
    export HF_HUB_OFFLINE=1 ACCELERATOR=${ACCELERATOR:-cpu} PRECISION=${PRECISION:-32}
    DATA=${DATA:-outputs/scripts/data}
    python examples/demo_data.py "$DATA" --limit 64
    DATA_FLAGS=(
        --train_dataset "$DATA/token_class/train.jsonl" --valid_dataset "$DATA/token_class/valid.jsonl"
        --test_dataset "$DATA/token_class/test.jsonl" --input_columns words --label_column tags
    )
    MODEL_FLAGS=(--model bert --pre_trained_config "$DATA/model" --pre_trained_tokenizer "$DATA/model")
    SIZE_FLAGS=(--batch_size 16 --max_epochs 1 --num_warmup_steps 1 --num_workers 0 --learning_rate 1e-3)
else
    DATA=${DATA:-lhoestq/conll2003}
    DATA_FLAGS=(
        --train_dataset "$DATA/train" --valid_dataset "$DATA/validation" --test_dataset "$DATA/test"
        --input_columns tokens --label_column ner_tags
    )
    MODEL_FLAGS=(--model "${FAMILY:-roberta}" --pre_trained_model "${MODEL:-roberta-base}")
    SIZE_FLAGS=(--batch_size 32 --max_epochs 5 --num_warmup_steps 200 --num_workers 4 --learning_rate 3e-5)
fi

python -m transformers_framework --pipeline masked_lm_and_token_class "${MODEL_FLAGS[@]}" "${DATA_FLAGS[@]}" \
    --name "${NAME:-masked_lm_and_token_class}" --output_dir "${OUTPUT:-outputs/scripts}" --overwrite \
    --accelerator "${ACCELERATOR:-gpu}" --devices "${DEVICES:-1}" --strategy "${STRATEGY:-auto}" --precision "${PRECISION:-16}" \
    --max_sequence_length 128 "${SIZE_FLAGS[@]}" --whole_word_masking --masked_lm_weight 0.5 --val_check_interval 0.5 --log_every_n_steps 10 \
    --monitor valid/token_class/entity_f1 --early_stopping --patience 5 "$@"
