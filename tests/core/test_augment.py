"""Augmentation: the promises that every step keeps, truth against torchvision, pipelines as data."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as V

from core import augment
from core.augment import Chain, Context, Pipeline, Step, augmentations, colour, geometry, noise_blur
from core.augment.geometry import homographies, matrices, moved
from core.augment.policies import COMMON, NAMES, operated
from core.catalog import UserError

EVERY = [e.name for e in augmentations if "run" not in e.needs and "picture" in e.takes]
SIZES = [(1, 8), (3, 32)]


def images(n: int = 6, channels: int = 3, size: int = 16, seed: int = 0) -> torch.Tensor:
    """Smooth images, as pictures are."""
    rough = torch.rand(n, channels, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(rough, (size, size), mode="bicubic").clamp(0, 1)


def chain_of(name: str, x: torch.Tensor, probability: float = 1.0, **config: object) -> Chain:
    context = Context(x, torch.arange(len(x)) % 3, 3)
    return Chain(Pipeline((Step.of(name, config, probability),)), context)


# --- What stands before a critic -------------------------------------------------------------------------------------


@pytest.fixture
def doubled():
    """Makes new tensors of double precision, in which a difference quotient is worth something."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def _slopes(name: str, x: torch.Tensor) -> tuple[torch.Tensor, float, float]:
    """Gives the gradient of a weighted sum of a step's images; its slope along some way, and the measured one."""
    chain = chain_of(name, x)
    one, (drawn,) = chain.steps[0][3], chain.draw(3, range(len(x)))
    params = {
        key: value.double() if value.is_floating_point() else value
        for key, value in drawn.params.items()
    }
    generator = torch.Generator().manual_seed(1)
    weight, way = (torch.randn(x.shape, generator=generator) for _ in range(2))
    x = x.double().requires_grad_()
    (gradient,) = torch.autograd.grad((one.apply(x, params) * weight).sum(), x)
    ends = [
        float((one.apply(x.detach() + by * way, params) * weight).sum()) for by in (1e-6, -1e-6)
    ]
    return gradient, float((gradient * way).sum()), (ends[0] - ends[1]) / 2e-6


@pytest.mark.parametrize("name", [e.name for e in augmentations if e.smooth])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_gradient_passes_the_steps_that_say_so(name, channels, doubled):
    x = 0.3 + 0.4 * images(4, channels, 12)
    gradient, told, measured = _slopes(name, x)
    assert told == pytest.approx(measured, rel=1e-3, abs=1e-4)
    assert bool((gradient != 0).flatten(1).any(1).all())
    ends = torch.stack([torch.zeros(channels, 12, 12), torch.ones(channels, 12, 12)])
    assert bool(_slopes(name, ends)[0].isfinite().all())  # a generator makes these two, too


def test_a_chain_before_a_critic_changes_each_image_by_itself_and_no_more_than_asked():
    pipeline = Pipeline((Step.of("rotate"), Step.of("noise", probability=0.5)))
    before = augment.CriticChain(pipeline)
    x = images(1).expand(400, -1, -1, -1) * 2 - 1

    def changed(p: float, seed: int = 0) -> torch.Tensor:
        return before(x, torch.tensor(p), torch.Generator().manual_seed(seed), parts=2)

    assert torch.equal(changed(0.0), x)
    assert torch.equal(changed(0.4), changed(0.4))
    assert len(changed(1.0).unique(dim=0)) == 400
    share = float((changed(0.4) - x).flatten(1).abs().amax(1).gt(1e-5).float().mean())
    assert share == pytest.approx(1 - 0.6 * 0.8, abs=0.08)  # turned or noisy
    assert not torch.equal(changed(0.4), changed(0.4, seed=1))


def test_a_chain_reads_the_images_once_for_affine_steps_in_a_row(monkeypatch):
    steps = [
        Step.of("rotate"),
        Step.of("scale", probability=0.5),
        Step.of("shear", {"fill": "black"}),
        Step.of("brightness"),
        Step.of("translate", {"fill": "black"}),
        Step.of("rotate", {"fill": "black"}),
    ]
    x = images(8)
    chain = Chain(Pipeline(tuple(steps)))
    drawn = chain.draw(0, range(8))
    wanted = chain.stages(x, drawn)
    assert len(wanted) == 6
    read: list[int] = []
    whole = geometry.sampled
    monkeypatch.setattr(geometry, "sampled", lambda *a: read.append(1) or whole(*a))
    assert torch.equal(chain.apply(x, drawn), wanted[-1])
    assert len(read) == 3


