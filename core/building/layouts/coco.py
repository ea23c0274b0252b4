"""Pictures and annotations as COCO has them."""

from __future__ import annotations

import json
from pathlib import Path

from core.building.layouts import layouts
from core.building.outgoing import Outgoing
from core.catalog import UserError
from core.datasets.annotations import limits
from core.ground.watch import UNWATCHED, Watch

LINEAGE = "lineage"  # the key of what we know of a picture beyond COCO


@layouts.add(
    "coco",
    "COCO",
    opens='pycocotools.coco.COCO("annotations/train.json")',
    order=6,
    only="it describes boxes in them",
    classes="each of its boxes has one",
)
def coco(going: Outgoing, folder: Path, watch: Watch = UNWATCHED) -> None:
    """Pictures with a JSON file per split, for tools of detection: each picture is one box of its class."""
    dataset = going.dataset
    high, wide = dataset.shape[-2:]
    (folder / "annotations").mkdir()
    info = {"description": dataset.name, "version": dataset.fingerprint, **going.about()}
    licences = [{"id": 1, "name": dataset.terms.get("licence", ""), "url": ""}]
    # ids begin at 1: whoever scores detections never matches an annotation whose id is 0
    names = [{"id": i, "name": name} for i, name in enumerate(dataset.classes, 1)]
    done, total = 0, len(dataset)
    for split, rows in going.splits():
        (folder / split).mkdir()

        def put(row: int, item: bytes, place: Path = folder / split) -> None:
            (place / f"{going.ids[row]}.png").write_bytes(item)

        most = limits(len(rows)).characters  # more is not read again
        listed, boxes = folder / "annotations" / f"{split}.json", folder / f".{split}.boxes"
        # two lists grow at once, so one of them waits in a file of its own
        with (
            listed.open("w", encoding="utf-8") as images,
            boxes.open("w", encoding="utf-8") as more,
        ):
            head = {"info": info, "licenses": licences, "categories": names}
            images.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "images": [')
            comma = ""
            for part, _ in going.batches(rows, watch, put):
                for row, record in zip(part, going.records(part), strict=True):
                    name, number = f"{going.ids[row]}.png", int(row) + 1
                    size = {"width": wide, "height": high, "license": 1}
                    own = {"id": number, "file_name": f"{split}/{name}"} | size
                    del record["label"], record["split"]  # the box says one, the file the other
                    about = own | {LINEAGE: record}  # apart: width and height have a meaning here
                    images.write(f"{comma}\n{json.dumps(about, ensure_ascii=False)}")
                    if dataset.y is not None:
                        box = {
                            "id": number,
                            "image_id": number,
                            "category_id": int(dataset.y[row]) + 1,
                            "bbox": [0, 0, wide, high],
                            "area": wide * high,
                            "iscrowd": 0,
                            "segmentation": [[0, 0, wide, 0, wide, high, 0, high]],
                        }
                        more.write(f"{comma}\n{json.dumps(box)}")
                    comma = ","
                if (size := images.tell() + more.tell()) > most:
                    raise UserError(
                        f"COCO keeps a split in one file of JSON, of at most {most / 2**20:,.0f} MB here, and "
                        f"{split} has {size / 2**20:,.0f} MB after {done + len(part):,} of {total:,} items. Choose "
                        "parquet or webdataset, which divide a set among files."
                    )
                done += len(part)
                watch.count("Writing COCO", done, total, "items")
            images.write('\n], "annotations": [')
        with listed.open("a", encoding="utf-8") as images, boxes.open(encoding="utf-8") as more:
            images.writelines(more)
            images.write("\n]}\n")
        boxes.unlink()
    going.describe(folder, {})
