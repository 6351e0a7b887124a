#!/usr/bin/env bash
# Multi-task, masked language modelling and named entities: roberta-base on CoNLL-2003, half an hour on a GPU.
# TINY=1: the example of the pipeline, a minute on a CPU without network; see train.bash.
. "$(dirname "${BASH_SOURCE[0]}")/train.bash"

data lhoestq/conll2003
FULL=(
    --model "${FAMILY:-roberta}" --pre_trained_model "${MODEL:-roberta-base}"
    --train_dataset "$DATA/train" --valid_dataset "$DATA/validation" --test_dataset "$DATA/test" --input_columns tokens --label_column ner_tags
    --batch_size 32 --max_epochs 5 --max_sequence_length 128 --num_warmup_steps 200 --learning_rate 3e-5
    --whole_word_masking --masked_lm_weight 0.5
    --early_stopping --patience 5
)
GPUS=1 train masked_lm_and_token_class "$@"
