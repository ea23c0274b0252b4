"""Training further from what another run has learned: which weights move, what becomes of classes, and when it ends."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils import parametrize

from core import brought, datasets, descent, fitted, jobs, kinds, runs, worker
from core.catalog import UserError
from core.datasets.dataset import digests
from core.kinds import train as training_work
from core.measure import card, learning
from core.models import build, families
from core.nets import LabelEmbedding
from core.training import FineTuneConfig, TrainConfig, Trainer, further, spec_of

CPU = torch.device("cpu")
TINY = {
    "gan": {"width": 8, "latent_dim": 4},
    "vae": {"width": 8, "latent_dim": 4, "components": 1, "conditional": True},
    "vqvae": {"width": 8, "prior_width": 32, "prior_depth": 1, "codebook": 8},
    "flow": {"width": 8, "steps": 2},
    "diffusion": {"width": 4},
}
SMALL = {"family.width": 4, "train.batch": 20, "train.images": 100}


def refused(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


@pytest.fixture
def two(toy, monkeypatch):
    """Two sets of the same size: `old` with classes 0, 1 and 2, `new` with 1 and one that is new; darker by half."""
    old, other = toy(120, classes=3), toy(60, classes=2)
    new = datasets.assemble(
        (other.x // 2).astype(np.uint8), other.y, ("class 1", "another"), other.splits, name="new"
    )
    datasets.save("old", old)
    datasets.save("new", new)
    return datasets.load("old", {}), datasets.load("new", {})


def trained(here, dataset: str, family: str = "diffusion", **values: Any) -> jobs.Job:
    job = kinds.submit("train", {"dataset": dataset, "family": family}, {**SMALL, **values})
    worker.work(job.path)
    return jobs.get(job.id)


def weights(job: jobs.Job, step: int | None = None) -> dict[str, torch.Tensor]:
    step = runs.checkpoints(job)[-1] if step is None else step
    return load_file(job.path / "checkpoints" / str(step) / "model.safetensors")


# --- Which weights move -----------------------------------------------------------------------------


@pytest.mark.parametrize("family", TINY)
@pytest.mark.parametrize("layers", ["last", "lora", "embeddings"])
def test_what_was_not_chosen_stays_bit_by_bit_and_what_was_moves(toy, family, layers):
    data = toy(60)
    model = build(family, TINY[family], spec_of(data))
    if layers not in further.ways(model):
        assert (family, layers) == ("vqvae", "embeddings")  # its first stage would learn nothing
        return
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tables = [n for n, part in model.named_modules() if isinstance(part, LabelEmbedding)]
    parameters = {name for name, _ in model.named_parameters()}
    low = {
        f"{name}.weight"
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    }
    config = FineTuneConfig(layers=layers, rank=2, alpha=4)
    further.choose(model, config, families.get(family).sampling(), 0)
    trainer = Trainer(model, data, TrainConfig(images=80, batch=20, warmup=0, lr=0.01), CPU)
    for _ in trainer:
        pass
    after = further.merged(copy.deepcopy(trainer.model)).state_dict()
    assert after.keys() == before.keys()
    moved = {name for name in parameters if not torch.equal(before[name], after[name])}
    rows = {f"{name}.weight" for name in tables}
    assert rows <= moved
    if layers == "embeddings":
        assert moved == rows
    elif layers == "lora":
        assert moved == rows | low
    else:
        assert rows < moved < parameters
        assert len(moved - rows) < 0.6 * len(parameters)


def test_the_last_layers_are_those_that_the_image_comes_out_of(toy):
    data = toy(40)

    def chosen(family: str) -> set[str]:
        model = build(family, TINY[family], spec_of(data))
        further.choose(model, FineTuneConfig(layers="last"), families.get(family).sampling(), 0)
        moving = {name for name, param in model.named_parameters() if param.requires_grad}
        return {name.rpartition(".")[0] for name in moving}

    decoder = {name for name in chosen("vae") if name != "embed"}
    assert "decoder.0.last" in decoder
    assert all(name.startswith("decoder") for name in decoder)
    assert {"net.last", "net.blocks.1.outer"} <= chosen("diffusion")
    assert not any(name.startswith(("code.time", "net.first")) for name in chosen("diffusion"))
    # a flow learns from the image to noise, and draws the other way round
    assert any(name.startswith("scales.0.0") for name in chosen("flow"))
    assert not any(name.startswith("scales.0.1") for name in chosen("flow"))


def test_a_low_rank_change_begins_at_nothing_and_is_of_that_rank(toy):
    data = toy(40)
    model = build("diffusion", TINY["diffusion"], spec_of(data))
    plain = {name: value.clone() for name, value in model.state_dict().items()}
    further.choose(
        model,
        FineTuneConfig(layers="lora", rank=3, alpha=6),
        families.get("diffusion").sampling(),
        0,
    )
    start = further.merged(copy.deepcopy(model)).state_dict()
    assert all(torch.equal(start[name], plain[name]) for name in plain)
    for change in model.modules():
        if isinstance(change, further.LowRank):
            nn.init.normal_(change.b)
    end = further.merged(copy.deepcopy(model)).state_dict()
    changes = dict(model.net.first.parametrizations.weight[0].named_parameters())  # type: ignore[union-attr]
    product = np.einsum("or,ri->oi", *(changes[name].detach().numpy() for name in "ba"))
    difference = (end["net.first.weight"] - plain["net.first.weight"]).numpy()
    assert np.allclose(difference, 6 / 3 * product, atol=1e-6)
    assert np.linalg.matrix_rank(difference, tol=1e-4) == 3
    assert not any(parametrize.is_parametrized(part) for part in further.merged(model).modules())


def test_layers_that_a_network_lacks_are_not_offered_and_refused(toy):
    without = build("diffusion", {**TINY["diffusion"], "conditional": False}, spec_of(toy(40)))
    assert further.ways(without) == ["all", "last", "lora"]
    asked = FineTuneConfig(layers="embeddings")
    assert refused(further.choose, without, asked, families.get("diffusion").sampling(), 0) == (
        "further.layers=embeddings stands for the class embeddings alone, and not every part of this network has them. "
        "Choose from: all, last, lora."
    )


# --- Classes ----------------------------------------------------------------------------------------


def test_classes_are_taken_over_by_name_and_new_ones_begin_as_the_mean(toy):
    spec = spec_of(toy(40, classes=3)), spec_of(toy(40, classes=2))
    old, new = (build("diffusion", TINY["diffusion"], each) for each in spec)
    got = further.inherited(new, old, ("a", "b", "c"), ("c", "d"))
    rows = old.code.embed.weight.detach()  # type: ignore[union-attr]
    assert torch.equal(got["code.embed.weight"], torch.stack([rows[2], rows.mean(0)]))
    assert torch.equal(got["net.first.weight"], old.state_dict()["net.first.weight"])
    # where the parent listened to none they say nothing at first, so that it draws as it did
    quiet = build("diffusion", {**TINY["diffusion"], "conditional": False}, spec[0])
    begun = copy.deepcopy(new)
    begun.load_state_dict(further.inherited(begun, quiet, (), ("c", "d")))
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([0.2, 0.7])
    for model in (quiet, begun):
        nn.init.normal_(model.net.last.weight, generator=torch.Generator().manual_seed(0))  # type: ignore[union-attr]
    assert torch.allclose(quiet.velocity(x, t), begun.velocity(x, t, torch.tensor([0, 1])))
    # and the other way round a network without classes draws of any
    assert "code.embed.weight" not in further.inherited(quiet, old, ("a", "b", "c"), ())
    vae = {**TINY["vae"], "conditional": False}
    assert refused(
        further.inherited,
        build("vae", vae, spec[0]),
        build("vae", TINY["vae"], spec[0]),
        ("a", "b", "c"),
        (),
    ).endswith(
        "The parent listens to 3 classes and this network to no: choose images that have labels where the parent's had "
        "them, and none where they had none."
    )


def test_a_network_that_numbers_its_classes_itself_keeps_what_is_no_class():
    """Rows of one from elsewhere: 0 any image, 1 and 2 its classes in another order, 3 a class of none."""

    class Own(nn.Module):
        def __init__(self, order: tuple[int, ...], rows: int) -> None:
            super().__init__()
            self.order, self.table = order, LabelEmbedding(rows, 2)

    old, new = Own((2, 1), 4), Own((4, 2), 5)
    got = further.inherited(new, old, ("a", "b"), ("c", "a"))["table.weight"]
    rows = old.table.weight.detach()
    assert torch.equal(got[:4], rows)
    assert torch.equal(got[4], (rows[1] + rows[2]) / 2)
    origin = brought.origins.get("diffusers")
    facts = {"net": {"num_class_embeds": 4}, "order": [2, 1], "null": 0}
    assert origin.further is not None
    told = origin.further(facts, ("a", "b"), ("c", "a"))
    assert (told["order"], told["net"], told["null"]) == ([4, 2], {"num_class_embeds": 5}, 0)
    assert "listens to 4 classes, and the dataset has none" in refused(
        origin.further, facts, ("a", "b"), ()
    )


def test_a_network_of_diffusers_is_trained_further(here, two, tmp_path):
    diffusers = pytest.importorskip("diffusers")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = diffusers.UNet2DModel(
            sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(4, 8),
            down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
            norm_num_groups=2, num_class_embeds=3,
        )  # fmt: skip
    net.save_pretrained(tmp_path / "net")
    diffusers.DDPMScheduler(num_train_timesteps=20).save_pretrained(tmp_path / "net")
    old, _ = two
    kept = brought.keep("Elsewhere", brought.read(tmp_path / "net"), {}, old, "diffusers")
    worker.work(kept.path)
    parent = jobs.get(kept.id)
    assert parent.status == "finished", parent.message
    choice, values = training_work.continued(parent, "new")
    assert choice == {"dataset": "new", "family": "diffusers"}
    asked = {"train.images": 60, "train.batch": 20, "further.layers": "lora", "further.rank": 1}
    child = kinds.submit("train", choice, values | asked)
    worker.work(child.path)
    child = jobs.get(child.id)
    assert child.status == "finished", child.message
    opened = runs.open_model(child)
    assert (opened.family, opened.classes) == ("diffusers", ("class 1", "another"))
    assert opened.model.sample(range(2), torch.tensor([0, 1]), 0, opened.usual).isfinite().all()
    before, after = weights(parent, 0), weights(child)
    # the rows that it had and the one that is new; whatever is no weight of a layer stays as it was
    assert (
        len(before["net.class_embedding.weight"]),
        len(after["net.class_embedding.weight"]),
    ) == (3, 4)
    assert not torch.equal(before["net.conv_in.weight"], after["net.conv_in.weight"])
    assert torch.equal(before["net.conv_in.bias"], after["net.conv_in.bias"])
    assert fitted.of(child).unknown == "it was brought from outside"


def test_what_is_no_network_of_ours_is_not_trained_and_says_so(here, two, monkeypatch):
    parent = trained(here, "old", **{"train.images": 20})
    record = runs.record(parent)
    told = record | {"brought": {"name": "decoder", "config": {}}}
    monkeypatch.setattr(runs, "record", lambda run: told)
    assert descent.lacking(parent) == (
        f"{parent.name} was brought from elsewhere (A decoder by code), and such a model is not trained here. "
        "Explore it as it is, or train a run of your own."
    )
    choice = {"dataset": "new", "family": "diffusers"}
    assert "Nothing of the kind diffusers is trained from nothing here." in refused(
        kinds.submit, "train", choice, {}
    )


# --- As a job ---------------------------------------------------------------------------------------


def test_a_run_goes_on_with_other_images_and_says_so(here, two):
    old, new = two
    parent = trained(here, "old")
    child = trained(
        here,
        "new",
        **{"train.parent": parent.id, "further.layers": "lora", "further.rank": 2},
    )
    assert child.status == "finished", child.message
    record = runs.record(child)
    step = runs.preferred(parent)
    facts = record["parent"]
    assert (facts["run"], facts["step"]) == (parent.id, step) and len(facts["digest"]) == 16
    assert facts["classes"] == {"kept": ["class 1"], "new": ["another"]}
    assert facts["changed"]["dataset"] == ["old", "new"]
    assert (record["further"]["layers"], record["further"]["rank"]) == ("lora", 2)
    # it opens as any other, and listens to the new classes
    opened = runs.open_model(child)
    assert (opened.family, opened.classes) == ("diffusion", ("class 1", "another"))
    assert weights(child).keys() == weights(parent).keys()
    assert card.of(child).fact("Started from").text == (
        f"old-diffusion at step {step}, which had learned from old; learned anew: a low-rank change of every layer "
        "(LoRA), rank 2; new classes: another"
    )
    # its pictures may carry what its parent has seen
    seen = fitted.of(child)
    for dataset in (old, new):
        assert seen.seen(digests(np.asarray(dataset.x[dataset.splits["train"]])), "train").all()
    assert "It learns from 40 images alone" in (child.path / "log.jsonl").read_text()


def test_a_low_rank_training_that_was_stopped_ends_as_if_it_had_not_been(here, two, monkeypatch):
    parent = trained(here, "old")
    asked = {
        "train.parent": parent.id,
        "further.layers": "lora",
        "train.average": 1,
    }
    whole = trained(here, "new", **asked)
    half = kinds.submit("train", {"dataset": "new", "family": "diffusion"}, {**SMALL, **asked})
    step = Trainer.one_step

    def stopping(self: Trainer) -> Any:
        if self.step == 3:
            (half.path / "STOP").touch()
        return step(self)

    monkeypatch.setattr(Trainer, "one_step", stopping)
    worker.work(half.path)
    assert jobs.get(half.id).status == "stopped"
    monkeypatch.setattr(Trainer, "one_step", step)
    kinds.resume(half.id)
    worker.work(half.path)
    ended = jobs.get(half.id)
    assert ended.status == "finished", ended.message
    assert all(torch.equal(value, weights(ended)[name]) for name, value in weights(whole).items())


def test_what_cannot_be_gone_on_with_is_refused(here, two, toy):
    parent = trained(here, "old", **{"train.images": 20})
    choice = {"dataset": "new", "family": "diffusion"}
    assert refused(kinds.submit, "train", choice, {"further.layers": "lora"}) == (
        "further.layers=lora says what is learned anew of a run, and this training starts from none. "
        "Name one as train.parent (--from RUN), or leave further.layers out."
    )
    datasets.save("large", toy(60, size=12, classes=3))
    child = trained(here, "large", **{"train.parent": parent.id})
    assert child.message.endswith("Or import these images again at 8 px in grey.")


# --- How far ----------------------------------------------------------------------------------------


def test_a_training_that_begins_to_copy_ends_early_and_its_best_state_is_opened(
    here, two, monkeypatch
):
    looks = iter(
        {"distance": 1 / step, "copying": value, "copying_low": value - 0.05, "copying_high": value + 0.05}
        | {"distance_floor": 0.1, "copying_real": 0.5, "copying_real_high": 0.6}
        for step, value in enumerate([0.5, 0.5, 0.7, 0.55, *[0.7] * 20], start=1)
    )  # fmt: skip
    monkeypatch.setattr(learning, "looks", lambda *about: lambda *given: next(looks))
    parent = trained(here, "old", **{"train.images": 20})
    job = trained(
        here, "new", **{"train.parent": parent.id, "train.images": 1000, "train.patience": 1}
    )
    assert job.status == "finished"
    # one look above may be chance, the second in a row is not
    assert job.state["step"] < 20
    assert job.message == (
        "Ended early: samples copy more than real images do (0.70, real ones 0.50; 0.5 is none). "
        f"The checkpoint of step {runs.preferred(job)} is the one that pages open."
    )
    scores = {
        step: training_work.files.read_json(job.path / "checkpoints" / str(step) / "facts.json")[
            "score"
        ]
        for step in runs.checkpoints(job)
    }
    assert runs.preferred(job) == min(scores, key=scores.__getitem__)
    assert scores[runs.preferred(job)] < 1 < scores[max(scores)]


@pytest.mark.parametrize(
    ("copying", "low", "real", "high", "said"),
    [(0.7, 0.6, 0.5, 0.65, True), (0.64, 0.6, 0.5, 0.65, False), (0.7, 0.45, 0.5, 0.65, False)],
)
def test_to_copy_is_to_lie_beyond_what_real_images_have(copying, low, real, high, said):
    look = {"copying": copying, "copying_low": low, "copying_real": real, "copying_real_high": high}
    assert learning.copies(look) is said
    assert learning.copies({"copying_low": copying}) is (copying > 0.6)
