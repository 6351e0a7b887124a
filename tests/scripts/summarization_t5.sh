#!/usr/bin/env bash
# Summarization: t5-base on news articles, 4 beams, sizes for 8 GPUs.
# DATA is a folder with train/, valid/ and test/: rows with the columns article and highlights.
# TINY=1: the example, two minutes on a CPU without network; see train.bash.
. "$(dirname "${BASH_SOURCE[0]}")/train.bash"

data data/cnn_dailymail
FULL=(
    --model "${FAMILY:-t5}" --pre_trained_model "${MODEL:-t5-base}" --prefix "summarize: "
    --train_dataset "$DATA/train" --valid_dataset "$DATA/valid" --test_dataset "$DATA/test"
    --document_column article --summary_column highlights --max_sequence_length 512 142
    --batch_size 16 --max_epochs 3 --optimizer adafactor --scheduler constant --learning_rate 1e-3 --length_bucketing
    --generation_num_beams 4 --generation_min_length 30 --generation_length_penalty 2.0 --generation_no_repeat_ngram_size 3
    --early_stopping --patience 5
)
EXAMPLE=summarization_t5 GPUS=8 train summarization "$@"
