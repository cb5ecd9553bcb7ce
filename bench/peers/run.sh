#!/usr/bin/env bash
# Each peer on the newest FastMCP 4, and on the newest that it works with. Environments go to a folder that
# is removed at the end: `bench/peers/run.sh`.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT

try() {  # NAME PACKAGE... : the probe of a guard with these packages
  uv venv --quiet --clear --python "${PYTHON:-3.11}" "$folder/venv"
  uv pip install --quiet --python "$folder/venv/bin/python" "${@:2}"
  "$folder/venv/bin/python" "$here/probe.py" "$1" 2> "$folder/errors" || tail -3 "$folder/errors"
}

newest='fastmcp>=4,<5'
python312=${PYTHON312:-3.12} # sapl-fastmcp needs it
try fastmcp "$newest"
try apparitor "$newest" apparitor==0.1.1
try permit-fastmcp "$newest" permit-fastmcp==0.1.2
try cerbos-fastmcp "$newest" cerbos-fastmcp==0.1.1
try eunomia-mcp "$newest" eunomia-mcp==0.3.10
try agent-governance-toolkit "$newest" agent-governance-toolkit==4.1.0 agent-os-kernel==3.7.0
PYTHON=$python312 try sapl-fastmcp "$newest" sapl-fastmcp==4.1.0
PYTHON=$python312 try sapl-fastmcp 'fastmcp<4' sapl-fastmcp==4.1.0
if command -v vellaveto-proxy > /dev/null; then # cargo install vellaveto-proxy
  uv venv --quiet --clear --python 3.11 "$folder/venv"
  uv pip install --quiet --python "$folder/venv/bin/python" "$newest"
  echo "$(vellaveto-proxy --version 2> /dev/null || echo vellaveto-proxy) before FastMCP"
  "$folder/venv/bin/python" "$here/vellaveto.py" vellaveto-proxy
fi
try permit-fastmcp 'fastmcp<4' permit-fastmcp==0.1.2
try cerbos-fastmcp 'fastmcp<4' cerbos-fastmcp==0.1.1
try eunomia-mcp 'fastmcp<4' eunomia-mcp==0.3.10
try eunomia-mcp 'fastmcp<3' eunomia-mcp==0.3.10
