#!/usr/bin/env bash
# Sets up and runs the linter and the tests.
#   bash test.sh [options of pytest]
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
source ./setup.sh

prepare test requirements-dev.txt requirements-detection.txt
lint=0
"$python" -m ruff check . || lint=$?        # the tests run all the same: one start tells everything
"$python" -m pytest -ra --durations=5 "$@"
exit "$lint"
