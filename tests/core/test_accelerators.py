"""What makes a training faster changes nothing else: compiling, memory layout, short floats, memory budgets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.catalog import UserError
from core.classifier import Classifier, ClassifierConfig
from core.models import Spec, build, families
from core.models.gan import squares
from core.training import TrainConfig, Trainer, guard, loop, spec_of
from core.training.batches import Split, Streamed

CPU = torch.device("cpu")
# dynamo hides its own warnings, but not where they are errors
compiles = pytest.mark.filterwarnings("ignore::UserWarning")
# every network that a family has, small
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "classifier": ("classifier", {}),
    "gan dense": ("gan", {"network": "mlp"}),
    "gan conv": ("gan", {"network": "conv", "width": 4}),
    "gan wgan-gp": ("gan", {"network": "conv", "width": 4, "loss": "wgan-gp"}),
    "vae dense": ("vae", {"network": "dense", "width": 16}),
    "vae conv": ("vae", {"network": "conv", "width": 4}),
    "vqvae": ("vqvae", {"width": 8, "prior_width": 16, "prior_depth": 1, "first_stage": 0.5}),
    "flow dense": ("flow", {"network": "dense", "width": 16, "steps": 2}),
    "flow conv": ("flow", {"network": "conv", "width": 16, "channels": 8, "steps": 2}),
    "diffusion dense": ("diffusion", {"network": "dense", "width": 8}),
    "diffusion unet": ("diffusion", {"network": "unet", "width": 8}),
}
# one for each family and for each way in which parts are compiled; it takes seconds
COMPILED = ["classifier", "gan conv", "vae conv", "vqvae", "flow dense", "diffusion dense"]
RESIDUAL = {"gan residual": ("gan", {"network": "residual", "width": 4})}  # slow, and on a GPU


def model_of(case: str, spec: Spec) -> Any:
    name, values = (CASES | RESIDUAL)[case]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if name == "classifier":
            return Classifier(ClassifierConfig(width=8), spec)
        return build(name, values, spec)


def trained(case: str, dataset: Any, steps: int = 4, **values: Any) -> tuple[Trainer, list[str]]:
    config = TrainConfig.of({"images": steps * 8, "batch": 8, "warmup": 0} | values)
    run = Trainer(model_of(case, spec_of(dataset)), dataset, config, CPU)
    if hasattr(run.model, "probability"):
        run.model.probability.fill_(0.5)  # type: ignore[operator]
    return run, [record.note for record in run if record.note]


def assert_near(run: Trainer, other: Trainer, share: float) -> None:
    """The weights of two trainings differ by less than this share of the way that they went."""
    start = run.start  # type: ignore[attr-defined]
    for name, value in run.model.state_dict().items():
        theirs = other.model.state_dict()[name]
        if value.is_floating_point() and value.ndim > 1:  # the slope of a bias may be all rounding
            moved = (value - start[name]).norm()
            assert (value - theirs).norm() <= share * moved + 1e-6, name


def remembered(run: Trainer, case: str, dataset: Any) -> Trainer:
    run.start = model_of(case, spec_of(dataset)).state_dict()  # type: ignore[attr-defined]
    return run


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    torch._dynamo.reset()


# --- Compiling ------------------------------------------------------------------------------------


@compiles
@pytest.mark.parametrize("case", COMPILED)
def test_a_compiled_training_is_the_plain_one(toy, case, monkeypatch):
    monkeypatch.setattr(guard, "BACKEND", "aot_eager")  # all but the making of machine code
    dataset = toy(60, size=12)
    plain = remembered(trained(case, dataset)[0], case, dataset)
    graphs = torch._dynamo.utils.counters["stats"]
    graphs.clear()
    compiled, notes = trained(case, dataset, compile="on")
    assert notes == []
    assert (
        graphs["unique_graphs"] >= len({type(module) for module in compiled.compiler.modules}) > 0
    )
    assert_near(plain, compiled, 0.02)
    copy = compiled.published()
    assert all(module._compiled_call_impl is None for module in copy.modules())


@pytest.mark.parametrize("asked", ["auto", "off"])
def test_nothing_is_compiled_on_a_cpu_unless_it_is_asked_for(toy, asked):
    config = TrainConfig(images=guard.COMPILED, compile=asked)
    run = Trainer(model_of("vae dense", spec_of(toy())), toy(), config, CPU)
    assert run.compiler.modules == []
    assert all(module._compiled_call_impl is None for module in run.model.modules())


def test_nothing_is_compiled_for_several_gpus():
    with pytest.raises(UserError) as caught:
        TrainConfig.of({"compile": "on", "gpus": 2}, "train")
    assert str(caught.value) == (
        "train.compile must be auto or off for 2 GPUs, got on. Leave it out, or train on a single GPU."
    )


@compiles
def test_what_cannot_be_compiled_is_said_or_trained_without(toy, monkeypatch):
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler\nwhich is long to tell")

    monkeypatch.setattr(guard, "BACKEND", broken)
    dataset = toy(60)
    with pytest.raises(UserError) as caught:
        trained("vae dense", dataset, compile="on")
    text = str(caught.value)
    assert text.startswith("The networks cannot be compiled here: ")
    assert text.endswith("Set train.compile to off, or install what is missing.")
    assert "\n" not in text
    # and where it was nobody's wish
    config = TrainConfig(images=32, batch=8, compile="on")
    run = Trainer(model_of("vae dense", spec_of(dataset)), dataset, config, CPU)
    run.config = config.model_copy(update={"compile": "auto"})
    first, *rest = run
    assert first.note.startswith("The networks could not be compiled (")
    assert first.note.endswith("), so training goes on without it.")
    plain, _ = trained("vae dense", dataset, warmup=100)
    assert [record.step for record in rest if not record.note] == [1, 2, 3, 4]
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, run.model.state_dict()[name]), name


@compiles
def test_a_second_derivative_survives_compiling_only_as_part_of_the_graph():
    net = nn.Sequential(nn.Linear(4, 8), nn.Softplus(), nn.Linear(8, 1))
    x = torch.randn(5, 4)

    def penalty(function: Any) -> list[Tensor]:
        total = function(x).mean()
        return list(torch.autograd.grad(total, list(net.parameters())[:3]))

    def plain(x: Tensor) -> Tensor:
        return squares(lambda x: net(x)[:, 0], x)

    expected = penalty(plain)
    found = penalty(torch.compile(plain, backend="aot_eager", fullgraph=True))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(expected, found, strict=True))
    # without, torch refuses; when it no longer does, `squares` can be simpler
    compiled = torch.compile(net, backend="aot_eager")
    points = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(compiled(points).sum(), points, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        slope.square().sum().backward()


# --- Layout, precision, memory --------------------------------------------------------------------


@pytest.mark.parametrize("case", [*CASES, *RESIDUAL])
def test_channels_side_by_side_train_the_same(toy, case, monkeypatch):
    dataset = toy(60, size=12, channels=3)
    plain = remembered(trained(case, dataset)[0], case, dataset)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_layout", lambda device: torch.channels_last)
        turned, _ = trained(case, dataset)
    wide = [p for p in turned.model.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
    assert bool(wide) == any(
        part in case for part in ("conv", "unet", "vqvae", "class", "resid", "wgan")
    )
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in wide)
    assert_near(plain, turned, 0.1 if case in RESIDUAL else 0.02)
    # a state of one layout is gone on with in the other
    config = TrainConfig.of({"images": 64, "batch": 8, "warmup": 0})
    on = Trainer(model_of(case, spec_of(dataset)), dataset, config, CPU)
    on.restore(guard.copied(turned.state()))
    for optimiser in on.optimisers.values():
        for param, kept in optimiser.state.items():
            assert kept["exp_avg"].stride() == param.stride()


@pytest.mark.parametrize("case", [*CASES, *RESIDUAL])
def test_short_floats_begin_near_long_ones(toy, case):
    dataset = toy(60, size=12)
    run, _ = trained(case, dataset, 1)
    half, _ = trained(case, dataset, 1, precision="bfloat16")
    x = run._draw(run.train, 32, torch.Generator().manual_seed(0))
    values = []
    for each, wanted in ((run, False), (half, True)):
        each.model.load_state_dict(model_of(case, spec_of(dataset)).state_dict())
        with torch.autocast("cpu", torch.bfloat16, enabled=wanted):
            losses = each.model.losses(*x, torch.Generator().manual_seed(1), 0.2)
            values.append([loss.value.item() for loss in losses])
    assert values[1] == pytest.approx(values[0], rel=0.03, abs=0.03)


def test_images_are_kept_on_a_gpu_only_if_half_of_its_free_memory_holds_them(toy, monkeypatch):
    dataset = toy(60)
    size = 40 * 64
    for free, kept in ((2 * size, True), (2 * size - 2, False)):
        with monkeypatch.context() as patch:
            patch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10**12))
            patch.setattr(Tensor, "to", lambda self, *places: self)
            split = Split(dataset, "train", torch.device("cuda"))
        assert isinstance(split.x, Streamed) != kept


def test_every_family_says_what_is_worth_compiling():
    spec = Spec("image", (1, 8, 8), 17, (0.5, 0.5))
    for name in (entry.name for entry in families if "picture" in entry.takes):
        model: Any = build(name, {}, spec)
        inside = {id(module) for module in model.modules()}
        assert model.hot() and all(id(module) in inside for module in model.hot()), name
