#!/bin/bash
# A SLURM of this machine alone, to try the job template on and to run tests/pretraining/test_slurm.py. Not for production: it trusts everybody
# here. All but the packages lies in one folder (MEDSSL_SLURM); a SLURM that is on this machine already is left alone.
#
#   docker/slurm/cluster.sh install     Debian's slurm-wlm and munge (as root)
#   docker/slurm/cluster.sh start       munged, slurmctld, two slurmd; then `export SLURM_CONF=...` as it says
#   docker/slurm/cluster.sh status
#   docker/slurm/cluster.sh stop        ends the jobs and what it started, nothing else
#
# Two nodes of 2 CPUs, both this machine. Partitions: low (default) and high on the first; a job in high preempts one in low, which gets
# SIGTERM, has GRACE seconds to save, gets SIGTERM again, has KillWait seconds, and is put back into the queue. both: the two nodes.

set -euo pipefail

FOLDER=${MEDSSL_SLURM:-/var/tmp/medssl-slurm}
GRACE=${GRACE:-20}
NODES=(medssl1 medssl2)
export SLURM_CONF=$FOLDER/slurm.conf

install() {
    if ! command -v slurmctld slurmd munged srun >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        apt-get install -qq --no-install-recommends slurm-wlm munge
    fi
    echo "installed: $(slurmctld -V), $(munged --version | head -1)"
}

configure() {
    mkdir -p "$FOLDER"/{munge,state}
    chmod 755 "$FOLDER" "$FOLDER/munge" # other users' jobs read slurm.conf and speak to munge
    [ -s "$FOLDER/munge/key" ] || (umask 077 && head -c 1024 /dev/urandom >"$FOLDER/munge/key")
    # cred_expire: also how long a job waits that is put back into the queue. MinJobAge: an ended job can be asked about for an hour
    cat >"$SLURM_CONF" <<CONF
ClusterName=medssl
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=16817
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$FOLDER/munge/socket,cred_expire=5
StateSaveLocation=$FOLDER/state
SlurmctldPidFile=$FOLDER/slurmctld.pid
SlurmctldLogFile=$FOLDER/slurmctld.log
SlurmdSpoolDir=$FOLDER/%n
SlurmdPidFile=$FOLDER/%n.pid
SlurmdLogFile=$FOLDER/%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=10
MinJobAge=3600
NodeName=medssl[1-2] NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=[16818-16819] CPUs=2
PartitionName=low Nodes=medssl1 Default=YES PriorityTier=1 GraceTime=$GRACE MaxTime=60
PartitionName=high Nodes=medssl1 PriorityTier=10 PreemptMode=OFF MaxTime=60
PartitionName=both Nodes=medssl[1-2] PriorityTier=1 MaxTime=60
CONF
}

alive() { # alive PROGRAM [NAME]: the one that was started from here is there
    local file=$FOLDER/${2:-$1}.pid
    [ -s "$file" ] && [ "$(cat "/proc/$(cat "$file")/comm" 2>/dev/null)" = "$1" ]
}

start() {
    configure
    alive munged || munged --force --key-file="$FOLDER/munge/key" --socket="$FOLDER/munge/socket" --pid-file="$FOLDER/munged.pid" \
        --log-file="$FOLDER/munge/log" --seed-file="$FOLDER/munge/seed" 2>"$FOLDER/munge/start"
    alive slurmctld || slurmctld
    for node in "${NODES[@]}"; do alive slurmd "$node" || slurmd -N "$node"; done
    for _ in $(seq 60); do
        if [ "$(sinfo --noheader --partition=both --format=%T 2>/dev/null)" = idle ]; then
            echo "SLURM is up. Now: export SLURM_CONF=$SLURM_CONF"
            return
        fi
        sleep 0.5
    done
    echo "SLURM does not come up. Its logs:" >&2
    tail --lines=5 "$FOLDER"/munge/start "$FOLDER"/munge/log "$FOLDER"/*.log >&2
    exit 1
}

end() { # end PROGRAM [NAME]
    local process
    alive "$@" || return 0
    process=$(cat "$FOLDER/${2:-$1}.pid")
    kill "$process"
    for _ in $(seq 40); do
        [ -d "/proc/$process" ] || break
        sleep 0.25
    done
    if [ -d "/proc/$process" ]; then
        echo "$1 ($process) does not end" >&2
        exit 1
    fi
    echo "ended ${2:-$1}"
}

stop() {
    if alive slurmctld; then
        squeue --noheader --format=%A | xargs --no-run-if-empty scancel --quiet
        for _ in $(seq 30); do
            [ -n "$(squeue --noheader)" ] || break
            sleep 0.5
        done
    fi
    for node in "${NODES[@]}"; do end slurmd "$node"; done
    end slurmctld
    end munged
}

status() {
    if alive slurmctld; then
        sinfo
        squeue
    else
        echo "down"
    fi
}

case ${1:-} in
    install | start | stop | status) "$1" ;;
    *)
        sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
        exit 2
        ;;
esac
