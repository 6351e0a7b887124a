#!/usr/bin/env bash
# Transfer then adapt (TANDA), first run: roberta-base on ASNQ, a few hours on 8 GPUs; answer_selection_adapt.sh follows.
# TINY=1: the example, a minute on a CPU without network; see train.bash.
. "$(dirname "${BASH_SOURCE[0]}")/train.bash"

data lucadiliello/asnq
FULL=(
    --model "${FAMILY:-roberta}" --pre_trained_model "${MODEL:-roberta-base}"
    --train_dataset "$DATA/train" --valid_dataset "$DATA/dev" --test_dataset "$DATA/test"
    --input_columns question answer --label_column label --index_column key --max_sequence_length 128
    --batch_size 256 --max_epochs 9 --num_warmup_steps 10000 --learning_rate 2e-5 --early_stopping --patience 5
)
EXAMPLE=answer_selection_transfer GPUS=8 train answer_selection "$@"
