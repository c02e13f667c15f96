#!/usr/bin/env bash
# Installs what is missing, on Debian 12 and 13 and Ubuntu; does nothing, at once, when nothing is.
#
#     tests/deps.sh [build] [demo] [kafka] [test] [fuzz] [bench]      (build demo)
#
#     build   compiler and libraries            demo   build, servers, kcat
#     kafka   Java and Maven for a real broker  test   demo, kafka, fuzz, check, jsonschema
#     fuzz    clang and its runtimes            bench  valgrind and perf, for its profile
#
# The servers' packages start nothing: neither now nor at the next boot. Servers that are there already are left alone.
# Exit codes: 0; 1 when something is missing and may not be installed from here, with the command to run.
set -euo pipefail

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
	want_fuzz
	want git command -v git
}

want_fuzz() {
	want_build
	want clang command -v clang
	want libclang-rt-dev compgen -G '/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a'
}

want_bench() {
	want valgrind command -v callgrind_control
	want perf command -v perf
}

# Sets `packages` to what `missing` is called here, each once.
resolve_all() {
	local package
	mapfile -t packages < <(for package in "${missing[@]}"; do resolve "$package"; done | sort -u)
}

# What a package is called here: Debian numbers clang's runtimes, Ubuntu 22.04 has them in another package and Java 11
# by default.
resolve() {
	case $1 in
	java)
		if apt-cache show openjdk-17-jre-headless >/dev/null 2>&1; then
			echo openjdk-17-jre-headless
		else
			echo default-jre-headless
		fi ;;
	perf) # Debian's name, then Ubuntu's
		if apt-cache show linux-perf >/dev/null 2>&1; then echo linux-perf; else echo linux-tools-generic; fi ;;
	libclang-rt-dev)
		local version
		version=$(apt-cache depends clang | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p' | head -n 1)
		if apt-cache show "libclang-rt-$version-dev" >/dev/null 2>&1; then
			echo "libclang-rt-$version-dev"
		else
			echo "libclang-common-$version-dev"
		fi ;;
	*) echo "$1" ;;
	esac
}

install() {
	local held=/usr/sbin/policy-rc.d no_cluster=/etc/postgresql-common/createcluster.d/delivery-worker.conf
	local had_redis=yes script
	command -v redis-server >/dev/null || had_redis=no
	# One shell as root for all of it: its trap takes back what holds the servers, whatever happens.
	# shellcheck disable=SC2016
	script='
		held=$1 no_cluster=$2 had_redis=$3
		shift 3
		trap '\''[ -z "${placed:-}" ] || rm -f "$held"; rm -f "$no_cluster"'\'' EXIT
		[ -e "$held" ] || { printf "#!/bin/sh\nexit 101\n" >"$held"; chmod 755 "$held"; placed=yes; }
		mkdir -p "${no_cluster%/*}"
		echo "create_main_cluster = false" >"$no_cluster"
		export DEBIAN_FRONTEND=noninteractive
		apt-get -q -y install --no-install-recommends "$@"
		if [ "$had_redis" = no ] && command -v systemctl >/dev/null; then
			systemctl disable redis-server >/dev/null 2>&1 || true
		fi'
	"${as_root[@]}" bash -euc "$script" deps "$held" "$no_cluster" "$had_redis" "$@"
}

for goal in "${@:-demo}"; do
	case $goal in
	build | demo | kafka | test | fuzz | bench) "want_$goal" ;;
	*)
		echo "deps: unknown goal $goal; build, demo, kafka, test, fuzz or bench" >&2
		exit 2 ;;
	esac
done
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
echo "deps: installing ${missing[*]}"
"${as_root[@]}" apt-get -q update
resolve_all
install "${packages[@]}"
