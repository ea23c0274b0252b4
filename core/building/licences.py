"""Licences by their SPDX id, and what of them decides whether a dataset may go out: commercial use, share-alike.

A list of its own, of those that pictures and data sets stand under; not legal advice.

References:
    SPDX, License list 3.27, https://spdx.org/licenses/
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

OWN = "LicenseRef-"  # begins the id of a licence that is on no list


@dataclass(frozen=True)
class Licence:
    """What is known of a licence.

    Attributes:
        id: Its SPDX id.
        commercial: Whether it allows commercial use; None for one of somebody's own.
        share: What it asks of works that are made of it, an id without its version: they stand under the same licence,
            or a later version of it. Empty where it asks for nothing of the kind.
        version: Of a licence with ``share``; 0 without.
        hub: Its name on the Hugging Face hub; ``other`` for one that the hub does not know.
    """

    id: str
    commercial: bool | None = True
    share: str = ""
    version: float = 0.0
    hub: str = "other"


_PERMISSIVE = """
    0BSD AFL-3.0 Apache-2.0 Artistic-2.0 BSD-2-Clause BSD-3-Clause BSD-3-Clause-Clear BSL-1.0 C-UDA-1.0 CC-BY-2.0
    CC-BY-2.5 CC-BY-3.0 CC-BY-4.0 CC-PDDC CC0-1.0 CDLA-Permissive-1.0 CDLA-Permissive-2.0 CECILL-B ECL-2.0 HPND ISC MIT
    MIT-0 MS-PL NCSA ODC-By-1.0 OGL-Canada-2.0 OGL-UK-2.0 OGL-UK-3.0 PDDL-1.0 PostgreSQL Python-2.0 Unlicense WTFPL Zlib
    etalab-2.0 DL-DE-BY-2.0 DL-DE-ZERO-2.0 CC-BY-ND-3.0 CC-BY-ND-4.0
"""
_NOT_COMMERCIAL = """
    CC-BY-NC-2.0 CC-BY-NC-2.5 CC-BY-NC-3.0 CC-BY-NC-4.0 CC-BY-NC-ND-3.0 CC-BY-NC-ND-4.0 PolyForm-Noncommercial-1.0.0
"""
_SHARE_ALIKE = """
    AGPL-3.0-only AGPL-3.0-or-later CC-BY-NC-SA-2.0 CC-BY-NC-SA-2.5 CC-BY-NC-SA-3.0 CC-BY-NC-SA-4.0 CC-BY-SA-2.0
    CC-BY-SA-2.5 CC-BY-SA-3.0 CC-BY-SA-4.0 CDLA-Sharing-1.0 EUPL-1.2 GFDL-1.3-only GFDL-1.3-or-later GPL-2.0-only
    GPL-2.0-or-later GPL-3.0-only GPL-3.0-or-later LGPL-3.0-only LGPL-3.0-or-later MPL-2.0 ODbL-1.0
"""
_HUB = {  # where it is not the id in small letters, without a word for its versions
    "GFDL-1.3-only": "gfdl",
    "GFDL-1.3-or-later": "gfdl",
    "ODbL-1.0": "odbl",
    "PDDL-1.0": "pddl",
    "ODC-By-1.0": "odc-by",
    "Unlicense": "unlicense",
    "WTFPL": "wtfpl",
    "etalab-2.0": "etalab-2.0",
}
_AS_IS = {  # that the hub calls by their id in small letters
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "bsl-1.0", "cc0-1.0", "cc-by-2.0",
    "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0",
    "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0",
    "cc-by-nc-sa-4.0", "cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "c-uda-1.0", "afl-3.0",
    "artistic-2.0", "ecl-2.0", "eupl-1.2", "isc", "mpl-2.0", "ms-pl", "ncsa", "postgresql", "zlib",
}  # fmt: skip
NOT_STATED = ("", "none", "noassertion", "unknown", "not stated")  # in small letters


def _licence(id: str) -> Licence:
    low = id.lower()
    plain = low.removesuffix("-only").removesuffix("-or-later")
    hub = _HUB.get(id) or (low if low in _AS_IS else plain if plain != low else "other")
    share = id in _SHARE_ALIKE.split()
    name, _, version = plain.rpartition("-")
    return Licence(
        id,
        id not in _NOT_COMMERCIAL.split() and "-nc-" not in low,
        name if share else "",
        float(version) if share else 0.0,
        hub,
    )


LICENCES = {id: _licence(id) for id in (_PERMISSIVE + _NOT_COMMERCIAL + _SHARE_ALIKE).split()}
_KNOWN = {id.lower(): licence for id, licence in LICENCES.items()}


def stated(text: str) -> bool:
    """Tells whether a text names a licence at all: ``none given by its authors`` does not."""
    low = " ".join(text.lower().split())
    return low not in NOT_STATED and not low.startswith("none given")


def find(text: str) -> Licence | None:
    """Finds a licence by its SPDX id, before a comma if there is one; None if there is none.

    Capitals do not count, and a space is as good as a dash.

    >>> find("cc by 4.0").id
    'CC-BY-4.0'
    """
    name = re.sub(r"[\s_]+", "-", text.partition(",")[0].strip())
    if name.lower().startswith(OWN.lower()) and len(name) > len(OWN):
        return Licence(name, None)
    return _KNOWN.get(name.lower())


def nearest(text: str) -> str:
    """Says that a text is no id of the list, and what to write."""
    name = re.sub(r"[\s_]+", "-", text.strip())
    low = difflib.get_close_matches(name.lower(), _KNOWN, n=1, cutoff=0.6)
    write = (
        f"Did you mean {_KNOWN[low[0]].id!r}?" if low else "Write one such as CC-BY-4.0 or CC0-1.0."
    )
    return f"{text!r:.80} is no licence of the SPDX list. {write} One of your own is written {OWN}Name."


def allows(result: Licence, part: Licence) -> bool:
    """Tells whether what is made of a share-alike part may stand under a licence: the same one, or a later version."""
    if not part.share:
        return True
    later = result.version > part.version and not part.id.endswith("-only")
    return result.share == part.share and (later or result.version == part.version)
