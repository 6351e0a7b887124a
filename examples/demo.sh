#!/usr/bin/env bash
# Pre-train on documentation, then train answer selection
# from scratch and from the pre-trained checkpoint, with the same data, epochs and learning rate, and compare.
# Three minutes on two CPU cores, no network: the data is the documentation inside the Python installation.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
export GOMP_SPINCOUNT=1000 # threads of a model this small mostly wait: do not block the cores

show() {
    printf '\n$ %s\n' "$*"
    "$@"
}

run() {
    show python -m transformers_framework --config "examples/$1.yaml" --output_dir outputs/demo --overwrite "${@:2}"
}

show python examples/demo_data.py outputs/demo/data
run masked_lm
run answer_selection --name from_scratch
run answer_selection --name pre_trained --pre_trained_model outputs/demo/pre_trained_models/masked_lm/best
show python examples/demo_report.py outputs/demo

printf '\nNext:\n  %s\n  %s\n' \
    "tensorboard --logdir outputs/demo/tensorboard" \
    "outputs/demo/pre_trained_models/pre_trained/best loads with transformers' AutoModelForSequenceClassification"
