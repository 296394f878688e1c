# shellcheck shell=bash
# A private Docker Engine for docker/verify.sh (sourced): Debian's programs unpacked to a folder, started by hand, ended with all it made.
# It needs root on Debian 12 and an apt that works; no registry and no engine of the machine's own. The base image is made from Debian
# packages and called what the Dockerfile calls it. Containers have no way out (no iptables, no forwarding); the host's rules stay as they are.
#
#   CACHE      folder that keeps the engine's programs and the base between runs (default: none)
#   TMPFS_GB   keep the engine's data in memory, at most this much; 0, the default: on disk in /var/tmp. The CUDA image needs 20 GB

engine_suite=trixie # Docker 26, buildx and Compose v2; Debian 12 itself has 20.10 and Compose v1
base_suite=bookworm
daemon='' fresh=()

engine_folder() {
    work=$(mktemp -d /var/tmp/medssl-docker.XXXXXX) # short: the names of unix sockets end at 108 characters
    [ "${TMPFS_GB:-0}" = 0 ] || mount -t tmpfs -o "size=${TMPFS_GB}g,mode=0755" medssl-docker "$work"
    chmod 755 "$work" # apt's own user works in it
    cache=${CACHE:-$work/cache}
    mkdir -p "$cache" "$work"/{bin,data,exec,config/cli-plugins}
}

engine_packages() { # iptables: the engine wants it inside the containers' network namespaces, for their names
    local need=() p
    for p in mmdebstrap runc iptables zstd; do dpkg -s "$p" >/dev/null 2>&1 || need+=("$p"); done
    [ ${#need[@]} = 0 ] && return
    export DEBIAN_FRONTEND=noninteractive
    { apt-get -qq update && apt-get -qq install -y --no-install-recommends "${need[@]}"; } >"$work/apt.log" 2>&1 ||
        { tail -20 "$work/apt.log" >&2; return 1; }
    echo "installed ${need[*]}"
}

engine_programs() {
    local e=$cache/engine/usr f
    if [ ! -e "$cache/engine/.done" ]; then
        rm -rf "$cache/engine"
        TMPDIR=$work mmdebstrap --quiet --mode=root --variant=extract --format=directory \
            --include=docker.io,docker-cli,docker-buildx,docker-compose "$engine_suite" "$cache/engine" 2>"$work/mm.log" ||
            { cat "$work/mm.log" >&2; return 1; }
        touch "$cache/engine/.done"
    fi
    for f in "$e"/sbin/{dockerd,docker-proxy} "$e"/bin/{docker,docker-init,containerd,containerd-shim-runc-v2}; do
        if ldd "$f" 2>&1 | grep -q 'not found'; then echo "$f does not run on this release" >&2; return 1; fi
        ln -s "$f" "$work/bin/"
    done
    ln -s "$e"/libexec/docker/cli-plugins/docker-* "$work/config/cli-plugins/"
    # With a stand-in for NVIDIA's hook the engine accepts `--gpus all` where there is no GPU. It gives the container no device.
    printf '#!/bin/sh\nexit 0\n' >"$work/bin/nvidia-container-runtime-hook"
    chmod +x "$work/bin/nvidia-container-runtime-hook"
    export PATH=$work/bin:$PATH DOCKER_CONFIG=$work/config DOCKER_HOST=unix://$work/docker.sock DOCKER_BUILDKIT=1
    unset DOCKER_CONTEXT
}

engine_start() {
    local d group=/sys/fs/cgroup/cpu/${work##*/}
    # All containers and builds together would weigh as one process of this machine: on a shared one they would starve
    if [ -e /sys/fs/cgroup/cpu/cpu.shares ]; then mkdir -p "$group" && echo 6144 >"$group/cpu.shares"; fi
    for d in /run/docker /run/containerd /opt/containerd; do [ -e "$d" ] || fresh+=("$d"); done # the engine makes these too
    echo '{}' >"$work/daemon.json"
    setpriv --pdeathsig TERM dockerd --config-file "$work/daemon.json" --data-root "$work/data" --exec-root "$work/exec" \
        --pidfile "$work/dockerd.pid" --cgroup-parent "/${work##*/}" --host "$DOCKER_HOST" --storage-driver overlay2 \
        --bridge none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false >"$work/dockerd.log" 2>&1 &
    daemon=$!
    for _ in $(seq 150); do
        docker version >/dev/null 2>&1 && return
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.2
    done
    tail -5 "$work/dockerd.log" >&2
    return 1
}

engine_base() { # engine_base NAME: the base image, in content that of the name, of Debian's packages of today
    if [ ! -e "$cache/$base_suite.tar" ]; then
        local sources=()
        if grep -qs "Suites:.*$base_suite" /etc/apt/sources.list.d/debian.sources; then
            sources=(/etc/apt/sources.list.d/debian.sources) # this machine's own, security updates among them
        fi
        TMPDIR=$work mmdebstrap --quiet --mode=root --variant=minbase --format=tar \
            --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
            --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
            "$base_suite" "$cache/$base_suite.tar.new" "${sources[@]}" 2>"$work/mm.log" || { cat "$work/mm.log" >&2; return 1; }
        mv "$cache/$base_suite.tar.new" "$cache/$base_suite.tar"
    fi
    docker import --change 'CMD ["bash"]' "$cache/$base_suite.tar" "$1" >/dev/null
}

engine_stop() {
    local m
    if [ -n "$daemon" ] && kill -0 "$daemon" 2>/dev/null; then
        docker ps -aq 2>/dev/null | xargs -r docker rm -fv >/dev/null 2>&1
        docker network prune -f >/dev/null 2>&1
        kill "$daemon"
        wait "$daemon" 2>/dev/null
    fi
    awk -v w="$work/" 'index($2 "/", w) == 1 { print $2 }' /proc/mounts | sort -r | while read -r m; do umount -l "$m"; done
    [ ${#fresh[@]} = 0 ] || rm -rf "${fresh[@]}"
    find /sys/fs/cgroup -depth -type d -path "*/${work##*/}*" -exec rmdir {} + 2>/dev/null
    rm -rf --one-file-system "$work"
}
