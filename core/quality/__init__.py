"""What is wrong with a dataset: issues, ranked within each kind, each with its evidence; and what is true of the whole.

:func:`inspect` looks once at every image and yields its progress; the job ``inspect`` keeps what it finds, and
:mod:`core.quality.decisions` what a person makes of it. A kind of issue is a check in :mod:`core.quality.issues`.
"""

from core.quality.check import InspectConfig, Issue, IssueKind, checks
from core.quality.findings import RULES, Inspection, findings, keep, newest
from core.quality.inspection import Survey, inspect
