#!/bin/bash
# Asks the server of this container whether it is ready: exit code 0 where it answers 200, 1 otherwise.
#
#     detr-health [PORT] [ROUTE]
#
# bash speaks to a port itself, so the image needs no curl. A server with TLS does not answer plain HTTP;
# there the check is that of the orchestrator, or `--no-healthcheck`.
set -uo pipefail

port=${1:-${SAGEMAKER_BIND_TO_PORT:-${AIP_HTTP_PORT:-8080}}}
route=${2:-/v2/health/ready}

# A server that accepts and says nothing is not ready either. HEALTHCHECK's own limit is longer.
if ! exec 3<>"/dev/tcp/127.0.0.1/$port"; then
    exit 1
fi
# A server that hangs up in the middle is one without an answer, and no reason to die.
trap '' PIPE
printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$route" >&3 2>/dev/null
if ! read -r -t 3 -u 3 _version status _reason; then
    echo "no answer from port $port within 3 s" >&2
    exit 1
fi
if [[ $status != 200 ]]; then
    echo "$route: $status" >&2
    exit 1
fi
