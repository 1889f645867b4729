#!/usr/bin/env bash
# bench.sh [flags of integration/bench]
# Measures what the filter costs a guest, against a native folder and other FUSE
# file systems, in one run, and prints Markdown. Needs root, 25 GiB of space, and
# a quiet machine for an hour; docs/PERFORMANCE.md keeps what it printed.
set -euo pipefail

cd "$(dirname "$0")/.."
mkdir -p .cache/bin
go build -o .cache/bin/bench ./integration/bench
foreign=()
if scripts/passthrough-hp.sh "$PWD/.cache/bin/passthrough_hp"; then
  foreign=(-foreign "$PWD/.cache/bin/passthrough_hp")
fi
.cache/bin/bench "${foreign[@]}" "$@"

echo
echo "### The gate and the tracker alone"
echo
echo '```'
go test ./tracker -run '^$' -bench 'Gate|SteadyState|FirstTouch|BeforeImage|Rollover' -benchmem | grep -E '^(Benchmark|cpu)'
echo '```'
