"""Improve this dataset: within a time, mend what is safe, add what helps, and prove it once on the test images.

What is added is chosen by the validation images alone. The test images are looked at at the end, once; "it does not
help" is an answer like any other.
"""

from core.building.improve.config import Deadline, ImproveConfig
from core.building.improve.effect import Effect
from core.building.improve.study import Improvement, check
