"""Building datasets: augmented copies and synthetic samples join the training images; a version leaves as a ZIP.

Children inherit the split of their parent, so only training images have any; a synthetic image joins the training split
too. Nothing is ever added to what is held out.
"""

from core.building.archive import MANIFEST, archive
from core.building.difference import ChangedItem, Difference, compare
from core.building.gate import Gated, gate
from core.building.version import BuildConfig, build, changes, foreign, origins
