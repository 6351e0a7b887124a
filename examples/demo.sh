#!/usr/bin/env bash
# Answer selection from nothing, by the program's own commands: data, training, best checkpoint, test, predictions.
# Three minutes on two CPU cores, no network: the data is the documentation inside the Python installation.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
export GOMP_SPINCOUNT=1000 # a model this small waits most of the time: let other programs have the cores meanwhile

show() {
    printf '\n$ %s\n' "$*"
    "$@"
}

show python examples/demo_data.py outputs/demo/data
show python -m transformers_framework --config examples/answer_selection.yaml --name demo --output_dir outputs/demo --overwrite
show python examples/demo_report.py outputs/demo/predictions/demo/test.jsonl outputs/demo/data/answer_selection/train.jsonl

printf '\nTo look further:\n  %s\n  %s\n' \
    "tensorboard --logdir outputs/demo/tensorboard" \
    "outputs/demo/pre_trained_models/demo/best loads with transformers' AutoModelForSequenceClassification"
