#!/bin/bash
# What the official images of Redis and, under the name valkey.sh, of Valkey do, as far as our files and tests depend on it: the command runs as an
# unprivileged user in /data, open to the network of the container.
set -euo pipefail
kind=$(basename "$0" .sh)
[ "${1#-}" = "$1" ] && [ "${1%.conf}" = "$1" ] || set -- "$kind-server" "$@"
if [ "$(id -u)" = 0 ] && [ "$1" = "$kind-server" ]; then
  chown -R "$kind": .
  exec setpriv --reuid "$kind" --regid "$kind" --init-groups "$0" "$@"
fi
[ "$1" != "$kind-server" ] || set -- "$@" --protected-mode no
exec "$@"
