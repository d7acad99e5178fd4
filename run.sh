#!/usr/bin/env bash
# Sets up and runs the quick batch-size sweep; one that was cut off goes on where it stopped.
#   bash run.sh [options of tools/sweep.py, such as --dry-run or -o key=value]
#   PYTHON=/path/to/python bash run.sh      to choose the Python yourself
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
source ./setup.sh

prepare run
exec "$python" tools/sweep.py -c configs/sweeps/quick.yaml "$@"
