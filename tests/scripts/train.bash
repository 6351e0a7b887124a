# Sourced by the scripts in this folder. Each sets FULL, the flags of a realistic run, and calls `train PIPELINE "$@"`.
#
# TINY=1 runs the example of the pipeline instead (EXAMPLE, where there are several), in a small form: a model from
# scratch on the documentation of Python, a minute on a CPU, without network. DATA, MODEL, FAMILY, NAME, OUTPUT,
# ACCELERATOR, DEVICES, STRATEGY and PRECISION override the defaults.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

prepare() { # create the data of the example, for TINY=1; scripts that need more override it
    python examples/demo_data.py "$DATA" --limit 64
}

train() {
    local pipeline=$1 example=${EXAMPLE:-$1} accelerator=gpu devices=${GPUS:-1} precision=16 flags=()
    if [[ ${TINY:-0} == 1 ]]; then
        export HF_HUB_OFFLINE=1
        accelerator=cpu devices=1 precision=32
        prepare
        sed "s#outputs/demo/data#$DATA#" "examples/$example.yaml" >"$DATA/$example.yaml"
        flags=(
            --config "$DATA/$example.yaml" --max_epochs 1 --check_val_every_n_epoch 1 --num_warmup_steps 1
            --batch_size 8 --eval_batch_size 64
        )
    else
        flags=(--pipeline "$pipeline" "${FULL[@]}" --val_check_interval 0.5 --num_workers 4)
    fi
    python -m transformers_framework "${flags[@]}" --name "${NAME:-$example}" --overwrite \
        --output_dir "${OUTPUT:-outputs/scripts}" --log_every_n_steps 10 \
        --accelerator "${ACCELERATOR:-$accelerator}" --devices "${DEVICES:-$devices}" \
        --strategy "${STRATEGY:-auto}" --precision "${PRECISION:-$precision}" "${@:2}"
}

data() { # the data set of a realistic run; for TINY=1 that of the examples
    if [[ ${TINY:-0} == 1 ]]; then DATA=${DATA:-outputs/scripts/data}; else DATA=${DATA:-$1}; fi
}