# --- What every step promises ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(("channels", "size"), SIZES)
def test_shape_range_and_input_are_kept(name, channels, size):
    x = images(5, channels, size)
    before = x.clone()
    made = chain_of(name, x)(x, 3, range(5))
    assert made.shape == x.shape
    assert made.dtype == torch.float32
    assert 0 <= float(made.min()) <= float(made.max()) <= 1
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", EVERY)
def test_an_image_depends_on_its_id_and_seed_and_not_on_the_batch(name):
    x = images(6)
    chain = chain_of(name, x, 0.7)
    whole = chain(x, 3, range(6))
    for picked in ([4], [5, 0, 4]):
        part = chain(x[picked], 3, picked)
        assert torch.allclose(part, whole[picked], atol=1 / 255)
    drawn = chain.draw(3, range(6))
    assert torch.equal(chain.apply(x, drawn), chain.apply(x, drawn))


@pytest.mark.parametrize("name", EVERY)
def test_probability_0_changes_nothing_and_1_every_image(name):
    x = images()
    assert torch.equal(chain_of(name, x, 0.0)(x, 0, range(6)), x)
    assert bool(chain_of(name, x, 1.0).draw(0, range(6))[0].chosen.all())
    half = chain_of(name, x, 0.5).draw(0, range(2000))[0].chosen.float().mean()
    assert 0.45 < half < 0.55


@pytest.mark.parametrize("name", [n for n in EVERY if augmentations.get(n).strength])
def test_strength_0_is_the_identity_and_both_ends_are_pictures(name):
    x = images()
    start, *_, end = augment.magnitudes(name)
    strength = augmentations.get(name).strength
    assert start == augmentations.get(name).neutral
    kind = augmentations.get(name).config.knobs()[strength].type
    same = chain_of(name, x, **{strength: kind(start)})(x, 0, range(6))
    assert torch.allclose(same, x, atol=1e-4)
    far = chain_of(name, x, **{strength: kind(end)})(x, 0, range(6))
    assert bool(far.isfinite().all())
    grey = {"saturation", "hue"}  # have nothing to change in a grey image
    assert name in grey or float((far - x).abs().max()) > 1 / 255


@pytest.mark.parametrize("name", EVERY)
def test_a_constant_image_comes_out_as_a_picture(name):
    for value in (0.0, 0.5, 1.0):
        x = torch.full((3, 1, 8, 8), value)
        made = chain_of(name, x)(x, 0, range(3))
        assert bool(made.isfinite().all())
        assert 0 <= float(made.min()) <= float(made.max()) <= 1


@pytest.mark.parametrize("name", EVERY)
def test_every_entry_says_what_it_is(name):
    entry = augmentations.get(name)
    assert entry.group in augment.GROUPS
    assert entry.caption.endswith(".")
    strength = entry.strength
    assert not strength or strength in entry.config.knobs()


def test_one_image_without_labels_of_128_px_passes_a_chain_of_twenty_steps():
    steps = tuple(Step.of(name, None, 1.0) for name in EVERY if name not in ("mixup", "cutmix"))
    x = images(1, 3, 128)
    chain = Chain(Pipeline(steps[:20]))
    frames = augment.film(chain, x, 0, [7])
    assert frames[0].title == "Original"
    assert len(frames) == 21
    assert np.array_equal(
        frames[-1].images, (chain(x, 0, [7]) * 255).round().to(torch.uint8).numpy()
    )
    with pytest.raises(UserError, match=r"at most 40 steps, got 41\. Leave some out"):
        Pipeline(steps[:1] * 41)


# --- Truth ------------------------------------------------------------------------------------------------------------


