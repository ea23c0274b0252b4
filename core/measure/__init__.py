"""Evaluations: how good a run is, how sure that is, and whether it copies; written by jobs, read by pages.

An evaluation is a job of the kind ``evaluate`` about a run. Its folder adds to a job's: ``evaluation.json`` (the
conditions and every measurement so far), ``arrays.npz`` (the samples, and what is known of each of them and of each
real image), and ``map-tsne.npy``. Reading needs no torch; measuring stands in :mod:`core.measure.study`.
"""

from core.measure.compare import Comparison, MetricRow, boards, compare, trajectory
from core.measure.metrics import GROUPS, Measurement, by_class, chosen, metrics
from core.measure.store import (
    Arrays,
    EvaluateConfig,
    Evaluation,
    arrays_of,
    in_disguise,
    latest,
    listing,
    projection,
    read,
    reference_images,
    training_images,
    watched,
    write,
    write_arrays,
    write_map,
)
from core.measure.verdict import (
    Claim,
    Evidence,
    Verdict,
    claims,
    overall,
    sentences,
    verdict,
)
