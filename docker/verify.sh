#!/bin/bash
# The image, the tracking stack and the archive, built and tried with a private Docker Engine: no registry, no engine of the machine's own.
# As root on Debian 12; Debian's and Python's packages are fetched (WHEELS: those of Python from a folder). 22 minutes on two cores that
# were not idle; keep 60 GB of disk free. Ends with the number of failed checks; what was seen last: docs/reference/docker_verified.md
#
#   docker/verify.sh [PART...]      image, tracking, bundle (default: all three), again (a second build from nothing, compared)
#
# WHEELS   a folder of wheels to build from, as `pip download --require-hashes --no-deps -d WHEELS -r FILE` fills it with both locks
# CA_BUNDLE, PIP_CONF   handed to the build as the secrets ca_bundle and pip_conf
# KEEP     a folder that gets the SBOM
set -Eeuo pipefail
trap 'echo "ended in ${BASH_SOURCE[0]##*/}, line $LINENO: $BASH_COMMAND" >&2' ERR

root=$(dirname "$(dirname "$(realpath "$0")")")
parts=("$@")
[ $# -gt 0 ] || parts=(image tracking bundle)
[ "$(id -u)" = 0 ] || { echo "run as root" >&2; exit 2; }
passed=0 failed=0 server='' work=''
# shellcheck source=/dev/null
for part in engine image tracking bundle; do . "$root/docker/verify/$part.sh"; done

say() { printf '\n== %s\n' "$*"; }
now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f", b - a }'; }
timed() { # timed LABEL COMMAND...
    local label=$1 began rc=0
    shift
    began=$(now)
    "$@" || rc=$?
    printf '     [%s s] %s\n' "$(since "$began")" "$label"
    return $rc
}
check() { # check NAME COMMAND...: what the command says is shown where it fails
    local name=$1
    shift
    if "$@" >"$work/out" 2>&1; then
        passed=$((passed + 1))
        echo "ok   $name"
        grep '^     \[' "$work/out" || true
    else
        failed=$((failed + 1))
        echo "FAIL $name"
        tail -20 "$work/out" | sed 's/^/     | /'
    fi
}
waits() { # waits SECONDS COMMAND...: until it succeeds
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 1
    done
}

cleanup() {
    local rc=$?
    set +e
    trap - ERR
    [ -z "$server" ] || kill "$server" 2>/dev/null
    engine_stop
    exit "$rc"
}
[ -z "${KEEP:-}" ] || mkdir -p "$KEEP"
engine_folder
trap cleanup EXIT
trap 'exit 130' INT TERM

say "machine: $(nproc) cores ($(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)), $(awk '/^MemTotal/ { printf "%.0f", $2 / 2^20 }' /proc/meminfo) GiB, no GPU; load $(cut -d' ' -f1-3 /proc/loadavg); $(date -u +%FT%RZ); commit $(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown)"
engine_packages
timed "engine fetched" engine_programs
timed "engine started" engine_start
docker version --format '     client {{.Client.Version}}, server {{.Server.Version}}'
echo "     $(docker buildx version | cut -d' ' -f2), compose $(docker compose version --short)"
timed "base image made of Debian's packages" engine_base "$(sed -n 's/^ARG BASE_IMAGE=//p' "$root/docker/Dockerfile")"

for part in build "${parts[@]}"; do "verify_$part"; done
say "$passed passed, $failed failed; load $(cut -d' ' -f1-3 /proc/loadavg); $((SECONDS / 60)) minutes in all"
exit "$failed"
