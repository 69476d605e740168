#!/usr/bin/env bash
# What the peers need beside their Python environments: FFmpeg's libraries for SPDL, headers to compile pillow-simd.
set -euo pipefail

packages=(ffmpeg libjpeg-dev zlib1g-dev python3-dev)
command -v apt-get >/dev/null || { echo "please install: ${packages[*]} (names as in Debian)" >&2; exit 1; }
dpkg -s "${packages[@]}" >/dev/null 2>&1 && exit
sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo)
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
