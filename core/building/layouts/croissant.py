"""A Parquet set that describes itself as Croissant.

References:
    MLCommons, Croissant format 1.1 https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html
    MLCommons, Croissant RAI 1.0 https://docs.mlcommons.org/croissant/docs/croissant-rai-spec.html
    W3C, PROV-O https://www.w3.org/TR/prov-o/
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from core.building.layouts import layouts, parquet
from core.building.outgoing import Outgoing
from core.building.version import changes
from core.ground.watch import UNWATCHED, Watch

VERSION = "1.1"
FILES, RECORDS, SPLITS, CLASSES = "parquet-files", "default", "splits", "classes"
# the registered type, application/vnd.apache.parquet, is accepted by mlcroissant 1.1 and then not read
ENCODING = "application/x-parquet"
# Readers warn about a context that lacks one of these keys; a version line that disagrees with it yields no records.
_OWN = (
    "annotation", "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "excludes", "extract", "field",
    "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5",
    "parentField", "path", "readLines", "recordSet", "references", "regex", "repeated", "replace", "samplingRate",
    "separator", "source", "subField", "transform", "unArchive", "value",
)  # fmt: skip
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{name: f"cr:{name}" for name in _OWN},
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
}
_TYPES = {"i": "sc:Integer", "f": "sc:Float", "b": "sc:Boolean"}


@layouts.add(
    "croissant",
    "Croissant",
    opens='mlcroissant.Dataset("croissant.json").records("default")',
    order=4,
    only=parquet.ONLY,
)
def croissant(going: Outgoing, folder: Path, watch: Watch = UNWATCHED) -> None:
    """A Parquet set with croissant.json beside it: columns, licence, origins and how it was made, for machines."""
    parquet.write(going, folder, watch)
    files = sorted((folder / "data").iterdir())
    text = json.dumps(described(going, files), indent=1, ensure_ascii=False)
    (folder / "croissant.json").write_text(text, "utf-8")
    going.describe(folder, {split: f"data/{split}-*" for split, _ in going.splits()})


def described(going: Outgoing, files: list[Path]) -> dict[str, Any]:
    """Describes the shards of a set: what they hold, and where that comes from."""
    dataset, about = going.dataset, going.about()
    splits = [split for split, _ in going.splits()]
    terms: dict[str, Any] = {}
    if dataset.terms.get("licence"):
        terms["license"] = dataset.terms["licence"]
    for said in ("creator", "maintainer"):  # a person or an organisation: nobody said which
        if dataset.terms.get(said):
            terms[said] = {"@type": "sc:Organization", "name": dataset.terms[said]}
    origins = {name: count for name, count in about["origins"].items() if count}
    mix = ", ".join(f"{count:,} {name}" for name, count in origins.items())
    name = dataset.name or "dataset"
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [
            f"http://mlcommons.org/croissant/{VERSION}",
            "http://mlcommons.org/croissant/RAI/1.0",
        ],
        "name": name,
        "description": f"{dataset.medium.describe(len(dataset), dataset.shape)}: {mix}.",
        # of content, not of a day: the same dataset gives the same bytes
        "version": f"1.0.0+{dataset.fingerprint[:12]}",
        "isLiveDataset": False,
        **terms,
        "rai:hasSyntheticData": any(origin != "real" for origin in origins),
        "rai:dataCollection": " ".join(dataset.notes) or "Not known.",
        "rai:personalSensitiveInformation": (
            f"Consent of people shown: {dataset.terms.get('consent') or 'not stated'}."
        ),
        **_provenance(going),
        "distribution": [
            *map(_file, files),
            {
                "@type": "cr:FileSet",
                "@id": FILES,
                "name": FILES,
                "encodingFormat": ENCODING,
                "includes": "data/*.parquet",
            },
        ],
        "recordSet": [_named(SPLITS, "cr:Split", splits), *_classes(going), _records(going)],
    }


def _provenance(going: Outgoing) -> dict[str, Any]:
    """Says in PROV what the set was made from, and what made it."""
    dataset = going.dataset
    runs = sorted(set(np.unique(going.columns(np.arange(len(dataset)))["run"]).tolist()) - {""})
    done = changes(dataset)
    activity = {
        "@type": "prov:Activity",
        "prov:wasAssociatedWith": {"@type": "prov:SoftwareAgent", "name": "Simulacra"},
        **({"prov:used": [{"@type": "prov:Entity", "name": run} for run in runs]} if runs else {}),
        **({"description": json.dumps(done, sort_keys=True)} if done else {}),
    }
    came = {"@type": "prov:Entity", "name": dataset.origin or "not known"}
    return {
        "prov:wasDerivedFrom": [
            came,
            *([{"@type": "prov:Entity", "identifier": dataset.parent}] if dataset.parent else []),
        ],
        "prov:wasGeneratedBy": activity,
    }


def _file(file: Path) -> dict[str, Any]:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return {
        "@type": "cr:FileObject",
        "@id": file.name,
        "name": file.name,
        "contentUrl": f"data/{file.name}",
        "contentSize": f"{file.stat().st_size} B",
        "encodingFormat": ENCODING,
        "sha256": digest,
    }


def _named(name: str, kind: str, values: list[str]) -> dict[str, Any]:
    """Lists the values that a column may have, which its field refers to."""
    key = f"{name}/name"
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "dataType": kind,
        "key": {"@id": key},
        "field": [{"@type": "cr:Field", "@id": key, "name": "name", "dataType": "sc:Text"}],
        "data": [{key: value} for value in values],
    }


def _classes(going: Outgoing) -> list[dict[str, Any]]:
    """Lists the names of the classes by their numbers."""
    if not going.dataset.classes:
        return []
    listed = _named(CLASSES, "sc:Enumeration", list(going.dataset.classes))
    number = f"{CLASSES}/number"
    listed["key"] = {"@id": number}
    listed["field"].insert(
        0, {"@type": "cr:Field", "@id": number, "name": "number", "dataType": "sc:Integer"}
    )
    listed["data"] = [{number: i, **row} for i, row in enumerate(listed["data"])]
    return [listed]


def _records(going: Outgoing) -> dict[str, Any]:
    def field(name: str, kind: str, more: dict[str, Any], **extract: Any) -> dict[str, Any]:
        source = {"fileSet": {"@id": FILES}, "extract": {"column": name}, **extract}
        own = {"@type": "cr:Field", "@id": f"{RECORDS}/{name}", "name": name, "dataType": kind}
        return {**own, "source": source, **more}

    refers = {"split": f"{SPLITS}/name", "label": f"{CLASSES}/number"}
    columns = going.columns(np.arange(0))
    return {
        "@type": "cr:RecordSet",
        "@id": RECORDS,
        "name": RECORDS,
        "key": {"@id": f"{RECORDS}/id"},
        "field": [
            field("image", "sc:ImageObject", {}, transform={"jsonPath": "bytes"}),
            *(
                field(
                    name,
                    _TYPES.get(values.dtype.kind, "sc:Text"),
                    {"references": {"field": {"@id": refers[name]}}} if name in refers else {},
                )
                for name, values in columns.items()
            ),
        ],
    }
