"""Networks of diffusers that are brought: what a folder may say, and what becomes of its network."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save as as_bytes
from torch import nn

from core import brought, datasets, jobs, runs, worker
from core.brought import diffusers
from core.brought.diffusers import Denoiser, DiffusersConfig, DiffusersSampling, ladder
from core.catalog import UserError
from core.models import Spec
from core.weights import Package, component

SPREAD = 0.3  # of the data of which the exact answer is known
SCHEDULER = {"_class_name": "DDPMScheduler", "num_train_timesteps": 1000}


def taught(**changes: object) -> dict:
    return diffusers.read_schedule(SCHEDULER | changes, "scheduler_config.json")


class Exact(nn.Module):
    """Says what is to be expected where data is normal with SPREAD, at any step of a ladder."""

    def __init__(self, said: dict) -> None:
        super().__init__()
        self.anchor, self.said = nn.Parameter(torch.zeros(())), said
        self.levels = ladder(said)

    def forward(self, state: torch.Tensor, step: torch.Tensor, class_labels: object = None):
        if self.said["straight"]:
            spread = (step / self.said["steps"]).view(-1, 1, 1, 1)
            signal = 1 - spread
        else:
            low = step.floor().long().clamp(0, len(self.levels) - 1)
            high = (low + 1).clamp(max=len(self.levels) - 1)
            level = torch.lerp(self.levels[low], self.levels[high], (step - low).double())
            signal, spread = (
                torch.sigmoid(side * 2 * level).sqrt().float().view(-1, 1, 1, 1) for side in (1, -1)
            )
        data = signal * SPREAD**2 / ((signal * SPREAD) ** 2 + spread**2) * state
        noise = (state - signal * data) / spread.clamp_min(1e-6)
        answer = {
            "epsilon": noise, "sample": data, "v_prediction": signal * noise - spread * data,
        }[self.said["prediction"]]  # fmt: skip
        return SimpleNamespace(sample=noise - data if self.said["straight"] else answer)


@pytest.mark.parametrize(
    "changes",
    [
        {"prediction_type": "epsilon"},
        {"prediction_type": "v_prediction", "beta_schedule": "squaredcos_cap_v2"},
        {"prediction_type": "sample", "beta_schedule": "scaled_linear"},
        {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
        {"_class_name": "FlowMatchEulerDiscreteScheduler"},
    ],
)
def test_a_perfect_network_of_any_kind_gives_the_velocity_that_is_known(changes):
    said = taught(**changes)
    facts = {"scheduler": said, "order": [], "null": -1, "net": {}}
    model = Denoiser(Exact(said), facts, Spec("image", (1, 2, 2), 256)).eval()
    t = torch.tensor([0.05, 0.3, 0.6, 0.9])
    x = 0.5 * torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    wide = t.view(-1, 1, 1, 1)
    # of x_t = t data + (1 - t) noise with both normal: a linear regression of data - noise on x_t
    exact = (wide * SPREAD**2 - (1 - wide)) / ((wide * SPREAD) ** 2 + (1 - wide) ** 2) * x
    with torch.no_grad():
        assert torch.allclose(model.velocity(x, t), exact, atol=2e-3)
        # data that is normal is drawn with its own spread, and an image comes back out of its noise
        usual = DiffusersSampling(steps=40)
        drawn = model.sample(range(400), None, 0, usual) * 2 - 1
        assert float(drawn.std()) == pytest.approx(SPREAD, rel=0.08)
        image = (drawn[:50] + 1) / 2
        again = model.decode(model.encode(image, None, usual), None, usual)
        assert float((again - image).square().mean()) < 1e-4


def test_ladders_are_those_of_the_papers():
    a = lambda said: torch.sigmoid(2 * ladder(said))  # noqa: E731  what is left of the image
    linear = torch.linspace(0.0001, 0.02, 1000, dtype=torch.float64)
    assert torch.allclose(a(taught()), (1 - linear).cumprod(0), atol=1e-7)
    at = (torch.arange(1, 1000, dtype=torch.float64) / 1000 + 0.008) / 1.008
    cosine = (at * torch.pi / 2).cos() ** 2 / torch.cos(
        torch.tensor(0.008 / 1.008 * torch.pi / 2)
    ) ** 2
    assert torch.allclose(
        a(taught(beta_schedule="squaredcos_cap_v2"))[:900], cosine[:900], atol=1e-6
    )
    assert torch.allclose(a(taught(trained_betas=[0.1, 0.5])), torch.tensor([0.9, 0.45]).double())
    assert a(taught(rescale_betas_zero_snr=True))[-1] < 1e-7


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"_class_name": "MyScheduler"}, "describes the scheduler 'MyScheduler'"),
        ({"num_train_timesteps": -5}, "num_train_timesteps=-5, and numbers from 2 to 1"),
        ({"num_train_timesteps": 10**11}, "numbers from 2 to 1"),
        ({"beta_end": "nan"}, "beta_end='nan'"),
        ({"beta_schedule": "mine"}, "beta_schedule='mine'. Known are: linear"),
        ({"prediction_type": "flow"}, "prediction_type='flow'. Known are: epsilon"),
        ({"trained_betas": [2.0, 0.1]}, "trained_betas that are no numbers between 0 and 1"),
    ],
)
def test_what_a_scheduler_may_not_say_is_named(changes, text):
    with pytest.raises(UserError, match=text):
        taught(**changes)


def test_a_pipeline_of_anything_else_than_a_network_and_a_scheduler_is_refused():
    good = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]}
    diffusers._allow_pipeline(good | {"scheduler": ["diffusers", "DDIMScheduler"]})
    for bad in (
        {"_class_name": "MyPipeline"},
        {"unet": ["my_module", "UNet2DModel"]},
        {"unet": ["diffusers", "UNet3D"]},
        {"scheduler": ["os", "system"]},
        {"safety": ["diffusers", "UNet2DModel"]},
    ):
        with pytest.raises(
            UserError, match=r"nothing that is brought is ever run|Nothing else of a folder"
        ):
            diffusers._allow_pipeline(good | bad)


def test_a_description_is_bounded_before_its_class_sees_it(setting):
    known = {"width", "blocks", "kind"}
    fine = {"width": 3, "blocks": [1, 2], "kind": "a", "_class_name": "X"}
    check = lambda said: component.described(said, "config.json", known, {"kind": ("a",)})  # noqa: E731
    assert check(fine) == {"width": 3, "blocks": [1, 2], "kind": "a"}
    for change, text in (
        ({"wide": 1}, "asks for 'wide', which this version does not know"),
        ({"width": -3}, "width=-3, and numbers from 0 to 65536"),
        ({"width": 10**11}, "numbers from 0 to 65536"),
        ({"blocks": [1, [2]]}, "a plain value or a list"),
        ({"blocks": [1] * 65}, "a plain value or a list of at most 64"),
        ({"kind": "b"}, "kind='b'. Known are: a"),
        ({"kind": "b" * 300}, "a text of 300 characters"),
    ):
        with pytest.raises(UserError, match=text):
            check(fine | change)
    with pytest.raises(
        UserError, match=r"asks for 10,000 million numbers, and at most 1,000 million"
    ):
        component.outline(lambda: nn.Linear(100_000, 100_000, bias=False), "It")
    setting(max_parameters=20_000)
    assert (
        component.outline(lambda: nn.Linear(100_000, 100_000), "It").state_dict()["weight"].is_meta
    )
    assert component.outline(lambda: nn.Linear(2, 2), "It").state_dict()["weight"].is_meta
    with pytest.raises(UserError, match=r"describes no network that can be built \(ValueError: No"):
        component.outline(lambda: (_ for _ in ()).throw(ValueError("No")), "It")


def test_tensors_that_are_missing_strange_or_of_another_shape_are_refused():
    make = lambda: nn.Linear(3, 2)  # noqa: E731
    weights = make().state_dict()

    def files(**changes: object) -> list:
        held = {k: v for k, v in (weights | changes).items() if v is not None}
        return component.stored(Package("f", {"w.safetensors": as_bytes(held)}), "w")

    built = component.build(make, files(), "it")
    assert torch.equal(built.state_dict()["weight"], weights["weight"])
    assert not any(weight.requires_grad for weight in built.parameters())
    for change, text in (
        ({"bias": None}, r"1 of its 2 tensors are missing, the first is 'bias'"),
        ({"more": torch.ones(2)}, "'more' belongs to no part of it"),
        ({"bias": torch.ones(3)}, r"'bias' must have the shape \(2,\), got \(3,\)"),
    ):
        with pytest.raises(UserError, match=text):
            component.build(make, files(**change), "it")
    parts = {
        f"w-0000{n}-of-00002.safetensors": as_bytes({k: v})
        for n, (k, v) in enumerate(weights.items(), 1)
    }
    assert torch.equal(
        component.build(make, component.stored(Package("f", parts), "w"), "it").state_dict()[
            "bias"
        ],
        weights["bias"],
    )
    parts.popitem()
    with pytest.raises(UserError, match="holds 1 of the 2 parts of its weights"):
        component.stored(Package("f", parts), "w")


# --- With the library itself -----------------------------------------------------------------------------------------

NET = {
    "_class_name": "UNet2DModel", "sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1,
    "block_out_channels": [8, 16], "norm_num_groups": 4, "attention_head_dim": 4,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}  # fmt: skip


def folder(
    net: dict | None = None, scheduler: dict | None = None, weights: dict | None = None
) -> Package:
    """A folder as diffusers writes it, with random weights."""
    library = pytest.importorskip("diffusers")
    described = NET | (net or {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = library.UNet2DModel(
            **{k: v for k, v in (NET | (weights or {})).items() if k[0] != "_"}
        )
    tensors = made.state_dict()
    index = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"],
             "scheduler": ["diffusers", "DDPMScheduler"]}  # fmt: skip
    return Package("net", {
        "model_index.json": json.dumps(index).encode(),
        "unet/config.json": json.dumps(described).encode(),
        "unet/diffusion_pytorch_model.safetensors": as_bytes(tensors),
        "scheduler/scheduler_config.json": json.dumps(SCHEDULER | (scheduler or {})).encode(),
    })  # fmt: skip


def looked(package: Package) -> brought.Seen:
    see = brought.origin_of(package).see
    assert see is not None
    return see(package)


def with_tensors(package: Package, change) -> Package:
    from safetensors.torch import load

    path = "unet/diffusion_pytorch_model.safetensors"
    return Package("net", {**package.files, path: as_bytes(change(load(package[path])))})


def test_a_folder_of_diffusers_becomes_a_run_and_opens_again_as_it_was(monkeypatch):
    classes = {"num_class_embeds": 10}
    package, digits = folder(classes, weights=classes), datasets.load("digits")
    seen = looked(package)
    assert (seen.shape, seen.classes, seen.title) == ((1, 8, 8), 10, "UNet2DModel of diffusers")
    monkeypatch.setattr(jobs, "spawn", worker.work)
    kept = brought.keep("mine", package, {}, digits, terms={"licence": "apache-2.0"})
    run = jobs.get(kept.id)
    assert run.status == "finished", run.message
    opened = runs.open_model(run)
    model, usual = opened.model, opened.usual
    record = runs.record(run)
    assert (
        record["terms"]["licence"] == "apache-2.0" and record["package"]["sha256"] == package.digest
    )
    assert "mean of its classes" in record["notes"][0] and opened.classes == digits.classes
    first = brought.generator(run.config["brought"], package, opened.spec, digits.classes).model
    y = torch.tensor([3, 5, 7])
    with torch.no_grad():
        x = model.sample([0, 1, 2], y, 0, usual)
        assert torch.equal(x, first.sample([0, 1, 2], y, 0, usual))
        alone = model.sample(
            [2], y[2:], 0, usual
        )  # the same image in any batch, within their arithmetic
        assert torch.allclose(alone, x[2:], atol=1e-5)
        assert not torch.allclose(alone, model.sample([2], y[:1], 0, usual), atol=1e-3)
        shares = torch.eye(10)[y]
        t = torch.full((3,), 0.4)
        assert torch.allclose(model.velocity(x, t, y), model.velocity(x, t, shares), atol=1e-6)
        # of no class in particular it hears the mean of its classes
        table = first.net.class_embedding.weight
        assert torch.allclose(
            model.anything @ table, torch.tensor(opened.spec.shares) @ table, atol=1e-6
        )


def test_what_the_library_says_is_what_our_velocity_is_made_of():
    library = pytest.importorskip("diffusers")
    package = folder()
    spec = Spec("image", (1, 8, 8), 17)
    model = brought.origins.get("diffusers").make(DiffusersConfig(), package, spec, (), None).model
    scheduler = library.DDIMScheduler(**{k: v for k, v in SCHEDULER.items() if k[0] != "_"})
    step = 400
    a = float(scheduler.alphas_cumprod[step])
    state = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        noise = model.net(state, step).sample
    data = ((state - (1 - a) ** 0.5 * noise) / a**0.5).clamp(-1, 1)
    length = a**0.5 + (1 - a) ** 0.5
    t = torch.full((2,), a**0.5 / length)
    with torch.no_grad():
        assert torch.allclose(model.velocity(state / length, t), data - noise, atol=1e-4)
    for kind in ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"):
        theirs = (
            library.DDPMScheduler(beta_schedule=kind).alphas_cumprod.double().clamp(1e-8, 1 - 1e-8)
        )
        assert torch.allclose(
            torch.sigmoid(2 * ladder(taught(beta_schedule=kind))), theirs, atol=1e-5
        )


def test_folders_that_lie_are_refused_by_what_is_wrong(tmp_path):
    marker = tmp_path / "was_run"
    (tmp_path / "evil_module.py").write_text(f"open({str(marker)!r}, 'w')")
    sys.path.insert(0, str(tmp_path))
    try:
        index = {"_class_name": "DDPMPipeline", "unet": ["evil_module", "UNet2DModel"]}
        package = folder()
        evil = Package("net", {**package.files, "model_index.json": json.dumps(index).encode()})
        for bad, text in (
            (evil, "made by .*evil_module"),
            (folder({"block_out_channels": [8, -16]}), "block_out_channels=-16"),
            (
                folder({"block_out_channels": [8192, 8192], "layers_per_block": 16}),
                "million numbers",
            ),
            (folder({"attention": 3}), "asks for 'attention', which this version does not know"),
            (
                folder({"down_block_types": ["evil_module.Block", "DownBlock2D"]}),
                "down_block_types='evil",
            ),
            (folder({"block_out_channels": [8, 16, 32]}), "describes no network that can be built"),
            (folder({"sample_size": [8, 16]}), "Only square ones"),
            (
                with_tensors(package, lambda held: dict(list(held.items())[4:])),
                "4 of its .* are missing",
            ),
            (
                with_tensors(package, lambda held: held | {"x": torch.ones(1)}),
                "'x' belongs to no part",
            ),
        ):
            with pytest.raises(UserError, match=text):
                looked(bad)
    finally:
        sys.path.remove(str(tmp_path))
    assert not marker.exists() and "evil_module" not in sys.modules


def test_old_names_classes_and_datasets_are_matched_or_asked_for():
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}

    def rename(held: dict) -> dict:
        found = {}
        for name, value in held.items():
            for new, before in old.items():
                name = name.replace(new, before) if "attentions" in name else name
            found[name] = value
        return found

    make = brought.origins.get("diffusers").make
    spec, none = Spec("image", (1, 8, 8), 17), DiffusersConfig()
    package = folder()
    older = with_tensors(package, rename)
    assert (
        older["unet/diffusion_pytorch_model.safetensors"]
        != package["unet/diffusion_pytorch_model.safetensors"]
    )
    nets = [make(none, each, spec, (), None).model.net.state_dict() for each in (package, older)]
    assert all(torch.equal(value, nets[1][name]) for name, value in nets[0].items())
    with pytest.raises(
        UserError, match=r"makes 1 × 8 × 8, and the dataset's items are 3 × 8 × 8.*at 8 px in grey"
    ):
        make(none, package, Spec("image", (3, 8, 8), 256), (), None)
    for_two = Spec("image", (1, 8, 8), 17, (0.5, 0.5))
    three = {"num_class_embeds": 3}
    package = folder(three, weights=three)
    named = DiffusersConfig(classes="dog, bird, cat")
    model = make(named, package, for_two, ("cat", "dog"), None).model
    assert model.rows.tolist() == [[0, 0, 1], [1, 0, 0]]
    model = make(none, package, for_two, ("cat", "dog"), None).model  # one more: any image
    assert model.anything.tolist() == [0, 0, 1]
    with pytest.raises(
        UserError, match=r"has no class 'cow' of the dataset. It has: dog, bird, cat"
    ):
        make(named, package, for_two, ("cat", "cow"), None)
    with pytest.raises(UserError, match="listens to 3 classes, and 1 names are known"):
        make(none, package, Spec("image", (1, 8, 8), 17, (1.0,)), ("cat",), None)
    lone = Package("net", package.below("unet").files)
    assert looked(lone).sampler == "not said"
    with pytest.raises(UserError, match="nobody knows how it was taught"):
        make(none, lone, for_two, ("cat", "dog"), None)
    flow = make(DiffusersConfig(noise="flow matching"), lone, for_two, ("cat", "dog"), None)
    assert flow.model.flow
