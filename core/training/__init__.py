"""One training loop for every family and the classifier: an iterator of :class:`Progress`.

The caller draws from it, and so decides pace, display and stopping. Every step depends only on the state and on the
generator of that step, so that a resumed run ends where an uninterrupted one would, bit by bit on the CPU.
"""

from core.training.batches import Transform, spec_of
from core.training.config import TrainConfig, batch_of, lengthened, publish_steps
from core.training.further import FineTuneConfig
from core.training.loop import CURVES, Progress, Trainer
from core.training.update import Update
