#!/bin/bash
# What docs/reference/killed_and_resumed.txt shows: a training that is killed, stopped and resumed, as a terminal shows it.
#
#   TERM=dumb script --quiet --command benchmarks/recording.sh docs/reference/killed_and_resumed.txt
#
# medssl must be on the path. Phantoms, 64 pixels; a minute on two cores.

place=$(mktemp -d)
cd "$place" || exit
trap 'rm -r "$place"' EXIT
export MEDSSL_CACHE=$place/cache

run() {
    echo "\$ $*"
    "$@"
    echo "[exit code $?]"
    echo
}

killed() { # killed SIGNAL STEPS COMMAND...: the signal once metrics.jsonl tells of so many steps
    local signal=$1 steps=$2
    shift 2
    echo "\$ $*"
    "$@" &
    until [ "$(cat runs/demo/metrics.jsonl 2>/dev/null | wc -l)" -ge "$steps" ]; do sleep 0.05; done
    echo "   (kill -$signal $!, from another terminal)"
    kill "-$signal" $!
    wait $! 2>/dev/null
    echo "[exit code $?]"
    echo
}

settings=(--preset demo --seed 7 --device cpu --set train.steps=60 --set train.save_every_steps=5 --set monitor.log_every_steps=1 --set tracking.mlflow=false)
killed KILL 22 medssl pretrain --data phantom --out runs/demo "${settings[@]}"
killed TERM 38 medssl pretrain --resume runs/demo
truncate --size=-1 runs/demo/last.ckpt
echo "\$ truncate --size=-1 runs/demo/last.ckpt      # and a torn checkpoint on top"
echo
run medssl pretrain --resume runs/demo
run medssl pretrain --data phantom --out runs/calm "${settings[@]}"
run python - <<'PYTHON'
from pathlib import Path

import torch
from medssl.train import checkpoint

one, other = (checkpoint.load(Path("runs", name))[0]["method"] for name in ("demo", "calm"))
print(sum(torch.equal(one[name], other[name]) for name in one), "of", len(one), "tensors of the two runs have the same bits")
PYTHON
