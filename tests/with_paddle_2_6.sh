#!/usr/bin/env bash
# Runs the tests with paddlepaddle-gpu 2.6.2, on the CPU, in an environment of its own (about 3 GB): the
# Paddle 2 that AI Studio ships. The exact version is the point here.
#   bash tests/with_paddle_2_6.sh [options of pytest]
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
source ./setup.sh

venv=.venv-paddle-2.6
own_paddle='paddlepaddle-gpu==2.6.2'
unset PYTHONPATH        # it could lead to another Paddle
prepare test requirements-{dev,detection,export,video}.txt
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
CUDA_VISIBLE_DEVICES='' exec "$python" -m pytest -ra -n auto --maxprocesses=8 --dist worksteal "$@"
