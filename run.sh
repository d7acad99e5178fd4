#!/usr/bin/env bash
# Sets up and runs the quick batch-size sweep; one that was cut off goes on where it stopped.
#   bash run.sh [options of tools/sweep.py, such as --dry-run or -o key=value]
#   PYTHON=/path/to/python bash run.sh      to choose the Python yourself
# On AI Studio the results go to /home/aistudio/output unless -o output=... says otherwise.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
source ./setup.sh

# The one folder that AI Studio keeps of a job; nothing sure tells a job from a notebook, which keeps it too. Its
# older script tasks have another.
output=
for here in "$PWD/" /home/aistudio/; do
    if [[ -d $here && $here =~ ^(.*/home/aistudio|/root/paddlejob/workspace)/ ]]; then
        output=${BASH_REMATCH[1]}/output
        break
    fi
done
[[ -f data/__init__.py ]] ||
    fail "$PWD/data is not the project's: where AI Studio mounts data there, put the project one folder deeper." 2

prepare run
exec "$python" tools/sweep.py -c configs/sweeps/quick.yaml ${output:+-o "output=$output"} "$@"
