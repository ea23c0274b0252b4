"""Generators from outside, in use: the way back to the noise, what is costly, and what exceeds a limit."""

from __future__ import annotations

import itertools

import torch

from core.brought.diffusers import DiffusersSampling
from core.models.diffusion import DiffusionSampling, undo

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
    x, y = data.images(index), torch.as_tensor(data.y[index])
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
