#!/usr/bin/env bash
# Multi-task, masked language modelling and sequence classification: roberta-base on SST-2, an hour on a GPU.
# TINY=1: the example of the pipeline, a minute on a CPU without network; see train.bash.
. "$(dirname "${BASH_SOURCE[0]}")/train.bash"

data stanfordnlp/sst2
FULL=(
    --model "${FAMILY:-roberta}" --pre_trained_model "${MODEL:-roberta-base}"
    --train_dataset "$DATA/train" --valid_dataset "$DATA/validation"
    --input_columns sentence --label_column label --max_sequence_length 128
    --batch_size 32 --max_epochs 3 --num_warmup_steps 600 --learning_rate 1e-5
    --masked_lm_weight 0.5
    --early_stopping --patience 5
)
GPUS=1 train masked_lm_and_seq_class "$@"
