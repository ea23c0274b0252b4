"""Does it help? An experiment with arms, equal steps, paired seeds, intervals and a verdict.

Each pair draws its own training images, first weights and order, and every arm of it starts from those; only what is
asked about differs. The test images are real, frozen, and none of them is near a training image. What learns is the
referee; a proof is an experiment whose arms are what a version holds.
"""

from core.building.experiment.config import ExperimentConfig, TrialConfig
from core.building.experiment.proof import agreement, along, implied, proofs
from core.building.experiment.samples import samples_used
from core.building.experiment.summary import Cell, summary
from core.building.experiment.trial import Experiment, acts, check, expected_seconds, perform
