"""Filling in what is not known of an item: what stays, what comes, and what it must stand."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from core import datasets, jobs, latent, runs
from core.__main__ import main
from core.catalog import UserError
from core.ground import sheets, xmp
from core.ground.watch import Stopped, Watch
from core.latent import holes, repair
from core.latent.density import density
from core.latent.repair import codes, search
from core.models import Repairs, Spec, build, families
from core.models.diffusion import ancestral, resampled
from core.tensors import noise

Known = repair.Known
MIDDLE = torch.ones(8, 8, dtype=torch.bool)
MIDDLE[3:5, 2:6] = False
TINY: dict[str, dict[str, Any]] = {
    "gan": {"width": 16, "latent_dim": 12},
    "vae": {"width": 16, "latent_dim": 6, "components": 2},
    "vqvae": {"width": 8, "prior_width": 16, "prior_depth": 1},
    "diffusion": {"width": 4},
}


@pytest.fixture(scope="module")
def spaces() -> dict[str, latent.Space]:
    """Untrained models of every kind of method; a path of few steps."""
    made = {}
    for family, config in TINY.items():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model: Any = build(family, config, Spec("image", (1, 8, 8), 17, (0.5, 0.5)))
        model.eval().requires_grad_(False)
        if family == "vqvae":
            model.begun.fill_(1.0)
        sampling = families.get(family).sampling
        names = tuple(f"class {k}" for k in range(model.classes))
        opened = runs.Opened("run", 1, 0, family, model, model.spec, names, sampling)
        few = sampling.of({"steps": 3}) if family == "diffusion" else None
        made[family] = latent.open_space(opened, few)
    return made


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends searches and walks after a few steps."""
    for module, name, value in (
        (search, "STARTS", 2), (search, "STEPS", 3), (search, "ROUNDS", 3), (codes, "CHANGES", 1),
        (codes, "PROPOSED", 3),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def picture() -> torch.Tensor:
    return noise(5, [0], (1, 8, 8), "picture", uniform=True)


def filled(space: latent.Space, x: torch.Tensor, known: Known, **choice: Any) -> repair.Filled:
    return repair.last(repair.fill(space, x, known, **choice))


# --- What is known --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [Known.mask(MIDDLE), Known.smaller(2), Known.smaller(4)])
def test_what_is_known_is_an_orthogonal_projection(known):
    basis = torch.eye(64).view(64, 1, 8, 8)
    matrix = known.part(basis).flatten(1)
    assert torch.allclose(matrix @ matrix, matrix, atol=1e-6)
    assert torch.allclose(matrix, matrix.T, atol=1e-6)
    assert float(matrix.trace()) == pytest.approx(64 * known.share((1, 8, 8)), abs=1e-4)


def test_a_fill_is_brought_to_the_means_of_a_smaller_picture_within_the_range():
    x = noise(1, [0], (1, 8, 8), "x", uniform=True).pow(4)  # near the end of the range
    made = noise(2, range(3), (1, 8, 8), "made", uniform=True)
    put = Known.smaller(4).put(made, x)
    wanted = x.view(1, 1, 2, 4, 2, 4).mean((3, 5))
    assert torch.allclose(
        put.view(3, 1, 2, 4, 2, 4).mean((3, 5)), wanted.expand(3, -1, -1, -1), atol=1e-5
    )
    assert put.min() >= 0 and put.max() <= 1
    assert float(Known.smaller(4).error(put, x).max()) < 1e-5


def test_masks_and_factors_that_do_not_fit_are_refused(spaces, picture):
    space = spaces["vae"]
    for known, words in (
        (lambda: Known.mask(torch.ones(8, 8)), "A mask must hold true and false, got float32."),
        (lambda: Known.smaller(3), "enlarged by 2 or 4, got 3"),
        (
            lambda: repair.holes((1, 8, 8), [(6, 0, 3, 1)]),
            "in the picture of 8 × 8 pixels, got 6,0,3,1",
        ),
        (lambda: repair.holes((1, 8, 8), [(0, 0, 0, 1)]), "got 0,0,0,1"),
        (lambda: repair.holes((64,), [(0, 0, 1, 1)]), "Known.mask takes a mask"),
        (lambda: repair.painted(b"no picture", (1, 8, 8)), "white where the hole is"),
    ):
        with pytest.raises(UserError, match=words.replace("(", r"\(")):
            known()
    with pytest.raises(UserError, match=r"must have 8 × 8 places.* got 4 × 8"):
        filled(space, picture, Known.mask(MIDDLE[:4]))
    with pytest.raises(UserError, match="do not consist of blocks of 4 × 4"):
        Known.smaller(4).check((1, 6, 6))
    with pytest.raises(UserError, match="Only pictures can be enlarged"):
        Known.smaller(2).check((64,))
    with pytest.raises(UserError, match="Between 1 and 64 fills"):
        filled(space, picture, Known.mask(MIDDLE), fills=65)
    with pytest.raises(UserError, match="This model knows no classes"):
        filled(space, picture, Known.mask(MIDDLE), label=0)
    with pytest.raises(UserError, match="0 to 1, got 2"):
        filled(spaces["gan"], picture, Known.mask(MIDDLE), label=2)
    with pytest.raises(
        UserError, match=r"Particles needs a model that repairs along a path.*search"
    ):
        filled(space, picture, Known.mask(MIDDLE), method="particles")
    with pytest.raises(UserError, match="Did you mean 'search'"):
        filled(space, picture, Known.mask(MIDDLE), method="serch")


# --- Every method ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", TINY)
@pytest.mark.usefixtures("short")
def test_a_fill_keeps_what_is_known_and_depends_on_its_seed_and_id_alone(spaces, picture, family):
    space = spaces[family]
    steps = list(repair.fill(space, picture, Known.mask(MIDDLE), fills=3))
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert steps[-1].done == 1
    for step in steps:
        assert torch.equal(step.images[..., MIDDLE], picture[..., MIDDLE].expand(3, -1, -1))
        assert step.images.shape == (3, 1, 8, 8) and step.images.dtype == torch.float32
    images = steps[-1].images
    assert len({image[..., ~MIDDLE].numpy().tobytes() for image in images}) == 3
    other = picture.where(MIDDLE, 0.1)  # what is in the hole does not count
    again = filled(space, other, Known.mask(MIDDLE), fills=9 if family == "diffusion" else 2)
    assert torch.equal(again.images[:2], images[:2])
    assert not torch.equal(
        filled(space, picture, Known.mask(MIDDLE), fills=1, seed=1).images[0], images[0]
    )


@pytest.mark.parametrize("family", TINY)
@pytest.mark.usefixtures("short")
def test_a_hole_of_nothing_returns_the_picture_and_one_of_everything_gives_samples(
    spaces, picture, family
):
    space = spaces[family]
    end = filled(space, picture, Known.mask(torch.ones(8, 8, dtype=torch.bool)), fills=2)
    assert torch.equal(end.images, picture.expand(2, -1, -1, -1))
    label = 1 if space.model.classes else None
    end = filled(
        space,
        picture,
        Known.mask(torch.zeros(8, 8, dtype=torch.bool)),
        fills=3,
        label=label,
        seed=4,
    )
    y = None if label is None else torch.ones(8, dtype=torch.int64)
    samples = space.model.sample(range(8), y, 4, space.sampling)[:3]
    assert torch.allclose(end.images, samples, atol=1e-6)


@pytest.mark.usefixtures("short")
def test_every_method_enlarges_and_one_pixel_can_be_known_or_missing(spaces, picture):
    one = torch.zeros(8, 8, dtype=torch.bool)
    one[3, 4] = True
    for family in ("vae", "vqvae", "diffusion"):
        space = spaces[family]
        small = picture.view(1, 1, 4, 2, 4, 2).mean((3, 5))
        for x in (picture, small):  # the picture, or the smaller one
            end = filled(space, x, Known.smaller(2), fills=1)
            assert torch.allclose(end.images.view(1, 1, 4, 2, 4, 2).mean((3, 5)), small, atol=1e-5)
    for mask in (one, ~one):
        end = filled(spaces["diffusion"], picture, Known.mask(mask), fills=1)
        assert torch.equal(end.images[..., mask], picture[..., mask])
        assert bool(end.images.isfinite().all())


def test_a_decoder_without_a_derivative_is_searched_by_slices(picture):
    space = latent.Space(Fixed(), families.get("gan").sampling(), ("fixed", 1), 4, 0)
    assert [entry.name for entry in repair.methods(space)] == ["slices"]
    end = filled(space, picture * 0 + 0.8, Known.mask(MIDDLE), fills=4)
    assert float(end.missed.max()) < 0.08  # the draws alone are off by 0.3
    assert (end.images[..., ~MIDDLE] - 0.8).abs().mean() < 0.1


class Fixed(nn.Module):
    """Greys by the first number of a latent, computed outside torch."""

    classes = 0

    def __init__(self) -> None:
        super().__init__()
        self.spec = Spec("image", (1, 8, 8), 256)
        self.none = nn.Parameter(torch.zeros(1), requires_grad=False)

    def latent(self, ids, seed, sampling):
        return noise(seed, ids, (4,), "latent")

    def decode(self, z, y, sampling):
        grey = 1 / (1 + np.exp(-z.detach().numpy()[:, 0]))
        return torch.as_tensor(grey).float()[:, None, None, None].expand(-1, 1, 8, 8)


def test_a_model_that_nothing_fits_says_so(picture):
    space = latent.Space(nn.Linear(1, 1), families.get("gan").sampling(), ("none", 1), 4, 0)
    with pytest.raises(UserError, match="This model cannot repair anything"):
        repair.method_of(space)


@pytest.mark.usefixtures("short")
def test_work_that_nobody_wants_ends(spaces, picture):
    class Impatient(Watch):
        looks = 0

        def stopped(self) -> str:
            self.looks += 1
            return "Enough." if self.looks > 3 else ""

    for family in TINY:
        with pytest.raises(Stopped, match="Enough"):
            filled(spaces[family], picture, Known.mask(MIDDLE), watch=Impatient())


def test_a_vector_is_repaired_by_a_mask_of_its_own_shape():
    from core.media import media

    space_of = build("diffusion", {"width": 4}, Spec("image", (1, 8, 8), 256))
    assert isinstance(space_of, Repairs)
    mask = torch.arange(16) < 8
    known = Known.mask(mask)
    known.check((16,))
    x = torch.rand(1, 16)
    made = known.put(torch.zeros(2, 16), x)
    assert torch.equal(made[:, mask], x[:, mask].expand(2, -1))
    assert known.hole((16,)).tolist() == (~mask).tolist()
    assert (
        repair.disagreement(torch.stack([torch.zeros(16), torch.ones(16)])).tolist() == [0.5] * 16
    )
    assert media.get("image").model == "picture"


# --- Against what is known otherwise --------------------------------------------------------------------------------


def test_hamiltonian_monte_carlo_draws_from_a_normal_distribution():
    matrix = torch.tensor([[1.0, 0.6], [0.6, 0.5]])
    inverse = torch.linalg.inv(matrix)

    def energy(x):
        return ((x - 1) @ inverse * (x - 1)).sum(1) / 2

    *_, (states, chance) = search.hamiltonian(energy, torch.zeros(4000, 2), range(4000), 0, 30, 20)
    assert torch.allclose(states.mean(0), torch.ones(2), atol=0.06)
    assert torch.allclose(torch.cov(states.T), matrix, atol=0.06)
    assert 0.6 < float(chance.mean()) < 0.85


def test_the_ancestral_step_is_the_conditional_normal_of_its_path():
    t, after, clean = 0.3, 0.5, 0.7
    # from the joint covariance of the states at both times, given the data
    lost = (1 - t) ** 2 - (t / after * (1 - after)) ** 2
    early, late = (1 - t) ** 2, (1 - after) ** 2
    gain = t / after * late / early
    mean, spread = ancestral(torch.tensor(0.2), torch.tensor(clean), t, after)
    assert float(mean) == pytest.approx(after * clean + gain * (0.2 - t * clean))
    assert spread**2 == pytest.approx(late - gain * t / after * late)
    assert spread**2 == pytest.approx(late * lost / early)


def test_particles_are_resampled_by_their_chance():
    chance = torch.tensor([[0.5, 0.25, 0.25, 0.0]]).expand(1000, -1)
    kept = resampled(chance, torch.rand(1000, generator=torch.Generator().manual_seed(0)))
    counts = torch.nn.functional.one_hot(kept, 4).sum(1)  # (1000, 4)
    assert counts[:, :3].tolist() == [[2, 1, 1]] * 1000  # systematic: as many as they should be
    first = torch.bincount(kept[:, 0], minlength=4) / 1000
    assert torch.allclose(first, torch.tensor([0.5, 0.25, 0.25, 0.0]), atol=0.05)


def test_particles_find_the_mean_that_a_linear_model_implies():
    """The velocity of normal data is known exactly, and so is the hole's distribution given the rest."""
    model: Any = build(
        "diffusion", {"width": 4, "conditional": False}, Spec("image", (1, 2, 2), 256)
    )
    covariance = 0.05 * (0.2 * torch.eye(4) + 0.8)

    def velocity(x, t, y=None, keep=None):
        t = float(t[0])
        gain = (
            t
            * covariance
            @ torch.linalg.inv(
                t * t * covariance + (1 - t) ** 2 * torch.eye(4) + 1e-6 * torch.eye(4)
            )
        )
        clean = x.flatten(1) @ gain.T
        noise_left = (x.flatten(1) - t * clean) / max(1 - t, 1e-6)
        return (clean - noise_left).view_as(x)

    model.velocity = velocity
    mask = torch.tensor([[True, True], [True, False]])
    x = torch.tensor([0.6, 0.7, 0.65, 0.0]).view(1, 1, 2, 2)
    sampling = families.get("diffusion").sampling.of({"steps": 40})
    *_, made = model.repair(x, lambda v: v * mask, range(60), None, 0, sampling)
    known = torch.tensor([0.2, 0.4, 0.3])  # centred
    wanted = covariance[3, :3] @ torch.linalg.solve(covariance[:3, :3], known)
    left = covariance[3, 3] - covariance[3, :3] @ torch.linalg.solve(
        covariance[:3, :3], covariance[:3, 3]
    )
    hole = made[:, 0, 1, 1] * 2 - 1
    assert float(hole.mean()) == pytest.approx(float(wanted), abs=0.06)
    assert float(hole.std()) == pytest.approx(float(left.sqrt()), rel=0.5)


def test_the_density_of_draws_is_theirs(spaces):
    space = spaces["vae"]
    prior = density(space)
    z = space.studied()[:, : space.latent]
    assert torch.allclose(prior.latent(prior.white(z)), z, atol=1e-3)
    white = prior.white(z)
    assert torch.allclose(torch.cov(white.T), torch.eye(space.latent), atol=0.1)
    far = z.mean(0) + 6 * z.std(0)
    assert float(prior.log(z).median()) > float(prior.log(far[None]))


def test_only_places_in_and_beside_the_hole_are_drawn_anew(spaces, picture):
    corner = torch.ones(8, 8, dtype=torch.bool)
    corner[:2, :2] = False
    item = repair.Incomplete(spaces["vqvae"], picture, Known.mask(corner), 1, None, 0, Watch())
    assert codes.touched(item, 16) == [0, 1, 4, 5]


# --- Shipped models -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vae", "diffusion"])
def test_shipped_models_fill_digits_better_than_a_linear_model(gallery, name):
    space = latent.open_space(runs.open_model(jobs.get(f"shipped-digits-{name}")))
    dataset = datasets.load("digits")
    mask = torch.ones(8, 8, dtype=torch.bool)
    mask[2:6, 2:6] = False
    x = dataset.images(dataset.splits["test"][:2])
    train = dataset.images(dataset.splits["train"]).flatten(1)
    k = mask.flatten()
    mean, covariance = train.mean(0), torch.cov(train.T) + 1e-4 * torch.eye(64)
    flat = x.flatten(1)
    gain = torch.linalg.solve(covariance[k][:, k], covariance[k][:, ~k])
    linear = mean[~k] + (flat[:, k] - mean[k]) @ gain
    off, linear_off = 0.0, float((linear - flat[:, ~k]).square().mean())
    for each in x:
        end = filled(space, each[None], Known.mask(mask), fills=2)
        off += float((end.images.mean(0).flatten()[~k] - each.flatten()[~k]).square().mean()) / len(
            x
        )
    assert off < 0.9 * linear_off
    index, far = repair.nearest(dataset, end.images, Known.mask(mask))
    hole = ~mask
    away = (dataset.images(dataset.splits["train"])[..., hole] - end.images[0][..., hole]).square()
    best = int(away.mean((1, 2)).argmin())
    assert index[0] == dataset.splits["train"][best]
    assert far[0] == pytest.approx(float(away.mean((1, 2))[best].sqrt()), abs=1e-3)


# --- The command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]):
    """Runs the command: gives its JSON, or with ``wrong`` the line that refuses it."""

    def run(*words: object, wrong: bool = False) -> Any:
        capsys.readouterr()
        code = main(["repair", *map(str, words), *([] if wrong else ["--json"])])
        out, err = capsys.readouterr()
        assert code == (2 if wrong else 0), err
        return err.strip() if wrong else json.loads(out)

    return run


@pytest.mark.usefixtures("short")
def test_the_command_fills_holes_and_writes_what_it_made(trained, command, tmp_path):
    run = trained.runs["vae"]
    out = tmp_path / "fills.npz"
    said = command(
        run, "--test", 0, "--hole", "2,2,4,4", "--hole", "0,0,1,1", "--fills", 2, "--out", out
    )
    assert said["method"] == "search" and said["fills"] == 2 and said["hole"] == 17
    assert said["mask"] == "0-0-1-1_2-2-4-4"  # as it stands in a link
    assert len(said["nearest"]) == 2 and said["disagreement"] > 0
    with np.load(out) as arrays:
        assert arrays["x"].shape == (2, 1, 8, 8) and arrays["x"].dtype == np.float32
        known = arrays["known"]
        assert known.shape == (8, 8) and (~known).sum() == 17
        dataset = datasets.load("digits")
        x = dataset.images(dataset.splits["test"][:1]).numpy()
        assert (arrays["x"][..., known] == x[..., known]).all()
    mask = np.zeros((40, 60), np.uint8)
    mask[:20] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    ink = np.zeros((50, 30, 3), np.uint8)
    ink[10:40, 12:18] = 250
    Image.fromarray(ink).save(tmp_path / "one.png")
    sheet = tmp_path / "sheet.png"
    said = command(
        run, tmp_path / "one.png", "--mask", tmp_path / "mask.png", "--fills", 1, "--out", sheet
    )
    assert said["hole"] == 32 and said["notes"]
    text = holes.written(np.indices((8, 8)).sum(0) % 2 == 0)
    assert text.startswith("8x8.")
    assert command(run, "--test", 0, "--mask", text, "--fills", 1)["mask"] == text
    assert len(sheets.tiles(sheet.read_bytes())) == 3
    mark = xmp.read(sheet.read_bytes())
    assert mark is not None and mark == xmp.partly_by(run)
    small = io.BytesIO()
    Image.fromarray((np.arange(16).reshape(4, 4) * 16).astype(np.uint8)).save(small, "PNG")
    (tmp_path / "small.png").write_bytes(small.getvalue())
    said = command(run, tmp_path / "small.png", "--larger", 2, "--fills", 1, "--out", out)
    assert "Its 4 × 4 pixels were taken." in said["notes"] and said["known_error"] < 1e-4
    with np.load(out) as arrays:
        means = arrays["x"].reshape(1, 1, 4, 2, 4, 2).mean((3, 5))[0, 0]
    assert np.abs(means - np.arange(16).reshape(4, 4) * 16 / 255).max() < 1e-4


def test_the_command_refuses_what_it_cannot_fill(trained, command, tmp_path):
    run = trained.runs["vae"]
    for words, wanted in (
        (("--test", 0), "Nothing says what to fill in"),
        (("--hole", "0,0,1,1"), "There must be one picture"),
        (("--test", 0, "--hole", "0,0,9,1"), "in the picture of 8 × 8 pixels, got 0,0,9,1"),
        (("--test", 0, "--hole", "0,0,1"), "--hole takes x,y,w,h, four whole numbers, got '0,0,1'"),
        (("--test", 0, "--larger", 3), "enlarged by 2 or 4, got 3"),
        (("--test", 9999, "--hole", "0,0,1,1"), "--test takes 0 to"),
        (("--test", 0, "--mask", tmp_path / "none.png"), "cannot be read"),
        (("--test", 0, "--mask", "9x9.AAAA"), "one in a picture of 9 × 9 pixels"),
        (("--test", 0, "--mask", "8x8." + "A" * 9000), "at most 6,000 letters"),
        (("--test", 0, "--hole", "0,0,1,1", "--fills", 0), "Between 1 and 64 fills"),
        (("--test", 0, "--hole", "0,0,1,1", "--fills", 65), "Between 1 and 64 fills"),
        (("--test", 0, "--hole", "0,0,1,1", "--take", 1), "--take chooses the fill that --into"),
        (
            ("--test", 0, "--hole", "0,0,1,1", "--out", "fills.gif"),
            "--out must end in .png or .npz",
        ),
        (("--test", 0, "--hole", "0,0,1,1", "--seed", -1), "--seed must be from 0"),
    ):
        assert wanted in command(run, *words, wrong=True)
    assert "no latent space" in command(
        trained.runs["classifier"], "--test", 0, "--hole", "0,0,1,1", wrong=True
    )
