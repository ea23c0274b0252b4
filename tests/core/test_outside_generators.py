"""Generators from outside, in use: the way back to the noise, what is costly, and what exceeds a limit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from core import brought, latent
from core.brought.diffusers import DiffusersSampling
from core.catalog import UserError
from core.ground import timing
from core.ground.settings import Settings
from core.ground.watch import Watch
from core.latent import directions
from core.models import Spec
from core.models.diffusion import DiffusionSampling, undo
from core.wrapped.velocity import VelocityModel

# --- The way back -----------------------------------------------------------------------------------------------------


def test_steps_of_euler_are_undone_as_the_matrix_of_a_linear_field_says():
    turn = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).double()
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(1)).double()
    times = torch.linspace(0, 1, 9).tolist()
    start = x
    for t, after in reversed([*itertools.pairwise(times)]):
        step = torch.eye(6).double() + (after - t) * (1 - t) * turn.T
        start = torch.linalg.solve(step.T, start.T).T
    found = undo(lambda state, t: (1 - t) * state @ turn.T, x, times)
    assert torch.allclose(found, start, atol=2e-2)
    end = found
    for t, after in itertools.pairwise(times):
        end = end + (after - t) * (1 - t) * end @ turn.T
    assert float((end - x).square().mean()) < 1e-5


def test_a_field_that_turns_rounds_away_is_undone_with_half_of_the_way():
    x = torch.ones(3, 2)
    steep = lambda state, t: 1.5 * state  # noqa: E731  a round alone goes one and a half times too far
    assert torch.allclose(undo(steep, x, [0.0, 1.0]), x / 2.5, atol=0.02)


def test_an_image_comes_back_out_of_the_noise_of_eulers_path_whatever_is_beside_it(gallery):
    from core import datasets, jobs, runs

    data = datasets.load("digits")
    opened = runs.open_model(jobs.get("shipped-digits-diffusion"))
    index = data.splits["test"][:12]
    x, y = data.images(index), torch.as_tensor(np.asarray(data.y)[index])
    sampling = DiffusionSampling(sampler="euler", guidance=1)
    with torch.no_grad():
        z = opened.model.encode(x, y, sampling)
        again = opened.model.decode(z, y, sampling)
        alone = opened.model.encode(x[4:5], y[4:5], sampling)
    assert float((again - x).square().mean()) < 1e-4
    assert torch.allclose(alone[0], z[4], atol=1e-3)


def test_the_usual_sampler_of_a_ladder_looks_once_per_step_and_those_of_our_own_stay():
    assert DiffusersSampling().sampler == "euler"
    assert DiffusionSampling().sampler == "heun"
    assert DiffusersSampling.knobs().keys() == DiffusionSampling.knobs().keys()


# --- What directions cost ---------------------------------------------------------------------------------------------


class Counted(nn.Module):
    """A velocity of no classes that counts the images it looks at, those with a derivative DERIVED times."""

    def __init__(self) -> None:
        super().__init__()
        self.looked = 0

    def velocity(self, x, t, y):
        self.looked += len(x) * (directions.DERIVED if x.requires_grad else 1)
        return x - x.pow(3) / 9


def space_of(net: nn.Module) -> latent.Space:
    model = VelocityModel(net, Spec("image", (1, 4, 4), 256), 0).eval()  # type: ignore[arg-type]
    return latent.Space(model, DiffusionSampling(sampler="euler"), ("nobody", 0), 16, 0)


def test_what_main_directions_cost_is_foretold_by_what_they_look_at(monkeypatch):
    net = Counted()
    space = space_of(net)
    assert space.pace > 0  # of this very machine
    monkeypatch.setattr(latent.Space, "pace", 0.5)
    told, net.looked = latent.foretold(space), 0
    said: list[float] = []
    watch = Watch()
    watch.say = lambda text, done=None, total=1.0: said.append(done or 0)  # type: ignore[method-assign]
    assert latent.principal(space, watch=watch)
    looks = net.looked / space.preview.record()["steps"]
    assert told == pytest.approx(looks * 0.5)
    assert said == sorted(said) and len(said) > 64  # in slices, so that it can be followed and left
    assert latent.foretold(space) == 0  # they are known now


def test_what_takes_long_to_decode_begins_on_images_until_its_directions_are_known(monkeypatch):
    space = space_of(Counted())
    monkeypatch.setattr(latent.Space, "pace", 0.001)
    assert latent.first_plane(space) == "principal" and not latent.costly(space, "local")
    monkeypatch.setattr(latent.Space, "pace", 1.0)
    assert latent.first_plane(space) == "anchors" and latent.costly(space, "local")
    latent.principal(space)
    assert latent.first_plane(space) == "principal"


def test_of_a_few_runs_the_least_counts_and_what_takes_long_runs_once(monkeypatch):
    def timed(*took: float, **choices) -> tuple[float, int]:
        now, left = [0.0], list(took)
        monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

        def run() -> None:
            now[0] += left.pop(0)

        return timing.least(run, **choices), len(took) - len(left)

    assert timed(0.5, 0.02, 0.01, 0.03, runs=3) == (pytest.approx(0.01), 4)
    assert timed(0.3, 0.2, 0.4, 0.1, runs=9, patience=0.8) == (pytest.approx(0.2), 3)
    assert timed(5.0, runs=3) == (5.0, 1)


# --- What exceeds a limit ---------------------------------------------------------------------------------------------


def test_weights_beyond_the_limit_name_the_setting_alone_and_together(setting, tmp_path):
    setting(max_upload_mb=1)
    large, half = bytes(2**20 + 1), bytes(600 * 2**10)
    config = b'{"_class_name": "UNet2DModel"}'
    raises = "or raise SIMULACRA_MAX_UPLOAD_MB on your own machine; docs/bring.md says"
    alone = "at most 1 MB on this server, got 1 MB. "
    together = r"at most 1 MB on this server, got 1 MB in 3 files together\. "
    folder = [("sd/config.json", config), ("sd/a.safetensors", half), ("sd/b.safetensors", half)]
    for path, content in [*folder, ("one.safetensors", large)]:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    for said, bring in (
        (alone, lambda: brought.sent([("one.safetensors", large)])),
        (alone, lambda: brought.read(tmp_path / "one.safetensors")),
        (together, lambda: brought.sent(folder)),
        (together, lambda: brought.read(tmp_path / "sd")),
    ):
        with pytest.raises(UserError, match=said) as caught:
            bring()
        assert raises in str(caught.value)
    setting(max_upload_mb=2)
    assert len(brought.sent(folder).tensors) == len(brought.read(tmp_path / "sd").tensors) == 2


def test_pictures_beyond_the_limit_name_the_setting_before_anything_is_built(setting):
    from core import datasets

    seen = brought.Seen("A network", 10, (3, 64, 64))
    data = datasets.load("digits")
    with pytest.raises(UserError, match=r"at 64 px in colour on the page Data\.$"):
        brought.allow_dataset(seen, data)
    setting(max_side=32)
    with pytest.raises(UserError, match="at most 32 px here; SIMULACRA_MAX_SIDE raises that"):
        brought.allow_dataset(seen, data)
    assert brought.beyond(32) == ""
    usual = Settings.model_fields["max_side"].default
    assert datasets.config_of("folder").knobs()["size"].high == usual == 128
