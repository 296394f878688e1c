# shellcheck shell=bash disable=SC2016,SC2154 # scripts in single quotes are for another shell; verify.sh sets work and root
# The archive: made, damaged, and installed where there is no network. Sourced by docker/verify.sh.

offline() { unshare --net "$@"; } # a network namespace of its own, in which not even lo is up

verify_bundle() {
    say "archive"
    local archive=$work/out-of-house/medssl-bundle.tar pip=()
    [ -z "${pip_conf:-}" ] || pip=(-u PIP_FIND_LINKS PIP_CONFIG_FILE="$pip_conf")
    check "make bundle" timed "bundle" env "${pip[@]}" TMPDIR="$work" PYTHON="${PYTHON:-python3.11}" "$root/docker/bundle.sh" "$archive"
    [ -s "$archive" ] || return 0
    tail -6 "$work/out" | sed 's/^/     /'
    mkdir -p "$work/inside"
    tar --extract --file="$archive" --directory="$work/inside"
    rm "$archive"
    cd "$work/inside/medssl-bundle" || return
    du -sh ./* | sed 's/^/     /'
    say "installed without a network"
    check "there is none (so that the next lines say something)" sh -c '! unshare --net python3 -c "import socket; socket.create_connection((\"127.0.0.1\", 18731), 2)"'
    cp docs/index.html "$work/page"
    printf X | dd of=docs/index.html bs=1 seek=100 conv=notrunc status=none
    check "a changed byte is refused, and nothing installed" sh -c \
        '! ./install.sh "$1/place" >"$1/said" 2>&1; cat "$1/said"; grep -q damaged "$1/said" && [ ! -e "$1/place" ]' _ "$work"
    mv "$work/page" docs/index.html
    check "installs" timed "installed" offline env -i PATH="$PATH" HOME="$work" PYTHON="${PYTHON:-python3.11}" ./install.sh "$work/place"
    du -sh "$work/place" | sed 's/^/     /'
    check "pretrains" timed "pretrain" offline env -i PATH=/usr/bin:/bin HOME="$work/home" "$work/place/bin/medssl" pretrain --data phantom --preset demo \
        --set train.epochs=3 --out "$work/first-run"
    check "fine-tunes, and writes a report" timed "finetune" offline env -i PATH=/usr/bin:/bin HOME="$work/home" "$work/place/bin/medssl" finetune \
        --labels 10pct --encoder "$work/first-run" --out "$work/first-report"
    check "the report is there" [ -s "$work/first-report/report.html" ]
    check "the images load" timed "docker load" sh -c 'docker image rm -f medssl medssl-mlflow medssl-database >/dev/null; ./install.sh --images && docker image inspect medssl medssl-mlflow medssl-database >/dev/null'
    cd "$root" || return
}
