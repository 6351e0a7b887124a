#!/usr/bin/env bash
# Two pipelines on one backbone, joined by +: replaced token detection and classification, electra-base on SST-2, on a GPU.
# TINY=1: the example, a minute on a CPU without network; see train.bash.
. "$(dirname "${BASH_SOURCE[0]}")/train.bash"

data stanfordnlp/sst2
FULL=(
    --model "${FAMILY:-electra}" --pre_trained_model "${MODEL:-google/electra-base-discriminator}"
    --train_dataset "$DATA/train" --valid_dataset "$DATA/validation"
    --input_columns sentence --label_column label --max_sequence_length 128 --token_detection_weight 0.5
    --batch_size 32 --max_epochs 3 --num_warmup_steps 600 --learning_rate 1e-5
    --monitor valid/seq_class/f1 --early_stopping --patience 5
)
GPUS=1 train random_token_detection+seq_class "$@"
