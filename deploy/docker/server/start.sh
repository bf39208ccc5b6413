#!/bin/bash
# The entry point of the server's images: `detr` with the defaults of a container.
#
# `serve` alone is enough, as SageMaker starts it: the server listens on all interfaces, since a container's own
# loopback is reached by nobody, and takes the model of the first folder of $models that is there. Flags that are
# given are kept. Any other command is passed on, as in `docker run IMAGE devices`.
set -euo pipefail

# SageMaker's folder, KServe's, and the one of the manual.
models=(/opt/ml/model /mnt/models /models)

# Returns whether a flag is among the arguments.
has() {
    local flag=$1 argument
    shift
    for argument; do
        if [[ $argument == "$flag" || $argument == "$flag="* ]]; then
            return 0
        fi
    done
    return 1
}

case ${1:-serve} in
serve) if [[ $# -gt 0 ]]; then shift; fi ;;
-*) ;;
*) exec detr "$@" ;;
esac

defaults=()
if ! has --host "$@"; then
    defaults+=(--host 0.0.0.0)
fi
if ! has --model "$@" && ! has --help "$@"; then
    for folder in "${models[@]}"; do
        # An empty folder is a mount that was forgotten.
        if [[ -d $folder && -n $(ls -A -- "$folder") ]]; then
            defaults+=(--model "$folder")
            break
        fi
    done
    if ! has --model ${defaults[@]+"${defaults[@]}"}; then
        echo "error: no model: none of ${models[*]} has files" >&2
        echo "hint: docker run -v \"\$PWD/assets/shapes:/models:ro\" ..., or name one with --model" >&2
        exit 2
    fi
fi
# Signals are for the server, so it takes the place of this shell.
exec detr serve ${defaults[@]+"${defaults[@]}"} "$@"
