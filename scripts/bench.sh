#!/usr/bin/env bash
# bench.sh [flags of integration/bench]
# Measures what the filter costs a guest, against a native directory and
# go-fuse's loopback, in one run. Needs root and a quiet machine.
set -euo pipefail

cd "$(dirname "$0")/.."
exec go run ./integration/bench "$@"
