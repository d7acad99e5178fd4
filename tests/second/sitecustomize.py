"""On PYTHONPATH, this makes every Python that starts know the second task, runs of sweeps too."""

import engine  # noqa: F401, I001  first of all: it sets the environment before Paddle is imported
import second_task

second_task.register()
