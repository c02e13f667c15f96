#!/usr/bin/env bash
# Installs what is missing, on Debian 12 and 13 and Ubuntu; does nothing, at once, when nothing is.
#
#     tests/deps.sh [build] [demo] [kafka] [test] [fuzz] [bench]      (build demo)
#
#     build   compiler and libraries            demo   build, servers, kcat
#     kafka   Java and Maven for a real broker  test   demo, kafka, fuzz, check, jsonschema, pgbouncer
#     fuzz    clang and its runtimes            bench  valgrind and perf, for its profile
#
# The servers' packages start nothing: neither now nor at the next boot. Servers that are there already are left alone.
# Exit codes: 0; 1 when something is missing and may not be installed from here, with the command to run, or when it was
# installed and is not found.
set -euo pipefail
export LC_ALL=C # What APT's tools say is read.

missing=()

has_library() { pkg-config --exists "$@" 2>/dev/null; }
has_initdb() { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null; }

# Debian's package is Debian's Python's, whichever python3 comes first in the PATH.
has_jsonschema() {
	local python
	for python in python3 /usr/bin/python3; do
		"$python" -c 'from jsonschema import Draft202012Validator' 2>/dev/null && return 0
	done
	return 1
}

# The broker's jars are for Java 17 and later.
has_java() {
	local version
	version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p') || return 1
	[ "${version:-0}" -ge 17 ]
}

# The one that belongs to the clang that is run, which may not be Debian's.
has_fuzzer() { [ -e "$(clang -print-file-name="libclang_rt.fuzzer-$(uname -m).a")" ]; }

# want PACKAGE TEST...: the package is missing when the test fails
want() {
	local package=$1
	shift
	"$@" >/dev/null 2>&1 || missing+=("$package")
}

want_build() {
	want gcc command -v cc
	want libc6-dev test -e /usr/include/stdio.h
	want make command -v make
	want pkg-config command -v pkg-config
	want librdkafka-dev has_library rdkafka
	want libjansson-dev has_library jansson
	want libpq-dev has_library libpq
	want libhiredis-dev has_library hiredis
	want libevent-dev has_library libevent_core libevent_extra
}

want_demo() {
	want_build
	want postgresql has_initdb
	want postgresql-client command -v psql
	want redis-server command -v redis-server
	want kcat command -v kcat
	want python3 command -v python3
}

want_kafka() {
	want java has_java
	want maven command -v mvn
}

want_test() {
	want_demo
	want_kafka
	want check has_library check
	want python3-jsonschema has_jsonschema
	want pgbouncer test -x /usr/sbin/pgbouncer
	want_fuzz
	want git command -v git
}

want_fuzz() {
	want_build
	want clang command -v clang
	want libclang-rt-dev has_fuzzer
}

want_bench() {
	want valgrind command -v callgrind_control
	want perf command -v perf
}

# Sets `missing` to what the goals want and do not find.
look() {
	local goal
	missing=()
	for goal in "$@"; do
		"want_$goal"
	done
}

# Sets `packages` to what `missing` is called here, each once.
resolve_all() {
	local package
	mapfile -t packages < <(for package in "${missing[@]}"; do resolve "$package"; done | sort -u)
}

# Whether APT would install a package of this name. `apt-cache show` also answers for those that are gone from the
# archive and that others only provide, as openjdk-17-jre-headless on Debian 13.
can_install() { [[ $(apt-cache policy "$1") == *'  Candidate: '[!\(]* ]]; }

# The first of these names that can be installed, or the last.
choose() {
	while [ $# -gt 1 ] && ! can_install "$1"; do
		shift
	done
	echo "$1"
}

# What a package is called here: Debian numbers clang's runtimes, Ubuntu 22.04 has them in another package and Java 11
# by default.
resolve() {
	case $1 in
	java) choose openjdk-17-jre-headless default-jre-headless ;;
	perf) choose linux-perf linux-tools-generic ;; # Debian's name, then Ubuntu's
	libclang-rt-dev)
		local version
		version=$(clang -dumpversion 2>/dev/null | sed 's/\..*//') || version=
		[ -n "$version" ] ||
			version=$(apt-cache depends clang | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p' | head -n 1)
		choose "libclang-rt-$version-dev" "libclang-common-$version-dev" ;;
	*) echo "$1" ;;
	esac
}

install() {
	local held=/usr/sbin/policy-rc.d no_cluster=/etc/postgresql-common/createcluster.d/delivery-worker.conf
	local had_redis=yes had_pgbouncer=yes script
	command -v redis-server >/dev/null || had_redis=no
	[ -x /usr/sbin/pgbouncer ] || had_pgbouncer=no
	# One shell as root for all of it: its trap takes back what holds the servers, whatever happens.
	# shellcheck disable=SC2016
	script='
		held=$1 no_cluster=$2 had_redis=$3 had_pgbouncer=$4
		shift 4
		trap '\''[ -z "${placed:-}" ] || rm -f "$held"; rm -f "$no_cluster"'\'' EXIT
		[ -e "$held" ] || { printf "#!/bin/sh\nexit 101\n" >"$held"; chmod 755 "$held"; placed=yes; }
		mkdir -p "${no_cluster%/*}"
		echo "create_main_cluster = false" >"$no_cluster"
		export DEBIAN_FRONTEND=noninteractive
		apt-get -q -y install --no-install-recommends "$@"
		if command -v systemctl >/dev/null; then
			[ "$had_redis" = yes ] || systemctl disable redis-server >/dev/null 2>&1 || true
			[ "$had_pgbouncer" = yes ] || systemctl disable pgbouncer >/dev/null 2>&1 || true
		fi'
	"${as_root[@]}" bash -euc "$script" deps "$held" "$no_cluster" "$had_redis" "$had_pgbouncer" "$@"
}

[ $# -gt 0 ] || set -- build demo
for goal in "$@"; do
	case $goal in
	build | demo | kafka | test | fuzz | bench) ;;
	*)
		echo "deps: unknown goal $goal; build, demo, kafka, test, fuzz or bench" >&2
		exit 2 ;;
	esac
done
look "$@"
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
	echo "deps: missing, and this is no Debian: install the like of ${missing[*]}" >&2
	exit 1
fi
as_root=()
if [ "$(id -u)" != 0 ]; then
	as_root=(sudo -n)
	if ! sudo -n true 2>/dev/null; then
		resolve_all
		echo "deps: missing; run: sudo apt-get install ${packages[*]}" >&2
		exit 1
	fi
fi
"${as_root[@]}" apt-get -q update
resolve_all
echo "deps: installing ${packages[*]}"
install "${packages[@]}"
look "$@"
if [ ${#missing[@]} -gt 0 ]; then
	echo "deps: installed, and still not found: ${missing[*]}; does another version stand first in PATH?" >&2
	exit 1
fi
