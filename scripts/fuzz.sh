#!/usr/bin/env bash
# fuzz.sh DURATION
# Runs every fuzz target of the module for DURATION (10s, 5m, 1000x…). Input
# that fails is kept by Go in testdata/fuzz beside the test, to be committed.
set -euo pipefail

duration=${1:-10s}
cd "$(dirname "$0")/.."

found=0
while IFS=: read -r file _ target; do
  found=$((found + 1))
  echo "== $(dirname "$file") $target"
  go test -run '^$' -fuzz "^${target}\$" -fuzztime "$duration" "./$(dirname "$file")"
done < <(git grep --untracked -noE '^func Fuzz[A-Za-z0-9_]+' -- '*_test.go' | sed 's/func //')

if [ "$found" -eq 0 ]; then
  echo "fuzz: no fuzz target found" >&2
  exit 1
fi
echo "$found fuzz targets, nothing found"
