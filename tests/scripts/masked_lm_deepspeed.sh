#!/usr/bin/env bash
# Masked language modelling with DeepSpeed's ZeRO stage 2: roberta-large on full windows of text, sizes for 8 GPUs.
# DATA is a folder with train/, valid/ and test/: rows with a column text. Needs the extra "deepspeed".
# TINY=1: the example, seconds on a GPU without network; see train.bash.
. "$(dirname "${BASH_SOURCE[0]}")/train.bash"

data data/wikipedia
FULL=(
    --model "${FAMILY:-roberta}" --pre_trained_model "${MODEL:-roberta-large}"
    --train_dataset "$DATA/train" --valid_dataset "$DATA/valid" --test_dataset "$DATA/test" --input_columns text --packing full
    --optimizer fuse_adam --batch_size 32 --max_epochs 3 --max_sequence_length 512 --num_warmup_steps 1000 --learning_rate 1e-4
)
EXAMPLE=masked_lm_deepspeed GPUS=8 STRATEGY=${STRATEGY:-deepspeed_stage_2} ACCELERATOR=${ACCELERATOR:-gpu} train masked_lm "$@"
