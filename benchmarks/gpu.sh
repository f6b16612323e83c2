#!/bin/sh
# Check the pipeline with image.engine: tensorflow on one GPU, in under eight minutes: see benchmarks/gpu.py.
#
#     benchmarks/gpu.sh            # needs tensorflow[and-cuda] in the environment; ends with status 3 without a GPU
#     benchmarks/gpu.sh --small    # a few drawn photographs
#     benchmarks/gpu.sh --small --cpu    # the same on the CPU alone: whether the script works
set -eu
cd "$(dirname "$0")/.."
if [ -x .venv/bin/python ]; then PATH="$PWD/.venv/bin:$PATH"; fi
export CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES:-0}"  # one GPU
status=0
timeout --signal=INT 480 python benchmarks/gpu.py "$@" || status=$?
if [ "$status" -eq 124 ]; then echo "gpu: stopped after eight minutes: what stands above was measured" >&2; fi
exit "$status"
