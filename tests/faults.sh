#!/usr/bin/env bash
# Makes faults on purpose (kills, power failures, full disks …) and prints what was lost; 11 minutes of processor time.
#   bash tests/faults.sh [--only NAME …] [--times N] [--seed N] [--keep FOLDER]
# Some faults need mounts of their own, which nobody else sees: as root, or where the system lets users have them.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
source ./setup.sh

prepare test requirements-{dev,detection,export,video,cluster}.txt
export OMP_NUM_THREADS=1 PYTHONPATH=tests${PYTHONPATH:+:$PYTHONPATH}
own=()
for options in --mount '--mount --map-root-user'; do
    # shellcheck disable=SC2086
    if unshare $options true 2>/dev/null; then
        own=(unshare $options)
        export FAULTS_OWN_MOUNTS=yes
        break
    fi
done
exec "${own[@]}" "$python" -m faults "$@"
