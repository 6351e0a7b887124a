#!/usr/bin/env bash
# Structural pre-training with 5 candidates per span (MSPP) and masked language modelling: roberta-base, a day on 8 GPUs.
# DATA is a folder with train/ and valid/: rows with a column text, documents whose paragraphs are separated by empty lines.
# TINY=1: the example of the pipeline, a minute on a CPU without network; see train.bash.
. "$(dirname "${BASH_SOURCE[0]}")/train.bash"

data data/documents
FULL=(
    --pipeline masked_lm+structural_pretraining
    --model "${FAMILY:-roberta}" --pre_trained_model "${MODEL:-roberta-base}"
    --train_dataset "$DATA/train" --valid_dataset "$DATA/valid" --documents_column text
    --structure same_paragraph -k 5 --positives 1 --hard_negatives 2 --easy_negatives 2 --span_sentences 1 1
    --separated --max_sequence_length 64 --extended_token_type_ids 0 1 2 3 4 5
    --batch_size 64 --accumulate_grad_batches 8 --max_steps 100000 --num_warmup_steps 10000 --learning_rate 1e-4
    --weight_decay 0.01 --monitor valid/answer_selection/mean_average_precision
)
GPUS=8 train structural_pretraining "$@"
