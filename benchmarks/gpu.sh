#!/bin/bash
# Acceptance on this machine's GPU, in three calls (benchmarks/acceptance/__init__.py says what each does):
#
#   benchmarks/gpu.sh right                       at most 3 minutes
#   benchmarks/gpu.sh fast                        at most 7 minutes
#   benchmarks/gpu.sh learns --cifar ARCHIVE      at most 6 minutes
#
# Each result is a line of $OUT/gpu.jsonl (out/gpu.jsonl without OUT), written as soon as it is known. PYTHON names another Python. WHEELS
# names a folder of wheels to use, such as those of benchmarks/acceptance/wheels.txt and lightly's. COMMIT names the commit where there is no
# repository. medssl need not be installed, and nothing is fetched.

set -euo pipefail
root=$(cd "$(dirname "$(realpath "$0")")/.." && pwd)
python=${PYTHON:-python3}
call=${1:?right, fast or learns}
declare -A seconds=([right]=180 [fast]=420 [learns]=360)

export PYTHONPATH=$root:$root/benchmarks
if [ -n "${WHEELS:-}" ]; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$WHEELS"/*.whl
    PYTHONPATH=$PYTHONPATH:$site
fi
timeout "${seconds[$call]:?$call is not right, fast or learns}" "$python" -m acceptance "$@"
