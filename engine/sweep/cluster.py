"""The runs of a sweep on the nodes of a Ray cluster: Ray says where there is room, and this starts a run there.

A place for a run is an actor (`engine.sweep.node.Place`) that holds the GPUs and cores which a run takes. There are as
many as the cluster has room for and runs want; one serves run after run, and is given back when none is left for it.
"""

import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from data import DataError
from engine.environment import ROOT
from engine.errors import InputError
from engine.sweep import node
from engine.sweep.collecting import bring_home
from engine.sweep.definition import Run, Sweep
from engine.sweep.driver import driving
from engine.sweep.folder import CONSOLE_FILE, check_sweep_folder
from engine.sweep.pool import End
from engine.sweep.processes import TRAIN
from engine.terminal import shortened

try:
    import ray
except ImportError:
    ray = None

PASSED_ON = ("NATIVE_OPS",)  # variables of the driver that decide what its runs compute; the others are a node's own
LOOK_SECONDS = 1.0  # between two looks at what the cluster has
IDLE_SECONDS = 10.0  # after which a place goes back to the cluster
CONNECT_SECONDS = 5.0
TIDY_SECONDS = 5.0
LONGEST_WORDS = 300  # characters of what a node has said, or of an address


def connect(address: str) -> None:
    """Join the Ray cluster at `auto` or HOST:PORT. Raises InputError where there is none."""
    if ray is None:
        raise InputError("--executor ray: Ray is not installed; pip install -r requirements-cluster.txt")
    shown = f"--address {shortened(address, LONGEST_WORDS)}"
    if address != "auto":
        host, colon, port = address.rpartition(":")
        if not re.fullmatch(r"[\w.\-\[\]:]+", host) or not re.fullmatch("[0-9]{1,9}", port):
            raise InputError(f"{shown}: expected auto or HOST:PORT, as `ray start --head` says it")
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
        except (OSError, OverflowError, UnicodeError) as error:  # the last of a host that is no name: a..b
            raise InputError(f"{shown}: nobody answers there ({error})") from None
    try:
        ray.init(address, log_to_driver=False, logging_level="error", configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        hint = "start one with `ray start --head`" if address == "auto" else "it answers, but not as a cluster"
        raise InputError(f"{shown}: no Ray cluster ({str(error).splitlines()[0]}); {hint}") from None


@dataclass(frozen=True)
class Need:
    """What a run takes of its node."""

    gpus: int
    cpus: int

    def times_in(self, resources: dict[str, float]) -> int:
        """How many runs a node with these resources has room for."""
        by_cpu = int(resources.get("CPU", 0) // self.cpus)
        return min(by_cpu, int(resources.get("GPU", 0) // self.gpus)) if self.gpus else by_cpu


def need_of(devices: int, jobs: int | None, nodes: list[dict[str, float]], device: str) -> Need:
    """What each run takes: its GPUs where the cluster has some and it may, and threads as this machine alone gives.

    nodes: the resources of each. As many runs at a time as GPUs, or cores, unless `jobs` says fewer: then more threads.
    Raises InputError where no node has room for a run.
    """
    gpus = devices if device != "cpu" and any(node.get("GPU", 0) for node in nodes) else 0
    if device == "gpu" and not gpus:
        raise InputError("device: gpu was asked for, but no node of the cluster has one; use -o device=cpu")

    def room(threads):
        return sum(Need(gpus, threads * devices).times_in(resources) for resources in nodes)

    most = room(1)
    if not most:
        what = f"{devices} GPUs and as many cores" if gpus else f"{devices} cores"
        raise InputError(f"a run of this sweep takes {what} (sweep.devices_per_run); no node of the cluster has them")
    wanted = min(jobs or most, most)
    threads = 1
    while room(threads + 1) >= wanted:
        threads += 1
    return Need(gpus, threads * devices)


@dataclass(eq=False)
class Place:
    """An actor on some node, and the run that it has."""

    actor: Any
    answer: Any  # the reference of what it was asked last
    node: str = ""  # its name
    node_id: str = ""
    run: Run | None = None
    known: dict[str, tuple] | None = None  # path -> stamp of what is home of its run; None: it has not begun yet
    idle_since: float = 0.0


class Cluster:
    """An `engine.sweep.pool.Executor` on a Ray cluster that this process has joined."""

    alone = True

    def __init__(self, sweep: Sweep, jobs: int | None, *, collect: bool):
        """jobs: no more runs at a time. collect: the nodes do not see the sweep's folder; runs are brought home."""
        self.devices, self.collect, self.jobs = sweep.section.devices_per_run, collect, jobs
        self.need = need_of(self.devices, jobs, _nodes(), sweep.runs[0].config.device)
        self.environment = {"OMP_NUM_THREADS": str(self.need.cpus // self.devices)}
        self.free, self.busy, self.coming, self.looked, self.mark = [], [], [], 0.0, None
        self.unfit = {}  # node_id -> what was said, of the nodes that could not do what they were asked: no more runs
        self.idle = []  # places there: they keep Ray from putting others into their room
        self.places = self._most()
        ray.cloudpickle.register_pickle_by_value(node)
        self.actor = ray.remote(num_cpus=self.need.cpus, num_gpus=self.need.gpus)(node.Place)

    @contextlib.contextmanager
    def entered(self, sweep: Sweep) -> Iterator[None]:
        """Within, the sweep's folder is this driver's, which drives no more afterwards."""
        check_sweep_folder(sweep)
        address = f"{socket.gethostname()} ({ray.util.get_node_ip_address()}), process {os.getpid()}"
        try:
            with driving(sweep.folder, address) as self.mark:
                yield
        finally:
            ray.shutdown()  # which gives back all places

    def look(self, waiting: int) -> None:
        """Every second: as many places as there is work for, and none that idles while no run waits.

        Raises InputError where another driver has taken over, or where no node is left that is fit for a run.
        """
        now = time.monotonic()
        if now - self.looked < LOOK_SECONDS:
            return
        self.looked = now
        self.mark.look()
        for place in [place for place in self.coming if _is_there(place.answer)]:
            self.coming.remove(place)
            with contextlib.suppress(*_lost_errors()):  # another is asked for
                place.node, place.node_id = ray.get(place.answer)
                self._rest(place)
        most = self._most()
        if self.unfit and not most and not self.busy:
            why = next(iter(self.unfit.values()))
            raise InputError(f"--executor ray: no node is left that can run anything; {why}")
        self.places = max(self.places, most)
        for _ in range(min(most, len(self.busy) + waiting) - len(self.busy + self.free + self.coming)):
            actor = self.actor.remote()
            self.coming.append(Place(actor, actor.where.remote()))
        if not waiting:
            for place in [place for place in self.free if now - place.idle_since > IDLE_SECONDS]:
                self.free.remove(place)
                ray.kill(place.actor)

    def has_room(self) -> bool:
        return bool(self.free)

    def start(self, run: Run) -> Place:
        place, folder = self.free.pop(0), run.config.folder
        self.busy.append(place)
        processes = () if self.need.gpus else ("--nproc_per_node", str(self.devices))
        launcher = ("-m", "paddle.distributed.launch", *processes) if self.devices > 1 else ()
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        order = node.Order(
            str(ROOT), (*launcher, str(TRAIN)), os.getcwd(), str(folder.absolute()), {**passed, **self.environment},
            CONSOLE_FILE,
        )
        if self.collect:
            files = node.read_folder(folder)
            order = order._replace(folder=run.config.name, config=run.config.to_yaml(), files=files)
        place.run, place.known, place.answer = run, None, place.actor.start.remote(order)
        return place

    def poll(self, place: Place) -> End | None:
        if not _is_there(place.answer):
            return None
        try:
            news = ray.get(place.answer)
        except _lost_errors() as error:
            if isinstance(error, ray.exceptions.ActorUnavailableError) and place.known is not None:
                news = node.News(None)  # of its node nothing is known for now: it is asked again
            else:
                return self._lost(place, error)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, DataError):  # what is wrong is the run's folder
                return self._ended(place, End(None, str(error.cause)))
            return self._withdrawn(place, error.cause)
        if news.there is not None:
            if place.known is not None:
                bring_home(place.run.config.folder, place.known, news)
            place.known = news.there
        if news.status is not None:
            os.listdir(place.run.config.folder)  # NFS forgets by that what it remembers not to be there
            return self._ended(place, End(news.status, f"on {place.node}" if news.status else ""))
        place.answer = place.actor.look.remote(place.known)
        return None

    def stop(self, places: list[Place]) -> None:
        for place in places:
            place.actor.stop.remote()
        left = list(places)
        while left := [place for place in left if self.poll(place) is None]:
            ray.wait([place.answer for place in left], timeout=LOOK_SECONDS)

    def _ended(self, place, end):
        self.busy.remove(place)
        if self.collect:  # now that all is home
            ray.wait([place.actor.tidy.remote()], timeout=TIDY_SECONDS)
        self._rest(place)
        return end

    def _rest(self, place):
        """It waits for its next run; in vain, where its node is not fit for one."""
        place.run, place.idle_since = None, time.monotonic()
        (self.idle if place.node_id in self.unfit else self.free).append(place)

    def _withdrawn(self, place, error):
        """Its node could not do what it was asked: it lacks the project or a package, or its disk is full.

        That is no fault of the run's, and would be the same for the next one.
        """
        self.busy.remove(place)
        ray.kill(place.actor)
        said = shortened(str(error) or type(error).__name__, LONGEST_WORDS)
        self.unfit[place.node_id] = f"{place.node}: {said}"
        resting, self.free = self.free, []
        for each in resting:
            self._rest(each)
        return End(None, f"its node {place.node} is given no more runs ({said})", refused=True)

    def _lost(self, place, error):
        """The actor is gone: with its node, or with its process."""
        self.busy.remove(place)
        ray.kill(place.actor)  # one that is only out of sight shall not train on
        if place.node_id not in [each["NodeID"] for each in ray.nodes() if each["Alive"]]:
            return End(None, f"its node {place.node} is gone", lost=True)
        if isinstance(error, ray.exceptions.OutOfMemoryError) or "low on memory" in str(error):
            return End(None, f"{place.node} ran out of memory, and Ray ended it")
        return End(None, f"its process on {place.node} was killed, as by a system that is out of memory")

    def _most(self):
        """How many runs the cluster, as it is now, has room for on nodes that are fit for them."""
        room = sum(map(self.need.times_in, _nodes(self.unfit)))
        return min(room, self.jobs or room)


def _nodes(unfit=()):
    """The resources of each node that is alive and none of these."""
    return [each["Resources"] for each in ray.nodes() if each["Alive"] and each["NodeID"] not in unfit]


def _lost_errors():
    """What Ray raises where a place is gone; that for memory is none of its errors of actors."""
    return ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError


def _is_there(reference):
    return bool(ray.wait([reference], timeout=0)[0])
