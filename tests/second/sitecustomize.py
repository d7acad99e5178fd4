"""On PYTHONPATH, this makes every Python that starts know a second task, runs of sweeps too."""

import engine  # noqa: F401, I001  first of all: it sets the environment before Paddle is imported
import second_model  # noqa: F401  before engine makes its schema of the models and sets that there are
import second_task  # noqa: F401
