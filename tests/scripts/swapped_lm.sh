#!/usr/bin/env bash
# Swapped language modelling: roberta-base on full windows of text, sizes for 8 GPUs.
# DATA is a folder with train/, valid/ and test/: rows with a column text.
# TINY=1: the example of the pipeline, a minute on a CPU without network; see train.bash.
. "$(dirname "${BASH_SOURCE[0]}")/train.bash"

data data/wikipedia
FULL=(
    --model "${FAMILY:-roberta}" --pre_trained_model "${MODEL:-roberta-base}"
    --train_dataset "$DATA/train" --valid_dataset "$DATA/valid" --test_dataset "$DATA/test" --input_columns text --packing full
    --batch_size 32 --max_epochs 3 --max_sequence_length 512 --num_warmup_steps 1000 --learning_rate 1e-4
)
GPUS=8 train swapped_lm "$@"
