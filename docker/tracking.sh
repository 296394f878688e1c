#!/bin/bash
# What docker/compose.yaml needs beside it. The stack is up, except for `secrets`.
#
#   docker/tracking.sh secrets            passwords of chance into docker/secrets/; those that are there stay
#   docker/tracking.sh account NAME       another account of the tracking server, or another password for it (from the standard input)
#   docker/tracking.sh backup FOLDER      both databases and the files of all runs, while the stack goes on
#   docker/tracking.sh restore FOLDER     what is there now is replaced by the backup

set -euo pipefail
here=$(dirname "$(realpath "$0")")
umask 077
stack() { docker compose -f "$here/compose.yaml" "$@"; }

secrets() {
    mkdir -p "$here/secrets"
    chmod 700 "$here/secrets"
    cd "$here/secrets"
    for name in database_password mlflow_admin_password mlflow_cookie_key mlflow_password; do
        [ -s "$name" ] || head -c 24 /dev/urandom | base64 | tr '+/' '-_' >"$name"
    done
    printf '[mlflow]\nmlflow_tracking_username = medssl\nmlflow_tracking_password = %s\n' "$(cat mlflow_password)" >mlflow_credentials
    chmod 444 ./* # they are bound into containers whose users are others; who is here is decided by the folder's mode
    echo "secrets in $here/secrets"
}

account() {
    [ ! -t 0 ] || echo "password for $1:" >&2
    read -rs password || [ -n "$password" ]
    stack run --rm --no-deps -T --entrypoint "python /opt/mlflow/accounts.py $1" accounts <<<"$password"
}

backup() {
    mkdir -p "$1"
    for name in mlflow accounts; do stack exec -T database pg_dump --format=custom "$name" >"$1/$name.dump.part"; done
    stack exec -T mlflow tar --create --directory=/artifacts . >"$1/artifacts.tar.part" # after the databases: what these name is there
    for name in mlflow.dump accounts.dump artifacts.tar; do mv "$1/$name.part" "$1/$name"; done
    (cd "$1" && sha256sum mlflow.dump accounts.dump artifacts.tar >SHA256SUMS)
    ls -lh "$1"
}

restore() {
    (cd "$1" && sha256sum --check --quiet SHA256SUMS)
    stack stop mlflow
    for name in mlflow accounts; do
        stack exec -T database dropdb --if-exists --force "$name"
        stack exec -T database createdb "$name"
        stack exec -T database pg_restore --exit-on-error --single-transaction --dbname="$name" <"$1/$name.dump"
    done
    stack up -d --wait mlflow
    stack exec -T mlflow sh -c 'rm -rf /artifacts/* && tar --extract --directory=/artifacts' <"$1/artifacts.tar"
    echo "restored from $1"
}

case ${1:-} in
    secrets) secrets ;;
    account | backup | restore) "$1" "${2:?$1 what? See the head of $0}" ;;
    *)
        sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
        exit 2
        ;;
esac
