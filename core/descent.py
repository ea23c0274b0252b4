"""What a training starts from: another run's weights, as they fit its images and its classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core import jobs, runs
from core.catalog import UserError
from core.models import Spec

if TYPE_CHECKING:
    from torch import Tensor


def lacking(run: jobs.Job) -> str:
    """Says why nothing can start from the weights of a run; empty where it can."""
    from core import brought
    from core.models import Trainable, families

    record = runs.record(run)
    name = record.get("brought", {}).get("name")
    if name is not None and name not in families:
        origin = brought.origins.get(name)
        if origin.further is None:
            return (
                f"{run.name} was brought from elsewhere ({origin.title}), and such a model is not trained here. "
                "Explore it as it is, or train a run of your own."
            )
    if not isinstance(runs.network(record), Trainable):
        return f"The network of {run.name} says no loss to train it by. Explore it as it is."
    return ""


def allow_layers(further: Mapping[str, Any], parent: str) -> None:
    """Checks that there are weights to go on from, and that their network has the layers that are to learn."""
    if further["layers"] == "all":
        return
    if not parent:
        raise UserError(
            f"further.layers={further['layers']} says what is learned anew of a run, and this training starts from "
            "none. Name one as train.parent (--from RUN), or leave further.layers out."
        )
    from core.training import FineTuneConfig
    from core.training import further as layers

    run, _ = runs.named(parent)
    layers.able(runs.network(runs.record(run)), FineTuneConfig.of(further, "further"))


def take_brought(record: dict[str, Any]) -> None:
    """Takes over what a brought run says of itself: its terms, and its network, for the classes of the new dataset.

    Raises:
        UserError: If the network cannot be made for them.
    """
    from core import brought
    from core.models import families

    theirs = runs.record(runs.named(record["train"]["parent"])[0])
    if "terms" in theirs:  # which hold for what is made of it
        record["terms"] = theirs["terms"]
    source = theirs.get("brought")
    if source is None or source["name"] in families:  # what was packed is of a family again
        return
    classes = theirs["dataset"]["classes"][: theirs["classes"]], record["dataset"]["classes"]
    further = brought.origins.get(source["name"]).further
    assert further is not None
    del record["family"]
    record["brought"] = source | {"facts": further(source["facts"], *classes)}


def descent(record: dict[str, Any]) -> dict[str, Any]:
    """Names the run that a training starts from, and says what is different now.

    Raises:
        UserError: If the weights of that run do not fit these images or settings.
    """
    from core.tensors import fingerprint
    from core.training import further

    run, step = runs.named(record["train"]["parent"])
    theirs = runs.record(run)
    trained = runs.trained(record)
    spec, other = Spec.of(record["spec"]), Spec.of(theirs["spec"])
    if (spec.medium, spec.shape) != (other.medium, other.shape) or (
        trained.classifies and spec.classes != other.classes  # whose last layer is made for them
    ):
        raise UserError(
            f"{run.name} was trained on images with {other}, and these have {spec}, "
            "so its weights do not fit. "
            "Choose a run on images of this kind, or leave train.parent out."
            + _prepared(spec, other)
        )
    pairs = {
        "dataset": [source["dataset"]["name"] for source in (theirs, record)],
        "images of the dataset": [source["dataset"]["images"] for source in (theirs, record)],
        "content of the dataset": [
            source["dataset"]["fingerprint"][:12] for source in (theirs, record)
        ],
        "levels": [other.levels, spec.levels],
    }
    before = theirs[runs.trained(theirs).part]
    own = record[trained.part]
    parts_of = {trained.part: (before.get("config", before), own.get("config", own))}
    if theirs["train"]["images"]:  # of what was brought nobody knows how it was trained
        parts_of = {"train": (theirs["train"], record["train"])} | parts_of
    for where, (old, new) in parts_of.items():
        pairs |= {f"{where}.{n}": [old[n], value] for n, value in new.items() if n in old}
    changed = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    changed.pop("train.parent", None)
    opened = runs.open_model(run, step)
    return {
        "run": run.id,
        "name": run.name,
        "step": step,
        "digest": fingerprint(opened.model),
        "classes": further.lineage(opened.classes, record["dataset"]["classes"]),
        "changed": changed,
    }


def _prepared(spec: Spec, other: Spec) -> str:
    """Says how images would have to be prepared for a run on others; empty where that is not all."""
    if spec.form != "picture" or spec.medium != other.medium or spec.shape == other.shape:
        return ""
    colour = {1: "in grey", 3: "in colour"}.get(other.channels, f"with {other.channels} channels")
    return f" Or import these images again at {other.size} px {colour}."


def inherited(record: dict[str, Any], model: Any) -> dict[str, Tensor]:
    """Gives the weights that a training starts from as they fit its network, on the processor."""
    from core.training import further

    parent = record["parent"]
    opened = runs.open_model(jobs.get(parent["run"]), parent["step"])
    return further.inherited(
        model, opened.model, opened.classes, record["dataset"]["classes"][: model.classes]
    )


def chosen(record: dict[str, Any], model: Any, family: str) -> float:
    """Lets those layers of a network learn that were chosen; gives the share of the learning rate that suits them."""
    from core.training import FineTuneConfig, further

    if "further" not in record:
        return 1.0
    config = FineTuneConfig.of(record["further"], "further")
    model.requires_grad_(True)  # what was brought comes as it is used
    further.choose(model, config, runs.sampling(family)(), record["train"]["seed"])
    return config.share
