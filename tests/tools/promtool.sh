#!/usr/bin/env bash
# Puts Prometheus' `promtool` into the folder $1, from Debian's package, without installing it.
# Where it cannot be had, leaves an empty file and the reason in `promtool.reason`.
set -euo pipefail

tools=$1
mkdir -p "$tools"
if command -v promtool >/dev/null; then
    ln -sf "$(command -v promtool)" "$tools/promtool"
    exit 0
fi

fail() {
    : >"$tools/promtool"
    echo "$1" >"$tools/promtool.reason"
    exit 0
}

command -v apt-get >/dev/null && command -v dpkg >/dev/null || fail "no apt-get on this machine"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"
if ! apt-get download -q prometheus >log 2>&1; then
    # The lists of a new machine are empty; only root may fetch them.
    apt-get update -q >>log 2>&1 || true
    apt-get download -q prometheus >>log 2>&1 || fail "Debian's package prometheus: $(grep -v '^W:' log | tail -n 1)"
fi
dpkg -x prometheus_*.deb tree
install -m 755 tree/usr/bin/promtool "$tools/promtool"
