"""When a run is saved, and that it stops where it was asked to: nothing is lost by either."""

import signal

import paddle

from engine.config import Config
from engine.errors import Stopped
from engine.run import progress as saving
from engine.run.progress import Progress, settle
from engine.train.running_statistics import share_running_statistics
from engine.train.step_times import Clock
from engine.train.stopping import Stop, on_any_device


class Keeper:
    """Saves one run, counting the time since, and ends it by Stopped once it was asked to stop and is saved.

    Over several devices all of them call the same methods at the same moments.
    """

    def __init__(self, config: Config, learner, progress: Progress, record, clock: Clock, stop: Stop):
        self.config, self.learner, self.progress, self.record = config, learner, progress, record
        self.clock, self.stop = clock, stop

    def save(self, write=saving.save) -> None:
        """Save what is now; raises Diverged where that is not finite."""
        settle(self.progress)
        self.clock.working_done()
        share_running_statistics(self.learner, self.config)
        write(self.config.folder, self.learner, self.progress, self.record)
        self.clock.saved()

    def after_step(self, *, boundary: bool, before_evaluation: bool) -> None:
        """Save where it is time to, and before an evaluation in any case; stop where asked to.

        Several devices look only at a log boundary: to agree takes them time.
        """
        if not boundary and paddle.distributed.get_world_size() > 1:
            return
        minutes = self.config.checkpoint.every_minutes
        due, asked = on_any_device(self.clock.since_saved > 60 * minutes, self.stop.asked)
        if before_evaluation:
            self.save(saving.save_before_evaluation)
        elif due or asked:
            self.save()
        if asked:
            self._stop()

    def look(self) -> None:
        """In an evaluation, before which all was saved: stop where asked to."""
        if self.stop.agreed():
            self._stop()

    def no_batch(self) -> None:
        """There is an image that cannot be read, or no process to read it. One device saves; several had to agree."""
        if paddle.distributed.get_world_size() == 1:
            if self.progress.step:  # before the first there is nothing to lose, and the optimizer has no state
                self.save()
            if self.stop.asked:  # the signal can have ended the reading processes too
                self._stop()

    def end_epoch(self) -> None:
        """Save the epoch that has just been counted, where that is due or worth it; stop where asked to."""
        self.clock.start()  # an evaluation is no training
        asked = self.stop.agreed()
        if asked or saving.is_due(self.config, self.progress) or self.progress.is_best:
            self.save()
            if self.record.active:
                saving.keep_epoch(self.config, self.progress)
        if asked and self.progress.epoch < self.config.schedule.epochs:
            self._stop()

    def _stop(self):
        where = f"at step {self.progress.step}; saved, continue with -r auto"
        raise Stopped(self.stop.signal or signal.SIGTERM, where)
