"""When a run is saved, and that it stops where it was asked to: nothing is lost by either."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import paddle

from engine.errors import Diverged, PeerLost, Stopped
from engine.run import saving
from engine.run.progress import Progress, settle
from engine.run.record import RunRecord
from engine.run.saving import Keeping
from engine.train.running_statistics import share_running_statistics
from engine.train.step import Learner
from engine.train.step_times import StepTimes
from engine.train.stopping import on_any_device, signals_caught

GLOO = "gloo/transport"  # in what Paddle raises where another process does not answer any more


class Keeper:
    """Saves one run, counting the time since, and ends it by Stopped once it was asked to stop and is saved.

    Use it as a context, in which signals are caught. Over several devices all of them call the same methods at the same
    moments.
    """

    def __init__(
        self, folder: Path, learner: Learner, progress: Progress, record: RunRecord, keeping: Keeping,
        images_per_step: int,
    ):
        self.folder, self.learner, self.progress, self.record, self.keeping = folder, learner, progress, record, keeping
        self.times = StepTimes(images_per_step, keeping.epochs * progress.steps_per_epoch, progress)
        self._signals = contextlib.ExitStack()

    def __enter__(self) -> "Keeper":
        self.stop = self._signals.enter_context(signals_caught())
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._signals.close()
        if GLOO in str(error):
            reason = str(error).rpartition("] ")[2] or error
            raise PeerLost(
                f"another process of this run is gone ({reason}); {saving.last_checkpoint(self.folder)}; go on with "
                "-r auto, on as many devices and nodes as there are"
            ) from None

    def save(self, write: Callable = saving.save) -> None:
        """Save what is now; raises Diverged where that is not finite."""
        settle(self.progress)
        self.times.working_done()
        share_running_statistics(self.learner.model, self.learner.ema)
        write(self.folder, self.learner, self.progress, self.record)
        self.times.saved()

    def after_step(self, *, boundary: bool, before_evaluation: bool) -> None:
        """Save where it is time to, and before an evaluation in any case; stop where asked to.

        Several devices look only at a log boundary: to agree takes them time.
        """
        if not boundary and paddle.distributed.get_world_size() > 1:
            return
        due, asked = on_any_device(self.times.since_saved > 60 * self.keeping.every_minutes, self.stop.asked)
        if before_evaluation:
            self.save(saving.save_before_evaluation)
        elif due or asked:
            self.save()
        if asked:
            self._stop()

    @contextlib.contextmanager
    def trial(self) -> Iterator[None]:
        """Around the evaluation of what was saved: where that is not sound, the checkpoint before takes its place."""
        try:
            yield
        except Diverged:
            saving.take_back(self.folder, self.record)
            raise
        saving.accept(self.folder, self.record)

    def look(self) -> None:
        """In an evaluation, before which all was saved: stop where asked to."""
        if self.stop.agreed():
            self._stop()

    def asked(self) -> bool:
        """Whether this device was asked to stop; of the others nothing is known."""
        return self.stop.asked

    def no_batch(self) -> None:
        """There is an image that cannot be read, or no process to read it. One device saves; several had to agree."""
        if paddle.distributed.get_world_size() == 1:
            if self.progress.step:  # before the first there is nothing to lose, and the optimizer has no state
                self.save()
            if self.stop.asked:  # the signal can have ended the reading processes too
                self._stop()

    def end_epoch(self) -> None:
        """Save the epoch that has just been counted, where that is due or worth it; stop where asked to."""
        self.times.start()  # an evaluation is no training
        asked = self.stop.agreed()
        if asked or self.keeping.is_due(self.progress.epoch) or self.progress.is_best:
            self.save()
            if self.record.active:
                saving.keep_epoch(self.folder, self.progress, self.keeping)
        if asked and self.progress.epoch < self.keeping.epochs:
            self._stop()

    def _stop(self):
        where = f"at step {self.progress.step}; saved, continue with -r auto"
        raise Stopped(self.stop.signal or signal.SIGTERM, where)
