#!/usr/bin/env bash
# Speed and agreement of training on one GPU, in under 8 minutes on an H100-class card; texts and models are made here.
#   bash tests/gpu/check.sh          # prints a table; exit status 1 if a run fails or disagrees with the CPU
#   TINY=1 bash tests/gpu/check.sh   # the same commands with tiny models on a CPU, nothing compiled: does the script work?
# Rows that need DeepSpeed are left out where it is not installed. PYTHON is the interpreter, by default `python`.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHONPATH="$PWD" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
if [ -n "${TINY:-}" ]; then export TORCH_COMPILE_DISABLE=1 OMP_NUM_THREADS=1; fi
exec "${PYTHON:-python}" -m tests.gpu.check
