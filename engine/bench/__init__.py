"""How fast the CPU kernels are, beside Paddle's and PyTorch's: what tools/bench.py runs.

ops.py, step.py, detection.py and video.py say what is compared; each contender is timed in a process of its own
(child.py) by its *_jobs.py; targets.py judges, view.py prints.
"""
