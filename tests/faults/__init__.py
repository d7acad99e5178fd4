"""Faults, made on purpose: what a run or a sweep loses by them. `bash tests/faults.sh` starts it.

Each kind of fault is a file, each row of the table a function that yields for every fault what was lost, or "". The
commands are processes of their own, forked from one that has imported Paddle: a start costs no four seconds.
"""
