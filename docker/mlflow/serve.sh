#!/bin/sh
# MLflow with authentication, on PostgreSQL. Passwords are read from files (/run/secrets); none is in an address, a command line or a log.
#
#   serve.sh [upgrade]      upgrade: the tables of an earlier MLflow are changed to this one's, which only a backup undoes
set -eu
umask 077
printf 'database:5432:*:mlflow:%s\n' "$(cat /run/secrets/database_password)" >/tmp/pgpass
cat >/tmp/auth.ini <<INI
[mlflow]
default_permission = READ
database_uri = postgresql+psycopg2://mlflow@database/accounts
admin_username = admin
INI
export PGPASSFILE=/tmp/pgpass MLFLOW_AUTH_CONFIG_PATH=/tmp/auth.ini
[ "${1:-}" != upgrade ] || exec mlflow db upgrade postgresql+psycopg2://mlflow@database/mlflow
MLFLOW_AUTH_ADMIN_PASSWORD=$(cat /run/secrets/mlflow_admin_password)
MLFLOW_FLASK_SERVER_SECRET_KEY=$(cat /run/secrets/mlflow_cookie_key)
export MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY
exec mlflow server --host 0.0.0.0 --port 5000 --workers 2 --app-name basic-auth --allowed-hosts 'mlflow:5000,localhost:*,127.0.0.1:*' \
    --backend-store-uri postgresql+psycopg2://mlflow@database/mlflow --artifacts-destination /artifacts
