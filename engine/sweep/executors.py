"""Where a sweep's runs are processed, as the command line says it."""

from engine.errors import InputError
from engine.sweep.cluster import Cluster, connect
from engine.sweep.definition import Sweep
from engine.sweep.pool import Executor
from engine.sweep.processes import Processes, make_slots

EXECUTORS = ("local", "ray")


def open_executor(
    kind: str, sweep: Sweep, *, jobs: int | None, devices: list[str] | None, address: str | None, collect: bool
) -> Executor:
    """The executor of that kind, with what the options of these names ask for. Raises InputError."""
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs {jobs}: expected 1 or more")
    if kind == "ray":
        if devices:
            raise InputError(f"--devices {','.join(devices)}: with --executor ray Ray says which GPUs a run gets")
        connect(address or "auto")
        return Cluster(sweep, jobs, collect=collect)
    for option, given in (("--address", address), ("--collect", collect)):
        if given:
            raise InputError(f"{option}: is for --executor ray")
    return Processes(make_slots(sweep, jobs, devices))
