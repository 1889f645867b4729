#!/usr/bin/env bash
# install-azurite.sh VERSION DIRECTORY
# Installs Azurite, the emulator of Azure Blob Storage that the tests run
# against. Does nothing, quickly, when that version is there.
set -euo pipefail

version=$1
directory=$2
package=$directory/node_modules/azurite/package.json

installed() {
  [ -f "$directory/installed" ] && [ "$(<"$directory/installed")" = "$version" ] && [ -f "$package" ]
}

if installed; then
  exit 0
fi
if ! command -v npm >/dev/null; then
  echo "install-azurite: npm is missing; run scripts/install-packages.sh first" >&2
  exit 1
fi

echo "Installing Azurite $version into $directory (about a minute)"
mkdir -p "$directory"
rm -f "$directory/installed"
npm install --prefix "$directory" --no-audit --no-fund --no-save --no-package-lock --loglevel=error "azurite@$version"
# Written last, so that an interrupted installation is done again.
echo "$version" >"$directory/installed"
