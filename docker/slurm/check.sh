#!/bin/bash
# The job template on a real SLURM of this machine: installs and starts it, preempts, signals, kills and cancels small jobs (6 to 8 minutes
# on two cores), and ends it. As root where SLURM is not installed yet.
#
#   docker/slurm/check.sh [PYTHON]      the interpreter that has medssl and pytest

set -euo pipefail

here=$(dirname "$(realpath "$0")")
export SLURM_CONF=${MEDSSL_SLURM:-/var/tmp/medssl-slurm}/slurm.conf

"$here/cluster.sh" install
"$here/cluster.sh" start
trap '"$here/cluster.sh" stop' EXIT
cd "$here/../.."
"${1:-python}" -m pytest -v tests/pretraining/test_slurm.py --durations=0
