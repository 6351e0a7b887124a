#!/usr/bin/env bash
# Multi-task, ELECTRA pre-training and sequence classification: electra-base on SST-2, an hour on a GPU.
# TINY=1: the example of the pipeline, a minute on a CPU without network; see train.bash.
. "$(dirname "${BASH_SOURCE[0]}")/train.bash"

data stanfordnlp/sst2
FULL=(
    --model electra --pre_trained_model "${MODEL:-google/electra-base-discriminator}"
    --pre_trained_generator_model "${GENERATOR:-google/electra-base-generator}" --embedding_sharing shared
    --train_dataset "$DATA/train" --valid_dataset "$DATA/validation"
    --input_columns sentence --label_column label --max_sequence_length 128
    --batch_size 32 --max_epochs 3 --num_warmup_steps 600 --learning_rate 1e-5
    --token_detection_weight 10
    --early_stopping --patience 5
)
GPUS=1 train token_detection_and_masked_lm_and_seq_class "$@"
