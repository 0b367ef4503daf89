#!/bin/bash
# What the official Redis image does, as far as our files and tests depend on it: the command runs as an unprivileged user in /data, open to the network
# of the container.
set -euo pipefail
[ "${1#-}" = "$1" ] && [ "${1%.conf}" = "$1" ] || set -- redis-server "$@"
if [ "$(id -u)" = 0 ] && [ "$1" = redis-server ]; then
  chown -R redis: .
  exec setpriv --reuid redis --regid redis --init-groups "$0" "$@"
fi
[ "$1" != redis-server ] || set -- "$@" --protected-mode no
exec "$@"
