#!/usr/bin/env bash
# passthrough-hp.sh PROGRAM
# Builds libfuse's example passthrough_hp, which the benchmark compares with,
# from the distribution's source package. Fails where that is not possible; the
# benchmark does without it then.
set -euo pipefail

program=$1
if [ -x "$program" ]; then
  exit 0
fi

fail() {
  echo "passthrough_hp is not compared with: $*" >&2
  exit 1
}

command -v apt-get >/dev/null || fail "this system has no apt-get"
command -v g++ >/dev/null && pkg-config --exists fuse3 2>/dev/null ||
  fail "building it needs g++, pkg-config and libfuse3-dev (apt-get install g++ pkg-config libfuse3-dev)"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{parts,lists/partial,source} "$(dirname "$program")"

# The system's own sources of packages, for source code, beside them.
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
  if [ -e "$list" ]; then
    sed -n 's/^deb /deb-src /p' "$list" >"$work/parts/$(basename "$list" .list)-src.list"
  fi
done
for list in /etc/apt/sources.list.d/*.sources; do
  if [ -e "$list" ]; then
    sed 's/^Types:.*/Types: deb-src/' "$list" >"$work/parts/$(basename "$list")"
  fi
done
apt=(apt-get -qq -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work/parts" -o "Dir::State::lists=$work/lists")

cd "$work/source"
"${apt[@]}" update >/dev/null 2>"$work/said" && "${apt[@]}" source --download-only fuse3 >/dev/null 2>>"$work/said" ||
  fail "its source package cannot be had: $(tail -n 1 "$work/said")"
tar -xf fuse3_*.orig.tar.*z --strip-components=1
flags=$(pkg-config --cflags --libs fuse3)
# shellcheck disable=SC2086 # flags are several words
g++ -std=c++17 -O2 -w -include cstdint example/passthrough_hp.cc -o "$work/program" $flags -lpthread 2>"$work/said" ||
  fail "it does not compile: $(head -n 1 "$work/said")"
mv "$work/program" "$program"
