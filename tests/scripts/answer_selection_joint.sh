#!/usr/bin/env bash
# Joint re-ranking: a question and 5 of its candidates in one input, roberta-base on ASNQ, a few hours on 8 GPUs.
# TINY=1: the example, some minutes on a CPU without network; see train.bash.
. "$(dirname "${BASH_SOURCE[0]}")/train.bash"

data lucadiliello/asnq
FULL=(
    --model "${FAMILY:-roberta}" --pre_trained_model "${MODEL:-roberta-base}"
    --train_dataset "$DATA/train" --valid_dataset "$DATA/dev" --test_dataset "$DATA/test"
    --input_columns question answer --label_column label --index_column key
    -k 5 --grouping random --pad_to_k --classification_head_type "${HEAD:-AE_k}" --max_sequence_length 64 --separated
    --batch_size 64 --max_epochs 6 --num_warmup_steps 5000 --learning_rate 1e-5 --early_stopping --patience 5
)
EXAMPLE=answer_selection_joint GPUS=8 train answer_selection "$@"
