"""The seeded loader: which images make up step s of epoch e, and how they come, in this process or from workers."""

import contextlib
import gc
import logging
import math
import multiprocessing
import os
import shutil
import signal
import threading
import traceback
from collections.abc import Iterator
from multiprocessing import connection

import numpy as np

from data.dataset import Batch, Dataset
from data.errors import DataError
from data.orphans import end_with_parent
from data.randomness import ORDER, generator, global_state_kept

PREFETCH = 2  # batches that each worker process prepares ahead
SHARED_MEMORY = "/dev/shm"
SEMAPHORE_BYTES = 4096  # a page of it for each, of which a worker process takes three, and all together a dozen
FEWER = "fewer processes that read take less of it"
log = logging.getLogger("data")


class Loader:
    """Batches of a dataset in an order that depends on (seed, epoch) alone and can start in the middle.

    images: per step, over all ranks. Training (train=True): epoch e goes through a permutation drawn from (seed, e);
    step s takes images [s * images, (s + 1) * images) of it and what does not fill a step is left for other epochs.
    Validation: the order of the set, every image once, the last step short. Rank r of `ranks` gets the r-th
    contiguous share of each step; training shares are equal, validation shares as even as can be, and may be empty.

    processes: worker processes that prepare the batches, 0 for none; sets that live in memory need none and use none.
    The batches are the same bit for bit, whatever the number, and the process's random state is left alone.

    Attributes: dataset, steps_per_epoch. Raises DataError where an epoch has no step or ranks do not divide images.
    """

    def __init__(
        self,
        dataset: Dataset,
        images: int,
        *,
        seed: int,
        train: bool,
        rank: int = 0,
        ranks: int = 1,
        processes: int = 0,
    ):
        if train and images % ranks:
            raise DataError(f"{images} images per step cannot be shared equally by {ranks} devices")
        self.dataset, self.images, self.seed, self.train = dataset, images, seed, train
        self.rank, self.ranks, self.processes = rank, ranks, processes
        self.steps_per_epoch = len(dataset) // images if train else math.ceil(len(dataset) / images)
        if self.steps_per_epoch == 0:
            raise DataError(f"{images} images per step, but the set has {len(dataset)}; wanted one full step or more")
        self._warned = False

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Iterate over this rank's batches (dicts of NumPy arrays) of an epoch, from start_step on.

        Earlier steps are not produced. Worker processes end with the iterator, also where it is abandoned or closed.
        Raises DataError, with the same message whether it arose here or in a worker process; and where the system has
        ended a worker process.
        """
        steps = _Steps(self, epoch, start_step)
        if self.dataset.in_memory or not self.processes or not self._semaphores_fit():
            for number in range(len(steps)):
                yield self.dataset.batch(steps.indices(number), seed=self.seed, epoch=epoch)
        else:
            yield from self._from_processes(steps)

    def _from_processes(self, steps):
        import paddle  # here, so that reading arrays needs no Paddle

        reader = paddle.io.DataLoader(
            steps, batch_size=None, num_workers=self.processes, prefetch_factor=PREFETCH, places=paddle.CPUPlace(),
            use_shared_memory=self._shared_memory_suffices(), use_buffer_reader=False, worker_init_fn=_end_with_reader,
        )
        # What lies about here is not for the workers to collect: an earlier epoch's iterator would wait for ever in
        # them, for its queue waits for threads that a forked process has not.
        gc.freeze()
        try:
            # Paddle draws its workers' seeds from np.random.
            with global_state_kept(), _children_may_end():
                messages = iter(reader)
        finally:
            gc.unfreeze()
        threading.Thread(target=_watch, args=(messages,), daemon=True).start()
        try:
            while (message := _next(messages)) is not None:
                if message["error"]:
                    raise DataError(message["error"])
                if message["bug"]:
                    raise RuntimeError(f"a worker process failed:\n{message['bug']}")
                self.dataset.skipped += message["skipped"]
                full = {name: tensor.numpy() for name, tensor in message["full"].items()}
                hollow = {name: np.empty(shape, dtype) for name, (dtype, *shape) in message["hollow"].items()}
                yield {**full, **hollow}
        finally:
            # Dropping the iterator does not end the workers: Paddle's reading thread holds on to it.
            messages._try_shutdown_all()

    def _semaphores_fit(self):
        """Whether there is room for what worker processes are told to wait by; where not, this one does their work."""
        free = _free_shared_memory()
        fit = free is None or free >= (12 + 3 * self.processes) * SEMAPHORE_BYTES
        if not fit:
            self._warn("%s is full: no worker process can be started, this one reads, which is slower", SHARED_MEMORY)
        return fit

    def _shared_memory_suffices(self):
        """Whether /dev/shm holds all batches on their way; where it does not, Paddle's workers die of a BUS error."""
        batch_bytes = math.ceil(self.images / self.ranks) * self.dataset.sample_bytes
        # One more batch is in the caller's hands, and the other ranks of this machine want as much at the same moment.
        wanted = (self.processes * PREFETCH + 1) * batch_bytes * self.ranks
        free = _free_shared_memory() or 0
        if free < wanted:
            self._warn(
                "%s has %d MB free, %d worker processes want %d MB: batches come through pipes, which is slower",
                SHARED_MEMORY, free >> 20, self.processes, math.ceil(wanted / 2**20),
            )
        return free >= wanted

    def _warn(self, *said):
        if not self._warned:
            self._warned = True
            log.warning(*said)


