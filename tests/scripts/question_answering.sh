#!/usr/bin/env bash
# Question answering: bert-base on SQuAD v2, sizes for 8 GPUs.
# DATA is a folder with train/ and valid/: rows with the columns id, question, context and answers.
# TINY=1: the example of the pipeline, a minute on a CPU without network; see train.bash.
. "$(dirname "${BASH_SOURCE[0]}")/train.bash"

data data/squad_v2
FULL=(
    --model "${FAMILY:-bert}" --pre_trained_model "${MODEL:-bert-base-uncased}"
    --train_dataset "$DATA/train" --valid_dataset "$DATA/valid" --test_dataset "$DATA/valid"
    --query_column question --context_column context --answers_column answers --max_sequence_length 384 --doc_stride 128
    --null_score_threshold auto --batch_size 6 --max_epochs 2 --num_warmup_steps 500 --learning_rate 3e-5
    --length_bucketing
)
GPUS=8 train question_answering "$@"
