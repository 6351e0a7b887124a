#!/usr/bin/env bash
# Denoising with a multi-token T5: two tokens per decoding step, from T5 v1.1 base, sizes for 8 GPUs.
# DATA is a folder with train/, valid/ and test/: rows with a column text.
# TINY=1: the example, a minute on a CPU without network; see train.bash.
. "$(dirname "${BASH_SOURCE[0]}")/train.bash"

data data/wikipedia
FULL=(
    --model "${FAMILY:-multi_token_t5}" --pre_trained_model "${MODEL:-google/t5-v1_1-base}" --max_multi_token_predictions 2
    --train_dataset "$DATA/train" --valid_dataset "$DATA/valid" --test_dataset "$DATA/test" --input_columns text --packing full
    --batch_size 16 --max_steps 100000 --max_sequence_length 512 --optimizer adafactor --scheduler sqrt_decay
    --num_warmup_steps 10000 --learning_rate 1e-3 --gradient_clip_val 1.0
)
EXAMPLE=denoising_multi_token_t5 GPUS=8 train denoising "$@"
