#!/bin/sh
# PostgreSQL for the tracking server: made at the first start, with the password of a file (/run/secrets/database_password).
# A cluster that was half made when the machine stopped is made again: it takes its name when it is whole.
set -eu
umask 077
data=/database/cluster
if [ ! -d "$data" ]; then
    rm -rf "$data.part"
    initdb --pgdata="$data.part" --username=mlflow --pwfile=/run/secrets/database_password --auth-local=trust --auth-host=scram-sha-256 \
        --encoding=UTF8 --locale=C.UTF-8 --data-checksums >/dev/null
    echo 'host all all all scram-sha-256' >>"$data.part/pg_hba.conf"
    for name in mlflow accounts; do echo "CREATE DATABASE $name;" | postgres --single -D "$data.part" postgres >/dev/null; done
    mv "$data.part" "$data"
fi
exec postgres -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp
