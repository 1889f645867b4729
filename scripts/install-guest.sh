#!/usr/bin/env bash
# install-guest.sh DIRECTORY
# Fetches the kernel that the tests boot in QEMU: Debian's for clouds, with the
# modules that a virtio disk needs, named in the order in which they are to be
# loaded. Does nothing, quickly, when it is there.
set -euo pipefail

directory=$1
modules=(virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk)

if [ -f "$directory/installed" ]; then
  exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
  echo "install-guest: this system has no apt-get; put a Linux kernel for QEMU into $directory/vmlinuz, its virtio modules (${modules[*]}) into $directory/modules, and make the file $directory/installed" >&2
  exit 1
fi

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)

# fetch downloads the package that the lists of packages name now.
fetch() {
  package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: *//p' | head -1)
  [ -n "$package" ] && (cd "$directory/package" && apt-get download -qq -o APT::Sandbox::User=root "$package")
}

echo "Installing a kernel for guests into $directory"
rm -rf "$directory"
mkdir -p "$directory/modules" "$directory/package"
# The lists may be old or missing; they are fetched only then.
fetch 2>/dev/null || {
  "${as_root[@]}" apt-get update -qq
  fetch || {
    echo "install-guest: apt cannot fetch the kernel that linux-image-cloud-amd64 depends on" >&2
    exit 1
  }
}
(cd "$directory/package" && dpkg-deb -x ./*.deb .)
cp "$directory"/package/boot/vmlinuz-* "$directory/vmlinuz"
for i in "${!modules[@]}"; do
  file=$(find "$directory/package" -name "${modules[i]}.ko" -print -quit)
  cp "${file:?install-guest: $package has no module ${modules[i]}}" "$directory/modules/$i-${modules[i]}.ko"
done
rm -r "$directory/package"
# Written last, so that an interrupted installation is done again.
touch "$directory/installed"