def test_a_turn_is_that_of_torchvision_and_a_quarter_turn_is_exact():
    x = images(1, 3, 17)
    mine = moved(x, matrices(angle=torch.tensor([30.0])), "black")
    theirs = V.rotate(x, 30.0, V.InterpolationMode.BILINEAR)
    assert torch.allclose(mine, theirs, atol=1e-4)
    quarter = moved(x, matrices(angle=torch.tensor([90.0])), "black")
    assert torch.allclose(quarter, torch.rot90(x, 1, (2, 3)), atol=1e-4)


def test_a_shift_by_whole_pixels_moves_and_does_not_blur():
    x = images(1, 1, 10)
    shift = torch.tensor([[0.2, -0.1]])  # two to the right, one up
    made = moved(x, matrices(shift=shift), "black")
    assert torch.allclose(made[0, 0, :-1, 2:], x[0, 0, 1:, :-2], atol=1e-5)
    assert float(made[0, 0, :, :2].abs().max()) == 0
    whole = chain_of("translate", x, share=0.3, whole=True)(x, 0, [1])
    assert set(whole.unique().tolist()) <= set(x.unique().tolist()) or torch.allclose(
        whole, (whole * 255 * 64).round() / (255 * 64), atol=1e-3
    )


def test_a_zoom_reads_what_it_says():
    x = torch.zeros(1, 1, 16, 16)
    x[:, :, 6:10, 6:10] = 1
    assert float(moved(x, matrices(scale=torch.tensor([2.0])), "black").sum()) == pytest.approx(
        64, rel=0.05
    )


def test_four_points_go_where_they_should():
    generator = torch.Generator().manual_seed(0)
    start = torch.tensor([[[-1.0, -1], [1, -1], [1, 1], [-1, 1]]]) * 0.9
    end = start + 0.2 * torch.rand(1, 4, 2, generator=generator)
    there = torch.cat([start, torch.ones(1, 4, 1)], 2) @ homographies(start, end).mT
    assert torch.allclose(there[..., :2] / there[..., 2:], end, atol=1e-4)


def test_colours_are_those_of_torchvision():
    x = images(4)
    whole = (x * 255).round() / 255
    of = {
        "brightness": (colour.brighter, V.adjust_brightness, 1.3),
        "contrast": (colour.contrasted, V.adjust_contrast, 0.6),
        "saturation": (colour.coloured, V.adjust_saturation, 1.5),
        "solarise": (colour.solarised, V.solarize, 0.4001),
    }
    for mine, theirs, value in of.values():
        made = mine(whole, torch.full((4,), value))
        assert torch.allclose(made, theirs(whole, value).clamp(0, 1), atol=2e-3)
    levels = (whole * 255).round().to(torch.uint8)
    made = colour.posterised(whole, torch.full((4,), 3.0))
    assert torch.equal((made * 255).round().to(torch.uint8), V.posterize(levels, 3))
    made = colour.stretched(whole)
    assert torch.allclose(made, V.autocontrast(whole), atol=1e-4)


def test_an_equalised_level_is_the_share_of_pixels_up_to_it():
    """Among those above the lowest level; torchvision rounds its step, so it is no oracle for small images."""
    x = (images(2, channels=1) * 15).round() / 15
    made = colour.equalised(x)
    for image, found in zip(x, made, strict=True):
        above = image[image > image.min()]
        share = (above[None] <= image.flatten()[:, None]).double().mean(1)
        assert found.flatten().double().numpy() == pytest.approx(share.numpy(), abs=1e-6)


def test_a_blur_is_a_convolution_and_keeps_the_mean_inside():
    x = torch.zeros(1, 1, 21, 21)
    x[0, 0, 10, 10] = 1
    made = noise_blur.blurred(x, torch.tensor([1.5]))
    assert float(made.sum()) == pytest.approx(1, abs=1e-5)
    theirs = V.gaussian_blur(x, [13, 13], [1.5, 1.5])
    assert torch.allclose(made, theirs, atol=1e-4)


