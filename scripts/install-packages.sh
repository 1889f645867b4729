#!/usr/bin/env bash
# Installs the system packages that the tests, the demonstration and the
# benchmark need. Does nothing, quickly, when all of them are there.
set -euo pipefail

# Administrators' tools are not on everybody's path.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# A command, and the Debian packages that bring it.
needs=(
  "fusermount3 fuse3"
  "fio fio"
  "qemu-img qemu-utils"
  "qemu-system-x86_64 qemu-system-x86"
  "sqlite3 sqlite3"
  "losetup mount"
  "mkfs.ext4 e2fsprogs"
  "mkfs.xfs xfsprogs"
  "getfattr attr"
  "setfacl acl"
  "node nodejs"
  "npm npm"
  "gcc gcc libc6-dev" # the race detector needs a C compiler
  "git git"
)

commands=()
packages=()
for need in "${needs[@]}"; do
  read -r command names <<<"$need"
  if ! command -v "$command" >/dev/null; then
    commands+=("$command")
    read -ra names <<<"$names"
    packages+=("${names[@]}")
  fi
done
if [ ${#packages[@]} -eq 0 ]; then
  exit 0
fi

if ! command -v apt-get >/dev/null; then
  {
    echo "install-packages: this system has no apt-get; install with its own tools what brings these commands:"
    printf '  %s\n' "${commands[@]}"
    echo "(Debian's names of the packages: ${packages[*]})"
  } >&2
  exit 1
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install-packages: not root, and there is no sudo; run as root: apt-get install ${packages[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "Installing ${packages[*]}"
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}")
# The lists of packages may be old or missing; they are fetched only then.
"${install[@]}" >/dev/null 2>&1 || {
  "${as_root[@]}" apt-get update -qq
  "${install[@]}" >/dev/null
}

missing=()
for command in "${commands[@]}"; do
  command -v "$command" >/dev/null || missing+=("$command")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "install-packages: installed ${packages[*]}, but still not found: ${missing[*]}" >&2
  exit 1
fi
