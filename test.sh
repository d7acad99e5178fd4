#!/usr/bin/env bash
# Sets up and runs the linter and the tests.
#   bash test.sh [options of pytest]
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
source ./setup.sh

prepare test requirements-{dev,detection,export,video,cluster}.txt
lint=0
"$python" -m ruff check . || lint=$?        # the tests run all the same: one start tells everything
# As many processes as cores, with a thread each: Paddle's own threads would only wait for one another.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
"$python" -m pytest -ra --durations=5 -n auto --maxprocesses=8 --dist worksteal "$@"
exit "$lint"