def _free_shared_memory():
    """In bytes; None where the system has it elsewhere, if at all."""
    try:
        return shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return None


@contextlib.contextmanager
def _children_may_end():
    """Keep Paddle from having an error raised, anywhere in what the run just does, when a worker process ends."""
    before = signal.getsignal(signal.SIGCHLD)
    yield
    if signal.getsignal(signal.SIGCHLD) is not before:
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)


def _watch(messages):
    """Let the wait for batches end as soon as a worker process dies, whatever it was at.

    Paddle looks for that every five seconds, and never where half a batch is in its pipe.
    """
    connection.wait([worker.sentinel for worker in messages._workers])
    if not messages._thread_done_event.is_set():
        messages._exit_thread_unexpectedly()


def _next(messages):
    """The next message, None at the end. Raises DataError where a worker process has died."""
    try:
        return next(messages, None)
    except Exception:  # Paddle's, of several kinds
        dead = [worker for worker in messages._workers if worker.exitcode]
        if not dead:
            raise
        raise DataError(_how_it_died(dead[0])) from None


def _how_it_died(worker):
    if worker.exitcode > 0:
        return f"a reading process (pid {worker.pid}) ended with status {worker.exitcode}"
    name = signal.Signals(-worker.exitcode).name
    memory = f", as the system does when memory runs out; {FEWER}"
    return f"a reading process (pid {worker.pid}) was ended by {name}{memory if name == 'SIGKILL' else ''}"


def _end_with_reader(_worker):
    """In a worker process: be killed when the process that reads is, however it ends.

    Paddle's workers look whether it still lives only between one piece of work and the next, and wait for that without
    end: their queue.get(5.0) takes the seconds for `block`. A run that was killed would leave them for ever.
    """
    end_with_parent(multiprocessing.parent_process().pid, signal.SIGKILL)


class _Steps:
    """The rest of an epoch as Paddle's DataLoader wants it: one item is one whole batch, made in a worker process.

    An item is a dict of plain values and arrays, errors included: where a worker raises, Paddle gives the caller a
    SystemError about its queue.
    """

    def __init__(self, loader, epoch, start_step):
        self.dataset, self.seed, self.epoch = loader.dataset, loader.seed, epoch
        self.images, self.rank, self.ranks = loader.images, loader.rank, loader.ranks
        self.steps = range(start_step, loader.steps_per_epoch)
        count = len(self.dataset)
        self.order = generator(ORDER, self.seed, epoch).permutation(count) if loader.train else np.arange(count)

    def __len__(self):
        return len(self.steps)

    def indices(self, number):
        """What this rank reads in the step `number`, counted from the start step."""
        start = self.steps[number] * self.images
        return np.array_split(self.order[start : start + self.images], self.ranks)[self.rank]

    def __getitem__(self, number):
        # An item without arrays would end Paddle's iteration quietly and an array without elements would crash it:
        # the filler goes along always, and of a hollow array type and shape.
        message = {"full": {}, "hollow": {}, "error": "", "bug": "", "skipped": 0, "filler": np.zeros(1, np.float32)}
        skipped = self.dataset.skipped
        try:
            batch = self.dataset.batch(self.indices(number), seed=self.seed, epoch=self.epoch)
        except DataError as error:
            return {**message, "error": str(error)}
        except MemoryError:
            return {**message, "error": f"a reading process (pid {os.getpid()}) has no memory left; {FEWER}"}
        except Exception:
            return {**message, "bug": traceback.format_exc()}
        message["full"] = {name: array for name, array in batch.items() if array.size}
        message["hollow"] = {name: [array.dtype.str, *array.shape] for name, array in batch.items() if not array.size}
        return {**message, "skipped": self.dataset.skipped - skipped}
