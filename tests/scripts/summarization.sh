#!/usr/bin/env bash
# Summarization: bart-large on news articles, 4 beams, sizes for 8 GPUs.
# DATA is a folder with train/, valid/ and test/: rows with the columns article and highlights.
# TINY=1: the example of the pipeline, two minutes on a CPU without network; see train.bash.
. "$(dirname "${BASH_SOURCE[0]}")/train.bash"

data data/cnn_dailymail
FULL=(
    --model "${FAMILY:-bart}" --pre_trained_model "${MODEL:-facebook/bart-large}"
    --train_dataset "$DATA/train" --valid_dataset "$DATA/valid" --test_dataset "$DATA/test"
    --document_column article --summary_column highlights --max_sequence_length 1024 142
    --batch_size 16 --max_epochs 3 --num_warmup_steps 500 --learning_rate 3e-5 --length_bucketing
    --generation_num_beams 4 --generation_min_length 56 --generation_length_penalty 2.0 --generation_no_repeat_ngram_size 3
    --early_stopping --patience 5
)
GPUS=8 train summarization "$@"
