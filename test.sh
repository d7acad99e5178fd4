#!/usr/bin/env bash
# Sets up and runs the linter and the tests, without the proofs that take long.
#   bash test.sh [options of pytest]
#   bash test.sh -m ci                  # these proofs: every command of the README, the notebooks, kill after kill …
#   .ci/run                             # all
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
source ./setup.sh

prepare test requirements-{dev,detection,export,video,cluster}.txt
lint=0
"$python" -m ruff check . || lint=$?        # the tests run all the same: one start tells everything
# As many processes as cores, with a thread each: Paddle's own threads would only wait for one another.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
"$python" -m pytest -ra --durations=5 -n auto --maxprocesses=8 --dist worksteal -m "not ci" "$@"
exit "$lint"
