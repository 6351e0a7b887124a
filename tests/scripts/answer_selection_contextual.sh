#!/usr/bin/env bash
# Contextual answer selection: each candidate with the sentences before and after it, roberta-base, some hours on 8 GPUs.
# DATA is a folder with train/, dev/ and test/: rows with the columns question, answer, previous, next, label and key.
# TINY=1: the example, a minute on a CPU without network; see train.bash.
. "$(dirname "${BASH_SOURCE[0]}")/train.bash"

data data/asnq_with_context
FULL=(
    --model "${FAMILY:-roberta}" --pre_trained_model "${MODEL:-roberta-base}"
    --train_dataset "$DATA/train" --valid_dataset "$DATA/dev" --test_dataset "$DATA/test"
    --input_columns question answer previous next --extended_token_type_ids 0 1 2 3 --label_column label --index_column key
    --max_sequence_length 256 --batch_size 128 --max_epochs 6 --num_warmup_steps 5000 --learning_rate 1e-5
    --early_stopping --patience 5
)
EXAMPLE=answer_selection_contextual GPUS=8 train answer_selection "$@"
