#!/bin/bash
# What the official Postgres image does, as far as our files and tests depend on it: an empty data directory becomes a cluster with user, password and
# database of the environment and the files of /docker-entrypoint-initdb.d; then the command runs as an unprivileged user.
set -euo pipefail
bin=$(echo /usr/lib/postgresql/*/bin)
export PATH=$bin:$PATH PGDATA=${PGDATA:-/var/lib/postgresql/data}
[ "${1:-postgres}" = postgres ] || [ "${1#-}" != "$1" ] || exec "$@"
[ "${1#-}" = "$1" ] || set -- postgres "$@"

if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA" /var/run/postgresql
  chown -R postgres: "$PGDATA" /var/run/postgresql
  exec setpriv --reuid postgres --regid postgres --init-groups "$0" "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  user=${POSTGRES_USER:-postgres}
  database=${POSTGRES_DB:-$user}
  password=${POSTGRES_PASSWORD:-$(cat "${POSTGRES_PASSWORD_FILE:?POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE must be set}")}
  initdb --username "$user" --pwfile <(printf '%s\n' "$password") --auth-local trust --auth-host scram-sha-256 --encoding UTF8 --locale C.UTF-8
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
  echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
  # The server that loads the files listens on its socket only: nobody outside takes it for the real one.
  pg_ctl -w start -o "-c listen_addresses=''"
  [ "$database" = postgres ] || createdb --username "$user" "$database"
  for file in /docker-entrypoint-initdb.d/*; do
    case $file in
      *.sql) echo "loading $file"; psql -v ON_ERROR_STOP=1 --no-psqlrc --quiet --username "$user" --dbname "$database" --file "$file" ;;
      *.sh) echo "running $file"; POSTGRES_USER=$user POSTGRES_DB=$database bash "$file" ;;
    esac
  done
  pg_ctl -w -m fast stop
fi
exec "$@"
