# shellcheck shell=bash disable=SC2016,SC2154 # scripts in single quotes are for the container's shell; verify.sh sets work and root
# docker/compose.yaml: accounts, ports, a kill -9 of each part in the middle of a training, backup and restore. Sourced by docker/verify.sh.

stack() { docker compose -f "$root/docker/compose.yaml" "$@"; }
in_stack() { stack run --rm -T --no-deps --entrypoint python medssl "$@"; }
process_of() { inspect '{{.State.Pid}}' "$(stack ps -q "$1")"; }
metrics() { docker run --rm --network none -v medssl_out:/out --entrypoint sh medssl -c 'wc -l </out/tracked/metrics.jsonl 2>/dev/null || echo 0'; }
compare() { in_stack - <"$root/docker/verify/compare.py"; }
has_rows() { [ "$(metrics)" -ge "$1" ]; }
service_healthy() { healthy "$(stack ps -q "$1")"; }
code() { curl --silent --output /dev/null --write-out '%{http_code}' --max-time 25 "$@"; }

killed() { # killed SERVICE: all its processes, as a crash or the out-of-memory killer does; Docker starts it again
    local before
    before=$(process_of "$1")
    kill -9 "$before"
    echo "     kill -9 of $1 (process $before) when the run had $(metrics) rows"
}
again() { [ "$(process_of "$1")" != "$2" ] && service_healthy "$1"; }

verify_tracking() {
    say "tracking: docker/compose.yaml"
    if command -v check-jsonschema >/dev/null; then
        check "schema of the compose files" check-jsonschema --builtin-schema vendor.compose-spec "$root"/docker/compose*.yaml
    fi
    check "secrets are made, for the operator alone" sh -c '"$1/docker/tracking.sh" secrets && [ "$(stat -c %a "$1/docker/secrets")" = 700 ]' _ "$root"
    check "up: database, then MLflow, both healthy" timed "up" stack up -d --wait --wait-timeout 400 mlflow
    stack ps --format '     {{.Service}} {{.Status}} {{.Ports}}'
    local address='http://127.0.0.1:5000/api/2.0/mlflow/experiments/search?max_results=1' password
    password=$(cat "$root/docker/secrets/mlflow_admin_password")
    check "S13: without an account 401" [ "$(code "$address")" = 401 ]
    check "S13: MLflow's former password of everybody 401" [ "$(code --user admin:password1234 "$address")" = 401 ]
    check "S13: with the account 200" [ "$(code --user "admin:$password" "$address")" = 200 ]
    check "S13: a foreign Host header is refused" [ "$(code --user "admin:$password" -H 'Host: evil.example' "$address")" = 403 ]
    check "S13: closed on the machine's other address" [ "$(code "http://$(hostname -I | cut -d' ' -f1):5000/")" = 000 ]
    check "S13: the database has no port outside" [ -z "$(docker port "$(stack ps -q database)")" ]
    check "a reader's account" sh -c 'echo a-secret-of-a-reader | "$1/docker/tracking.sh" account reader' _ "$root"
    check "it reads: 200" [ "$(code --user reader:a-secret-of-a-reader "$address")" = 200 ]
    check "it cannot delete what is not its own: 403" [ "$(code --user reader:a-secret-of-a-reader --json '{"experiment_id": "0"}' "${address%search*}delete")" = 403 ]
    check "S18: no password in a command line, an environment or a log" no_password "$password" "$(cat "$root/docker/secrets/database_password")"
    check "S12: the services have a read-only root, no capability, no root user" services_locked
    verify_outages
    verify_backup
    t0=$(now)
    stack stop >/dev/null 2>&1
    echo "     [$(since "$t0") s] stop"
    check "stop: nothing had to be killed" sh -c '! docker ps -a --format "{{.Status}}" | grep "(137)"'
    stack down -v >/dev/null 2>&1
    rm -rf "$root/docker/secrets"
}

no_password() {
    local word
    for word in "$@"; do
        docker ps -q | xargs docker inspect | grep -F "$word" && return 1
        grep -laFf <(echo "$word") /proc/[0-9]*/cmdline 2>/dev/null && return 1
        stack logs 2>&1 | grep -F "$word" && return 1
    done
    return 0
}

services_locked() {
    local name
    for name in mlflow database; do
        stack exec -T "$name" sh -c '[ "$(id -u)" = 1000 ] && ! touch /probe 2>/dev/null && grep -q "^CapEff:.0*$" /proc/self/status' || return 1
    done
}

verify_outages() {
    say "a training, and a kill -9 of each part"
    local before
    stack run -d --name tracked medssl pretrain --data phantom --out tracked --preset demo --set train.epochs=60 \
        --set train.save_every_steps=10 --set monitor.log_every_steps=1 >/dev/null
    check "the account of trainings was made" sh -c 'docker logs "$1" 2>&1 | grep "account medssl made"' _ "$(stack ps -aq accounts)"
    check "it trains" waits 400 has_rows 10
    before=$(process_of mlflow)
    killed mlflow
    check "MLflow is back by itself" timed "back" waits 240 again mlflow "$before"
    check "the training went on meanwhile" waits 120 has_rows 20
    before=$(process_of database)
    killed database
    check "PostgreSQL is back by itself" timed "back" waits 240 again database "$before"
    check "the training went on meanwhile, too" waits 240 has_rows 40
    kill -9 "$(inspect '{{.State.Pid}}' tracked)"
    docker wait tracked >/dev/null
    echo "     kill -9 of the training when it had $(metrics) rows"
    check "the training goes on and ends with 0" timed "resumed" stack run --no-deps --name resumed -T medssl pretrain --resume tracked
    for name in tracked resumed; do docker logs "$name" 2>&1 | grep -E 'warning|resum|encoder ' | sed 's/^/     /' || true; done
    echo "     before \`medssl track\`: $(compare 2>&1 | tail -1 || true)"
    check "medssl track" stack run --rm --no-deps -T medssl track tracked
    check "no number is lost, none is doubled, none differs" compare
    sed 's/^/     /' "$work/out" | tail -1
    docker rm tracked resumed >/dev/null
}

verify_backup() {
    say "backup and restore"
    local folder=$work/backup
    check "backup while it runs" timed "backup" "$root/docker/tracking.sh" backup "$folder"
    du -sh "$folder" | sed 's/^/     /'
    in_stack -c 'import mlflow; client = mlflow.MlflowClient(); [client.delete_run(run.info.run_id) for e in client.search_experiments() for run in client.search_runs([e.experiment_id])]' >/dev/null 2>&1
    check "the runs are gone (so that the next line says something)" sh -c '! "$@"' _ env bash -c "$(declare -f stack in_stack compare); root=$root compare"
    stack rm --stop --force mlflow database >/dev/null 2>&1
    docker volume rm medssl_database medssl_artifacts >/dev/null
    check "a new, empty stack" stack up -d --wait --wait-timeout 400 mlflow
    check "restore" timed "restore" "$root/docker/tracking.sh" restore "$folder"
    check "all numbers are there again" compare
    check "the encoder's file came back as it was" in_stack -c '
import hashlib, mlflow, pathlib
client = mlflow.MlflowClient()
run = client.search_runs([e.experiment_id for e in client.search_experiments()])[0]
file = client.download_artifacts(run.info.run_id, "encoder.safetensors", "/tmp")
digest = lambda path: hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
assert digest(file) == digest("/out/tracked/encoder.safetensors")'
}
