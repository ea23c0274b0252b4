"""Building datasets: by a plan, items of many origins join the training items; a version leaves with proof.

Children inherit the split of their parent, so only training images have any; a synthetic image joins the training split
too. Nothing is ever added to what is held out.
"""

from core.building.archive import MANIFEST, archive, pack, zipped
from core.building.build import build, counted, expected, pinned
from core.building.config import BuildConfig
from core.building.difference import ChangedItem, Difference, compare
from core.building.export import ExportConfig, export
from core.building.gate import GateConfig, Gated, gate
from core.building.makers import makers
from core.building.plan import Plan, PlannedSource
from core.building.version import changes, origins, provenance
