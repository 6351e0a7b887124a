#!/usr/bin/env bash
# Retrieval: a bi-encoder on pairs of a question and an answer, in-batch negatives from all devices, some hours on 8 GPUs.
# TINY=1: the example of the pipeline, a minute on a CPU without network; see train.bash.
. "$(dirname "${BASH_SOURCE[0]}")/train.bash"

data lucadiliello/asnq
FULL=(
    --model "${FAMILY:-mpnet}" --pre_trained_model "${MODEL:-microsoft/mpnet-base}"
    --train_dataset "$DATA/train" --valid_dataset "$DATA/dev" --test_dataset "$DATA/test"
    --input_columns question answer --label_column label --index_column key --max_sequence_length 64 128
    --loss_fn multiple_negatives_ranking_loss --sync_devices --normalize_embeddings --length_bucketing
    --batch_size 256 --max_epochs 3 --num_warmup_steps 1000 --learning_rate 2e-5
    --monitor valid/retrieval/mean_average_precision --early_stopping --patience 5
)
GPUS=8 train retrieval "$@"
