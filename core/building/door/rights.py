"""Whether a dataset may go out: its licence, what it was made of, and the consent of the people on it."""

from __future__ import annotations

import numpy as np

from core.building import licences
from core.building.door.leaving import Found, Leaving, checks


@checks.add("licence", "Licence unknown", order=1, fine="Its licence is known")
def licence(leaving: Leaving) -> Found:
    """Without a licence nobody may use it, and nobody knows whether it may be passed on."""
    nameless = [part for part in leaving.parts if not licences.stated(part.licence)]
    if nameless:
        what = " and ".join(part.what for part in nameless[:2])
        yield leaving.refuse(
            f"{what} {'has' if len(nameless) == 1 else 'have'} no licence that anybody has stated. State its SPDX id, "
            f"such as CC-BY-4.0, {nameless[0].where}.",
            nameless[0].rows,
        )


@checks.add("spdx", "No SPDX id", order=2, fine="Its licence is one that programs know")
def spdx(leaving: Leaving) -> Found:
    """An SPDX id is read by programs and hubs; a licence in other words is read by nobody."""
    for part in leaving.parts:
        if licences.stated(part.licence) and licences.find(part.licence) is None:
            yield leaving.refuse(
                f"{licences.nearest(part.licence)} Write it {part.where}.", part.rows
            )
            return
    if not all(licences.stated(part.licence) for part in leaving.parts):
        leaving.unlooked["spdx"] = "not known, as a licence is not."


@checks.add(
    "commercial",
    "Non-commercial into commercial",
    order=3,
    fine="Its licences allow what it leaves for",
)
def commercial(leaving: Leaving) -> Found:
    """What stands under a non-commercial licence stays out of commercial use, and so does what was made of it."""
    known_all = all(licences.find(part.licence) for part in leaving.parts)
    if not known_all:
        leaving.unlooked["commercial"] = "not known, as a licence is not."
    if leaving.config.purpose != "commercial":
        return
    for part in leaving.parts:
        known = licences.find(part.licence)
        if known is not None and known.commercial is False:
            yield leaving.refuse(
                f"{part.what} stands under {known.id}, which does not allow commercial use, and this export is for "
                "commercial use. Export it for research, or ask its owner for another licence.",
                part.rows,
            )
            return


@checks.add(
    "share-alike",
    "Share-alike against another licence",
    order=4,
    fine="It keeps the licence that its parts ask for",
)
def share_alike(leaving: Leaving) -> Found:
    """A share-alike licence asks that what is made of its items stands under the same licence."""
    whole = licences.find(leaving.dataset.terms.get("licence", ""))
    own = leaving.dataset.attributes or {}
    parts = [(part.what, part.licence, part.rows) for part in leaving.parts[1:]]
    if "licence" in own:  # an import that names the licence of each item
        named = own["licence"].astype(str)
        parts += [
            (f"An item under {text}", text, np.flatnonzero(named == text))
            for text in np.unique(named)
            if text
        ]
    for what, text, rows in parts:
        known = licences.find(text)
        if whole is not None and known is not None and not licences.allows(whole, known):
            yield leaving.refuse(
                f"{what} stands under {known.id}, which asks for the same licence for all that is made of it, and this "
                f"dataset stands under {whole.id}. Put the dataset under {known.id}, or leave these items out.",
                rows,
            )
            return


@checks.add(
    "consent", "Consent unknown", order=5, fine="The people on it agreed, or nobody is on it"
)
def consent(leaving: Leaving) -> Found:
    """Pictures of people need their consent; that nobody is shown has to be said by somebody who has looked."""
    for part in leaving.parts:
        if part.consent in ("", "unknown"):
            yield leaving.refuse(
                f"{part.what} says nothing of the people on it: nobody has stated whether people are shown, and if so "
                f"whether they agreed. State the consent {part.where}: given, or not needed where nobody is shown.",
                part.rows,
            )
            return


@checks.add("withdrawn", "Consent withdrawn", order=6, fine="Nobody has withdrawn consent")
def withdrawn(leaving: Leaving) -> Found:
    """Who has withdrawn consent is taken out, and what was made of their pictures with them."""
    own = leaving.dataset.attributes or {}
    if "consent" in own and own["consent"].dtype.kind in "UO":
        rows = np.flatnonzero(own["consent"].astype(str) == "withdrawn")
        if len(rows):
            yield leaving.refuse(
                f"Consent was withdrawn for {len(rows):,} of its items. Leave them out, and retrain what has learned "
                "from them.",
                rows,
            )
            return
    for part in leaving.parts:
        if part.consent == "withdrawn":
            yield leaving.refuse(
                f"{part.what} shows people who have withdrawn their consent. Leave these items out, and delete what "
                "was made of them.",
                part.rows,
            )
            return
