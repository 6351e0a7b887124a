#!/usr/bin/env bash
# Denoising: a T5 v1.1 from scratch on full windows of text, sizes for 8 GPUs.
# DATA is a folder with train/, valid/ and test/: rows with a column text.
# TINY=1: the example of the pipeline, a BART, a minute on a CPU without network; see train.bash.
. "$(dirname "${BASH_SOURCE[0]}")/train.bash"

data data/wikipedia
FULL=(
    --model "${FAMILY:-t5}" --pre_trained_config "${MODEL:-google/t5-v1_1-base}" --pre_trained_tokenizer "${MODEL:-google/t5-v1_1-base}"
    --train_dataset "$DATA/train" --valid_dataset "$DATA/valid" --test_dataset "$DATA/test" --input_columns text --packing full
    --batch_size 16 --max_steps 65536 --max_sequence_length 512 --optimizer adafactor --scheduler sqrt_decay
    --num_warmup_steps 10000 --learning_rate 1e-2 --gradient_clip_val 1.0
)
GPUS=8 train denoising "$@"
