#!/usr/bin/env bash
# Transfer then adapt (TANDA), second run: the export of answer_selection_transfer.sh on WikiQA, minutes on a GPU.
# TINY=1: the example, some seconds on a CPU without network; see train.bash.
. "$(dirname "${BASH_SOURCE[0]}")/train.bash"

data lucadiliello/wikiqa
MODEL=${MODEL:-${OUTPUT:-outputs/scripts}/pre_trained_models/answer_selection_transfer/best}
FULL=(
    --model "${FAMILY:-roberta}"
    --train_dataset "$DATA/train_no_allneg" --valid_dataset "$DATA/dev_clean" --test_dataset "$DATA/test_clean"
    --input_columns question answer --label_column label --index_column key --max_sequence_length 128
    --loss_fn softmax --train_group_size 16
    --batch_size 8 --max_epochs 10 --num_warmup_steps 100 --learning_rate 1e-6 --early_stopping --patience 5
)
EXAMPLE=answer_selection_adapt train answer_selection --pre_trained_model "$MODEL" "$@"
