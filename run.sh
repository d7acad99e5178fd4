#!/usr/bin/env bash
# Sets up and trains configs/quickstart.yaml; a run that was cut off goes on where it stopped.
#   bash run.sh [options of tools/train.py, such as -o key=value]
#   PYTHON=/path/to/python bash run.sh      to choose the Python yourself
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
source ./setup.sh

prepare run
exec "$python" tools/train.py -c configs/quickstart.yaml -r auto "$@"
