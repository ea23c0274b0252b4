"""What the job of a build is asked for: a plan, or what was asked before there were plans."""

from __future__ import annotations

from core.building.plan import Plan
from core.catalog import Config, UserError, knob, seed_knob
from core.datasets import Dataset


class BuildConfig(Config):
    """What a build is asked for: a plan, or, as it was spelt before there were plans, what joins the training items."""

    name: str = knob("", "What the new dataset is called.")
    plan: str = knob(
        "", "The plan, in JSON; empty makes one of the other parameters.", advanced=True
    )
    pipeline: str = knob(
        "", "The saved pipeline that makes augmented copies; empty for none.", title="Pipeline"
    )
    copies: int = knob(1, "Augmented copies of each training image.", ge=1, le=20)
    run: str = knob("", "The run that makes synthetic images; empty for none.", title="Run")
    per_class: int = knob(
        100,
        "Synthetic images of each class; of a set without labels, in all.",
        ge=1,
        le=100_000,
        unit="images",
        log=True,
    )
    confidence: float = knob(
        0.5,
        "Least probability that a judge of the real images gives the wanted class; 0 keeps all.",
        ge=0,
        le=1,
    )
    authentic: bool = knob(
        True,
        "Leaves out samples that lie nearer to a training image than that image's own nearest one does: copies.",
    )
    distinct: bool = knob(True, "Leaves out samples that are nearly the same as an earlier one.")
    seed: int = seed_knob("Of the augmentation and of the samples.")

    def planned(self, dataset: Dataset) -> Plan:
        """Gives the plan that it asks for, of a dataset.

        Raises:
            UserError: If the plan is none, is one of another dataset, or nothing is to be added.
        """
        source = dict(dataset.source)
        values = source.get("config", {}) if source.get("name") == dataset.name else {}
        if self.plan:
            plan = Plan.read(self.plan)
            return plan.with_(name=self.name or plan.name)
        if not self.pipeline and not self.run:
            raise UserError(
                "A build adds copies by a pipeline, or samples of a run, and got neither. Choose one of them."
            )
        sources = []
        if self.pipeline:
            counts = {name: self.copies * n["train"] for name, n in dataset.counts().items()}
            sources.append({
                "kind": "augmented", "parameters": {"pipeline": self.pipeline}, "counts": counts
            })  # fmt: skip
        if self.run:
            sources.append({
                "kind": "synthetic", "parameters": {"run": self.run}, "each": self.per_class
            })  # fmt: skip
        gate = {
            "confidence": self.confidence,
            "authentic": self.authentic,
            "distinct": self.distinct,
            "manifold": 0,
            "copies": False,
        }
        start = {"name": dataset.name, "config": values}
        return Plan.of({
            "name": self.name, "dataset": start, "sources": sources, "gate": gate, "seed": self.seed
        })  # fmt: skip
