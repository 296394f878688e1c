#!/bin/bash
# Training on this machine's GPU beside its ceiling and lightly, the look-up, and views on the device, in at most 8 minutes:
#
#   benchmarks/gpu.sh [PYTHON] >benchmarks/results/gpu.md
#
# Needs torch, timm, numpy, pillow, pydantic, jaxtyping, safetensors and PyYAML; no MLflow, medmnist, albumentations, MONAI or network, and
# medssl need not be installed. Rows beside lightly are left out where it is not.

set -euo pipefail
cd "$(dirname "$(realpath "$0")")/.."
export PYTHONPATH=$PWD
python=${1:-python}
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)

echo "# On a GPU"
echo
echo "\`benchmarks/gpu.sh\`, commit $commit, $(date +%F), driver $(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -1)"
echo
timeout 400 "$python" benchmarks/gpu.py
for script in lookup views; do
    if "$python" -c 'import lightly' 2>/dev/null; then
        echo
        timeout 60 "$python" "benchmarks/$script.py" --device cuda --rounds 3 || echo "$script.py did not finish in a minute"
    fi
done
