#!/bin/bash
# Copies the manifests of the workspace to another folder, and puts an empty program in the place of every source
# file that cargo looks for. What `cargo build` compiles there are the dependencies, so the layer with them stays
# until a manifest or the lock file changes.
#
#     stub-sources.sh FROM TO
set -euo pipefail

if [[ $# -ne 2 ]]; then
    echo "usage: stub-sources.sh FROM TO" >&2
    exit 2
fi
from=$1
to=$2

cd "$from"
mapfile -d '' -t manifests < <(find . -name target -prune -o -name Cargo.toml -print0)
# Where cargo looks for the roots of libraries, programs, tests, examples and benchmarks.
package='\./(crates/[^/]+|tests|xtask)'
roots='build\.rs|src/(lib|main)\.rs|src/bin/[^/]+\.rs|(tests|examples|benches)/([^/]+|[^/]+/main)\.rs'
mapfile -d '' -t sources < <(
    find . -name target -prune -o -regextype posix-extended -regex "$package/($roots)" -print0
)
if [[ ${#manifests[@]} -eq 0 ]]; then
    echo "error: no Cargo.toml in $from" >&2
    echo "hint: FROM is the root of the workspace" >&2
    exit 3
fi

mkdir -p "$to"
cp --parents "${manifests[@]}" Cargo.lock "$to"
if [[ -d .cargo ]]; then
    cp -r .cargo "$to"
fi
for source in "${sources[@]}"; do
    mkdir -p "$to/${source%/*}"
    echo 'fn main() {}' >"$to/$source"
done
