#!/usr/bin/env bash
# Tries the wheel where nothing is but Debian's minimum and Python: clients/python/clean_root.sh dist/espalier-*.whl
# Says which libraries of that system the programs use. Needs root, debootstrap and a mirror; takes two minutes.
set -euo pipefail
wheel=$(realpath "$1")
models=$(realpath "$(dirname "$0")/examples/models")
root=$(mktemp -d)
trap 'umount -q "$root/proc" || true; rm -rf --one-file-system "$root"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv bookworm "$root" \
  "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$root.log" || { cat "$root.log"; exit 1; }
rm "$root.log"
# Programs learn there where they lie, and so where the libraries beside them are.
mount -t proc proc "$root/proc"
mkdir "$root/try"
cp "$wheel" "$models"/digits_resnet.{onnx,keras} "$root/try"
chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root sh -euc '
  cd /try
  python3 -m venv v
  v/bin/pip --quiet --disable-pip-version-check install --no-index *.whl
  for method in PR_L2 PR_GM FD_TK automatic; do
    v/bin/espalier compress digits_resnet.onnx --method $method --target macs=0.5 -o $method.onnx | tail -1
  done
  v/bin/espalier compress digits_resnet.keras --ratio 0.5 -o smaller.keras | tail -1
  echo "libraries:"
  for program in espalierd libopenblas.so.0; do
    ldd v/lib/python3*/site-packages/espalier/$program
  done | sed -n "s/.* => \(.*\) (0x.*/\1/p" | xargs realpath | sort -u'
