#!/usr/bin/env bash
# powercut.sh [ROUNDS=3] [ext4|xfs]
#
# Shows that a power cut costs no more than it must, and never leaves a wrong
# recovery point. The folder of the disks lies on a file system on a loop file,
# which lies on an XFS that can clone it: a clone is what would be on the platter
# if the power went now, without the page cache. In each round the clone is made
# at a random moment under load, everything is killed, the clone is mounted, and
# filter and sidecar go on with it. The next recovery point has to be equal to
# the disks, and no walk of the whole disks may have been needed.
#
# Needs root, loop devices, mkfs.xfs and mkfs.ext4. Exit code 0 if all is well.
set -euo pipefail

rounds=${1:-3}
fstype=${2:-ext4}
cd "$(dirname "$0")/.."
lifeboat=$PWD/bin/lifeboat
[ -x "$lifeboat" ] || { echo "powercut: build $lifeboat first: make build" >&2; exit 1; }

work=$(mktemp -d)
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  for m in "$work/clone/vms" "$work/inner/vms"; do
    while grep -q " $m fuse.lifeboat" /proc/mounts; do umount -l "$m"; done
  done
  for m in "$work/clone" "$work/inner" "$work/outer"; do
    mountpoint -q "$m" && umount "$m"
  done
  rm -rf "$work"
}
trap cleanup EXIT
mkdir "$work/outer" "$work/inner" "$work/clone"

truncate -s 6G "$work/outer.img"
mkfs.xfs -q -m reflink=1 "$work/outer.img"
mount -o loop,nodiscard "$work/outer.img" "$work/outer"

# ready FILE PID waits until a process has written to FILE, or died.
ready() {
  local tries=0
  until [ -s "$1" ]; do
    kill -0 "$2" 2>/dev/null && [ $((tries += 1)) -lt 200 ] || { echo "powercut: did not start: $3" >&2; cat "$3" >&2; exit 1; }
    sleep 0.1
  done
}

# start FOLDER starts filter and sidecar; their pids go to filter and sidecar.
start() {
  rm -f "$work/ready"
  "$lifeboat" mount --ready-fd 3 "$1" 3>"$work/ready" 2>>"$work/mount.log" &
  filter=$!
  pids+=("$filter")
  ready "$work/ready" "$filter" "$work/mount.log"
  rm -f "$work/ready"
  "$lifeboat" upload --ready-fd 3 --frequency 1s --store "file://$work/store" --create 3>"$work/ready" 2>>"$work/upload.log" &
  sidecar=$!
  pids+=("$sidecar")
  ready "$work/ready" "$sidecar" "$work/upload.log"
}

# load FILE... writes to the disks until it is killed: scattered, sometimes
# synced, sometimes a hole.
load() {
  exec python3 - "$@" <<'PY'
import os, random, sys
files = [os.open(p, os.O_RDWR) for p in sys.argv[1:]]
size = os.fstat(files[0]).st_size
while True:
    f = random.choice(files)
    n = random.choice([512, 4096, 65536, 1 << 20])
    at = random.randrange(0, size - n) // 512 * 512
    os.pwrite(f, os.urandom(n), at)
    if random.random() < 0.02:
        os.fsync(f)
    if random.random() < 0.01:
        os.ftruncate(f, random.randrange(size // 2, size))
        os.ftruncate(f, size)
PY
}

export LIFEBOAT_RUNTIME_DIR=$work/run LIFEBOAT_STATE_DIR=$work/state
bad=0
for round in $(seq "$rounds"); do
  rm -rf "$work/store" "$work/state" "$work/run" "$work/out"
  truncate -s 1G "$work/outer/inner.img"
  case $fstype in
    ext4) mkfs.ext4 -q -F "$work/outer/inner.img" ;;
    xfs) mkfs.xfs -q -f "$work/outer/inner.img" ;;
  esac
  mount -o loop,nodiscard "$work/outer/inner.img" "$work/inner"
  mkdir "$work/inner/vms"
  truncate -s 192M "$work/inner/vms/a.img" "$work/inner/vms/b.img"
  start "$work/inner/vms"
  load "$work/inner/vms/a.img" "$work/inner/vms/b.img" &
  writer=$!
  pids+=("$writer")
  "$lifeboat" protect --wait web01 "$work/inner/vms/a.img" "$work/inner/vms/b.img" >/dev/null
  sleep "$((RANDOM % 6 + 1)).$((RANDOM % 10))"

  cp --reflink=always "$work/outer/inner.img" "$work/outer/clone.img"
  kill -9 "$writer" "$filter" "$sidecar"
  wait "$writer" "$filter" "$sidecar" 2>/dev/null || true
  umount -l "$work/inner/vms"
  umount "$work/inner"

  option=
  [ "$fstype" = xfs ] && option=,nouuid
  mount -o "loop,nodiscard$option" "$work/outer/clone.img" "$work/clone"
  # This host did not boot anew; the file that tells the boot has to say it did.
  printf '00000000-0000-0000-0000-000000000000' | dd of="$work/clone/vms/.lifeboat/liveness" bs=1 seek=32 conv=notrunc status=none
  start "$work/clone/vms"
  tries=0
  until epoch=$("$lifeboat" cut --wait --json web01 2>"$work/cut.log" | sed -n 's/.*"epoch": \([0-9]*\).*/\1/p') && [ -n "$epoch" ]; do
    [ $((tries += 1)) -lt 100 ] || { echo "powercut: no recovery point: $(cat "$work/cut.log")" >&2; exit 1; }
    sleep 0.2
  done
  "$lifeboat" restore web01 --point "$epoch" --to "$work/out" --store "file://$work/store" >/dev/null
  result=equal
  for disk in a b; do
    cmp -s "$work/out/$disk.img" "$work/clone/vms/$disk.img" || { result=DIFFERENT; bad=1; }
  done
  walked=$(grep -c 'code=walk-required' "$work/mount.log" || true)
  [ "$walked" = 0 ] || { result="$result, but a walk was required"; bad=1; }
  echo "round $round, $fstype: recovery point $epoch after the cut is $result; $(grep -o 'and [0-9]* bytes in hot zones[^"]*' "$work/mount.log" | tail -1)"
  : >"$work/mount.log"

  kill -9 "$filter" "$sidecar"
  wait "$filter" "$sidecar" 2>/dev/null || true
  umount -l "$work/clone/vms"
  umount "$work/clone"
done
exit $bad
