#!/usr/bin/env bash
# Find the sentence of the documentation that answers a question. A cross-encoder reads question and sentence together: it
# is trained from scratch and from a pre-trained checkpoint, with the same data, epochs and learning rate. A bi-encoder
# embeds them separately. All are compared with rankings by shared words.
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
run masked_lm --figures false
run answer_selection --name from_scratch --figures false
run answer_selection --name pre_trained --pre_trained_model outputs/demo/pre_trained_models/masked_lm/best --figures false
run retrieval --name bi_encoder --corpus_dataset none
show python examples/demo_report.py outputs/demo

printf '\nNext:\n  %s\n  %s\n  %s\n' \
    "outputs/demo/predictions/bi_encoder/errors.md lists the worst mistakes" \
    "tensorboard --logdir outputs/demo/tensorboard" \
    "outputs/demo/pre_trained_models/bi_encoder/best loads with sentence-transformers and with transformers' AutoModel"