def test_a_hue_turned_by_120_degrees_swaps_channels():
    x = torch.tensor([1.0, 0.5, 0.2]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    made = colour.turned(x, torch.tensor([120.0]))
    assert torch.allclose(made[0, :, 0, 0], torch.tensor([0.2, 1.0, 0.5]), atol=1e-5)


def test_noise_has_the_deviation_that_was_drawn():
    x = torch.full((1, 3, 64, 64), 0.5)
    chain = chain_of("noise", x, sigma=0.1)
    drawn = chain.draw(0, [3])
    made = chain.apply(x, drawn)
    assert float((made - x).std()) == pytest.approx(float(drawn[0].params["sigma"][0]), rel=0.05)
    assert chain.values(drawn, 0)[0] == {"sigma": f"{float(drawn[0].params['sigma'][0]):.3g}"}


def test_an_operation_touches_only_the_images_that_drew_it():
    x = images(3)
    made = operated(x, torch.tensor([NAMES.index("invert"), -1, -1]), torch.ones(3), "edge")
    assert torch.allclose(made[0], 1 - x[0])
    assert torch.equal(made[1:], x[1:])
    for number in COMMON:
        same = operated(x, torch.full((3,), number), torch.zeros(3), "edge")
        assert torch.allclose(same, x, atol=1e-4), NAMES[number]


def test_mixed_labels_have_the_share_of_the_pixels():
    x = torch.stack([torch.full((1, 8, 8), value) for value in (0.0, 1.0)])
    y = torch.tensor([0, 1])
    for name in ("mixup", "cutmix"):
        chain = Chain(Pipeline((Step.of(name, {"alpha": 1.0}),)), Context(x, y, 2))
        ids = torch.arange(40)
        drawn = chain.draw(1, ids)
        zeros = torch.zeros(40, dtype=torch.int64)
        made = chain.apply(x[zeros], drawn)
        shares = chain.labels(zeros, drawn)
        assert torch.allclose(made.mean((1, 2, 3)), shares[:, 1], atol=1e-5)
        assert torch.allclose(shares.sum(1), torch.ones(40))
        assert 0 < float(shares[:, 1].mean()) < 0.5
    assert torch.equal(Chain(Pipeline()).labels(y, []), y)


def test_mixers_say_what_they_miss():
    with pytest.raises(
        UserError, match=r"MixUp mixes in other images of a dataset, and there are none"
    ):
        Chain(Pipeline((Step.of("mixup"),)))
    x = images(2)
    chain = Chain(Pipeline((Step.of("cutmix"),)), Context(x))
    with pytest.raises(UserError, match=r"CutMix mixes labels, and these images have none"):
        chain.labels(torch.zeros(2, dtype=torch.int64), chain.draw(0, [0, 1]))


# --- Pipelines ---------------------------------------------------------------------------------------------------------


def test_switching_a_step_off_or_moving_it_leaves_the_draws_of_the_others_alone():
    pipeline = Pipeline().with_step("rotate").with_step("noise").with_step("rotate", {"degrees": 5})
    drawn = Chain(pipeline).draw(1, range(6))
    first, noise, last = pipeline.steps
    off = Chain(Pipeline((first, replace(noise, on=False), last))).draw(1, range(6))
    assert torch.equal(drawn[2].params["angle"], off[1].params["angle"])
    moved = Chain(Pipeline((noise, first, last))).draw(1, range(6))
    assert torch.equal(drawn[1].params["sigma"], moved[0].params["sigma"])
    assert not torch.equal(drawn[0].params["angle"] / 15, drawn[2].params["angle"] / 5)


def test_the_hash_is_of_what_it_does():
    pipeline = Pipeline(name="one").with_step("rotate").with_step("blur")
    assert Pipeline(pipeline.steps, "two").hash == pipeline.hash
    rotate, blur = pipeline.steps
    assert Pipeline((blur, rotate)).hash != pipeline.hash
    assert Pipeline((Step.of("rotate", {"degrees": 16.0}), blur)).hash != pipeline.hash
    assert Pipeline((rotate, replace(blur, on=False))).hash == Pipeline((rotate,)).hash


@pytest.mark.parametrize("preset", augment.presets(), ids=lambda preset: preset.id)
def test_presets_come_back_from_every_file_and_run_as_torchvision(preset):
    for dialect in ("json", "yaml"):
        back = augment.read(augment.export(preset.pipeline, dialect))
        assert (back.hash, back.name) == (preset.pipeline.hash, preset.pipeline.name)
    assert preset.why.endswith(".")
    assert not preset.pipeline.slow
    assert augment.load(preset.id) is preset.pipeline


def test_a_recipe_that_is_none_is_refused_in_words():
    good = json.loads(augment.export(augment.presets()[0].pipeline, "json"))

    def wrong(**change: object) -> str:
        with pytest.raises(UserError) as error:
            augment.read(json.dumps(good | change))
        return str(error.value)

    assert wrong(version=7) == (
        "The recipe has version 7, and this program reads version 1. "
        "Export it again with this version, or update the program."
    )
    assert "has the format 'other', and 'simulacra-pipeline' is read" in wrong(format="other")
    assert (
        wrong(steps=[{"name": "rotat"}])
        == "There is no augmentation 'rotat'. Did you mean 'rotate'?"
    )
    assert wrong(steps=[{"name": "rotate", "parameters": {"degrees": 400}}]) == (
        "step 1 (rotate).degrees must be a number at least 0 and at most 180, got 400. Leave it out to use 15."
    )
    assert wrong(steps=[{"name": "rotate", "parameters": {"angle": 4}}]).startswith(
        "There is no parameter of step 1 (rotate) 'angle'"
    )
    assert wrong(steps=[{"name": "flip", "probability": 2}]) == (
        "step 1 (flip).probability must be a number at least 0 and at most 1, got 2. 1 changes every image."
    )
    assert wrong(steps=[{"name": "flip", "p": 1}]).startswith("Step 1 (flip) has the field 'p'")
    assert wrong(steps=["flip"]).startswith("Step 1 must be an object with a name, got 'flip'")
    assert wrong(steps=None).startswith("The recipe has no list of steps")
    for text, part in {
        "[1, 2": "neither JSON nor YAML: it cannot be read in line",
        "[1, 2]": "must be an object with format, version and steps",
        "a: &x 1\nb: *x": "must not hold YAML anchors and aliases",
        "x" * 200_000: "at most 100,000 characters, got 200,000",
        "!!python/object/apply:os.system ['true']": "neither JSON nor YAML",
    }.items():
        with pytest.raises(UserError, match=part):
            augment.read(text)


def test_a_saved_pipeline_never_changes_under_its_id(setting, home):
    pipeline = Pipeline().with_step("rotate")
    id = augment.save(pipeline, "My turns!", who="Ada")
    assert id.startswith("my-turns-")
    assert augment.save(pipeline, "My turns!") == id
    assert augment.save(pipeline.with_step("blur"), "My turns!") != id
    assert augment.load(id).hash == pipeline.hash
    (first, second) = augment.saved()
    assert {first.who, second.who} == {"Ada", ""}
    setting(view_only=1)
    with pytest.raises(
        UserError, match="This server is for viewing only, so it cannot save a pipeline"
    ):
        augment.save(pipeline, "x")
    assert augment.load(id).hash == pipeline.hash
    setting(view_only=0)
    (home / "pipelines" / f"{id}.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        augment.load(id)
    assert len(augment.saved()) == 1
    augment.forget(augment.saved()[0].id)
    assert not augment.saved()
    for name in ("../secret", ""):
        with pytest.raises(UserError, match=f"There is no pipeline '{name}'"):
            augment.load(name)
    with pytest.raises(UserError, match="comes with the program"):
        augment.forget("digits")
    with pytest.raises(UserError, match=r"at least one letter or digit, got '!!'"):
        augment.save(pipeline, "!!")
    with pytest.raises(UserError, match=r"at least 1 step, got 0"):
        augment.save(Pipeline(), "none")


def test_training_takes_quick_steps_only_and_draws_from_its_generator():
    transform = augment.training(augment.load("digits"))
    x = images(6, 1, 8)
    one = transform(x, torch.Generator().manual_seed(1))
    assert torch.equal(one, transform(x, torch.Generator().manual_seed(1)))
    assert not torch.equal(one, transform(x, torch.Generator().manual_seed(2)))
    slow = Pipeline().with_step("jpeg")
    assert slow.slow == ["JPEG"]
    with pytest.raises(
        UserError, match=r"JPEG works one image at a time, too slow for training\. Switch it off"
    ):
        augment.training(slow)
    augment.training(Pipeline((replace(slow.steps[0], on=False),)))
    with pytest.raises(
        UserError, match=r"MixUp mixes labels, which a training from a dataset cannot take"
    ):
        augment.training(Pipeline().with_step("mixup"))


def test_a_grid_and_a_sweep_show_the_same_draws_again():
    x = images(3)
    chain = Chain(augment.load("photos"))
    sheet = augment.grid(chain, x, 5, 4)
    assert sheet.shape == (3, 4, 3, 16, 16)
    alone = chain(x[[1] * 4], 5, range(1000, 1004))  # version d of image i has the id 1000 i + d
    assert np.abs((alone * 255).round().int().numpy() - sheet[1]).max() <= 1
    swept = augment.sweep("rotate", {"fill": "black"}, x, values=5)
    assert swept.values == [0, 45, 90, 135, 180]
    assert swept.images.shape == (5, 3, 3, 16, 16)
    assert np.array_equal(swept.images[0], (x * 255).round().to(torch.uint8).numpy())
    assert augment.magnitudes("posterise") == [8, 7, 6, 4, 3, 2, 1]
    with pytest.raises(UserError, match=r"Mirror left and right has no magnitude to sweep"):
        augment.sweep("flip", {}, x)


# --- Models as steps ---------------------------------------------------------------------------------------------------


def test_a_model_gives_others_of_the_class_and_neighbours(trained):
    x, y = images(4, 1, 8), torch.tensor([0, 1, 2, 3])
    for name, run in (("sample", "gan"), ("neighbour", "vae")):
        config = {"run": trained.runs[run]}
        chain = Chain(Pipeline((Step.of(name, config, 1.0),)))
        whole = chain(x, 1, range(4), y)
        assert whole.shape == x.shape
        assert torch.allclose(chain(x[2:3], 1, [2], y[2:3]), whole[2:3], atol=1 / 255)
        assert chain.pipeline.slow
    still = Chain(Pipeline((Step.of("neighbour", config | {"strength": 0.0}),)))
    assert torch.allclose(still(x, 1, range(4), y), x, atol=1e-4)


def test_a_model_that_does_not_fit_is_refused_in_words(trained):
    vae = trained.runs["vae"]
    chain = Chain(Pipeline((Step.of("sample", {"run": vae}, 1.0),)))
    with pytest.raises(UserError, match=r"makes images of 1 × 8 × 8, and these have 3 × 16 × 16"):
        chain(images(1), 0, [0], torch.tensor([0]))
    of_class = Chain(Pipeline((Step.of("sample", {"run": trained.runs["gan"]}, 1.0),)))
    with pytest.raises(UserError, match="makes images of a class, and these have no labels"):
        of_class(images(1, 1, 8), 0, [0])
    with pytest.raises(UserError, match=r"which cannot encode an image\. A VAE, flow or diffusion"):
        Chain(Pipeline((Step.of("neighbour", {"run": trained.runs["gan"]}),)))
    with pytest.raises(UserError, match=r"A generative step needs a run, got ''"):
        Chain(Pipeline((Step.of("sample"),)))


def test_two_turns_in_a_row_blur_once():
    x = images(4, 3, 32)
    two = Chain(
        Pipeline((Step.of("rotate", {"degrees": 20.0}), Step.of("rotate", {"degrees": 20.0})))
    )
    drawn = two.draw(0, range(4))
    angle = drawn[0].params["angle"] + drawn[1].params["angle"]
    once = moved(x, matrices(angle=angle), "edge")
    assert torch.allclose(two.apply(x, drawn), once, atol=1e-4)
    # order matters for other maps: a shift, then a turn
    both = Chain(
        Pipeline((Step.of("translate", {"share": 0.1}), Step.of("rotate", {"degrees": 40.0})))
    )
    drawn = both.draw(0, range(4))
    shift = torch.stack([drawn[0].params["right"], drawn[0].params["down"]], 1)
    shifted = moved(x, matrices(shift=shift), "edge")
    turned = moved(shifted, matrices(angle=drawn[1].params["angle"]), "edge")
    assert float((both.apply(x, drawn) - turned)[:, :, 6:-6, 6:-6].abs().max()) < 0.05
    frames = augment.film(both, x, 0, range(4))
    assert np.array_equal(
        frames[-1].images, (both.apply(x, drawn) * 255).round().to(torch.uint8).numpy()
    )
