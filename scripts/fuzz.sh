#!/usr/bin/env bash
# fuzz.sh DURATION
# Runs every fuzz target of the module for DURATION (10s, 5m, 1000x…). Input
# that fails is kept by Go in testdata/fuzz beside the test, to be committed.
set -euo pipefail

duration=${1:-10s}
cd "$(dirname "$0")/.."

output=$(mktemp)
trap 'rm -f "$output"' EXIT

# fuzz PACKAGE TARGET
fuzz() {
  if go test -run '^$' -fuzz "^$2\$" -fuzztime "$duration" "$1" 2>&1 | tee "$output"; then
    return
  fi
  # When the time is up in the middle of an input, Go sometimes reports its own
  # deadline as a failure. A finding always names a file with the input.
  if grep -q '^ *context deadline exceeded$' "$output" && ! grep -qE 'Failing input written|panic:|DATA RACE' "$output"; then
    echo "(the time was up in the middle of an input; nothing found)"
    return
  fi
  exit 1
}

found=0
while IFS=: read -r file _ target; do
  found=$((found + 1))
  echo "== $(dirname "$file") $target"
  fuzz "./$(dirname "$file")" "$target"
done < <(git grep --untracked -noE '^func Fuzz[A-Za-z0-9_]+' -- '*_test.go' | sed 's/func //')

if [ "$found" -eq 0 ]; then
  echo "fuzz: no fuzz target found" >&2
  exit 1
fi
echo "$found fuzz targets, nothing found"
