#!/usr/bin/env bash
# Sequence classification: roberta-base on SST-2, an hour on a GPU.
# TINY=1: the example of the pipeline, a minute on a CPU without network; see train.bash.
. "$(dirname "${BASH_SOURCE[0]}")/train.bash"

data stanfordnlp/sst2
FULL=(
    --model "${FAMILY:-roberta}" --pre_trained_model "${MODEL:-roberta-base}"
    --train_dataset "$DATA/train" --valid_dataset "$DATA/validation" --predict_dataset "$DATA/test" # its labels are hidden
    --input_columns sentence --label_column label --max_sequence_length 128
    --batch_size 32 --max_epochs 3 --num_warmup_steps 600 --learning_rate 1e-5
    --early_stopping --patience 5
)
GPUS=1 train seq_class "$@"
