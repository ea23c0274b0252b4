"""Randomness without state, image types, and averages over processes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from core.tensors import (
    all_mean,
    device,
    draw_labels,
    noise,
    philox,
    step_generator,
    to_bytes,
    to_float,
)

ROOT = Path(__file__).resolve().parents[2]
ONES = 0xFFFFFFFF


# --- Philox -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((ONES,) * 4, (ONES,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)  # fmt: skip
def test_philox_gives_the_known_answers_of_random123(counter, key, answer):
    words = philox([torch.tensor([word]) for word in counter], key)
    assert " ".join(f"{int(word):08x}" for word in words) == answer


# --- Noise --------------------------------------------------------------------------------------


def test_noise_depends_on_seed_id_and_stream_alone():
    ids = [7, 0, 3, 1_000_000, 12]
    whole = noise(3, ids, (2, 5), "latent")
    assert whole.shape == (5, 2, 5)
    assert whole.dtype == torch.float32
    for place, id in enumerate(ids):  # alone, in another order, in another batch
        assert torch.equal(noise(3, [id], (2, 5), "latent")[0], whole[place])
    assert torch.equal(noise(3, torch.tensor(ids).flip(0), (2, 5), "latent"), whole.flip(0))
    assert torch.equal(noise(3, ids, (10,), "latent").view(5, 2, 5), whole)
    torch.manual_seed(1)
    assert torch.equal(noise(3, ids, (2, 5), "latent"), whole)


def test_a_shorter_sample_is_the_start_of_a_longer_one():
    assert torch.equal(noise(0, range(4), (3,), "a"), noise(0, range(4), (9,), "a")[:, :3])


@pytest.mark.parametrize(
    "other",
    [
        (4, "latent", 0),
        (3, "label", 0),
        (3, "latent", 1),
        (3 + 2**32, "latent", 0),
        (3, "latent", 2**32),
    ],
)
def test_another_seed_stream_or_id_gives_other_numbers(other):
    seed, stream, shift = other
    a = noise(3, range(200), (50,), "latent").flatten()
    b = noise(seed, [i + shift for i in range(200)], (50,), stream).flatten()
    assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 0.04  # 4 sigma at 10 000
    assert not torch.isin(a[:50], b).any()  # id 0 of the one is nowhere in the other


@pytest.mark.parametrize("seed", [0, 2**31 - 1, 2**63 - 1, -1, -(2**63)])
def test_normal_noise_has_the_moments_of_a_normal(seed):
    z = noise(seed, range(1000), (101,), "moments").double()
    n = z.numel()
    assert abs(float(z.mean())) < 4.5 / math.sqrt(n)
    assert abs(float(z.var()) - 1) < 4.5 * math.sqrt(2 / n)
    assert abs(float((z**3).mean())) < 4.5 * math.sqrt(15 / n)
    assert abs(float((z**4).mean()) - 3) < 4.5 * math.sqrt(96 / n)
    assert float(z.abs().max()) > 3.5  # the tails are there
    rows = torch.corrcoef(z.T[:20])  # the numbers of one sample are independent
    assert float((rows - torch.eye(20)).abs().max()) < 0.16


def test_uniform_noise_is_even_and_never_0_or_1():
    u = noise(0, range(1000), (100,), "u", uniform=True)
    assert float(u.min()) > 0
    assert float(u.max()) < 1
    counts = torch.histc(u, 20, 0, 1)
    assert float(((counts - 5000) ** 2 / 5000).sum()) < 43.8  # chi-squared, 19 degrees, 1 in 1000


@pytest.mark.parametrize("word", [0, 1, 2**31, ONES])
def test_the_ends_of_the_generator_stay_inside_the_open_interval(monkeypatch, word):
    monkeypatch.setattr(
        "core.tensors.philox", lambda counter, key: tuple(torch.full_like(c, word) for c in counter)
    )
    u = noise(0, [0], (4,), "u", uniform=True)
    assert ((u > 0) & (u < 1)).all()
    assert noise(0, [0], (4,), "u").isfinite().all()


def test_large_ids_are_no_other_ids():
    ids = [0, 1, 2**31, 2**32, 2**32 + 1, 2**53 + 1, 2**62, 2**63 - 1]
    z = noise(0, ids, (8,), "big")
    assert z.isfinite().all()
    assert len({tuple(row.tolist()) for row in z}) == len(ids)


def test_no_images_give_no_noise():
    assert noise(0, [], (3, 2), "none").shape == (0, 3, 2)
    assert noise(0, range(3), (), "scalar").shape == (3,)


def test_a_step_has_its_own_generator():
    def draw(*which: int) -> float:
        return float(torch.rand((), generator=step_generator(torch.device("cpu"), *which)))

    steps = [(0, 0), (0, 1), (1, 0), (0, 0, 1), (2**31 - 1, 5), (-1, 5), (0, 2**40)]
    assert [draw(*step) for step in steps] == [draw(*step) for step in steps]
    assert len({draw(*step) for step in steps}) == len(steps)


def test_labels_come_as_often_as_asked_and_belong_to_their_id():
    shares = (0.5, 0.0, 0.2, 0.3)
    y = draw_labels(1, range(20_000), shares, "cpu")
    assert y.dtype == torch.int64
    counts = torch.bincount(y, minlength=4) / 20_000
    assert counts[1] == 0
    assert torch.allclose(counts, torch.tensor(shares), atol=0.015)  # 4 sigma
    assert torch.equal(draw_labels(1, [19_999, 5], shares, "cpu"), y[[19_999, 5]])
    assert (draw_labels(1, range(100), (1.0,), "cpu") == 0).all()


# --- Images -------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_every_level_survives_the_way_to_floats_and_back(levels):
    x = torch.arange(levels, dtype=torch.uint8).view(1, 1, 1, -1)
    floats = to_float(x, levels)
    assert floats.dtype == torch.float32
    assert (float(floats.min()), float(floats.max())) == (0, 1)
    assert torch.equal((floats * (levels - 1)).round().to(torch.uint8), x)
    if levels == 256:
        assert np.array_equal(to_bytes(floats), x.numpy())


def test_bytes_are_clipped_and_rounded():
    x = torch.tensor([-0.5, 0.0, 0.5, 0.9999, 1.0, 7.0, math.nan, math.inf, -math.inf]).view(
        1, 1, 1, -1
    )
    assert to_bytes(x).tolist() == [[[[0, 0, 128, 255, 255, 255, 0, 255, 0]]]]
    assert to_bytes(x.clone().requires_grad_()).dtype == np.uint8


def test_the_settings_choose_the_device(setting):
    setting(device="cpu")
    assert device() == torch.device("cpu")
    setting(device="auto")
    assert device().type == ("cuda" if torch.cuda.is_available() else "cpu")


# --- Several processes --------------------------------------------------------------------------

RANK = """
import json, os, sys, torch
import torch.distributed as dist
from core.tensors import all_mean
rank, place = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
x = torch.arange(8.0).view(2, 4)[rank]
w = torch.tensor([0.7, -0.2], requires_grad=True)
value = torch.log(all_mean((w[0] * x + w[1]).square().mean()))  # no mean over samples: a logarithm of one
value.backward()
print(json.dumps([float(value), (w.grad / 2).tolist()]))  # what DDP's average adds to the gradient
sys.stdout.flush()
dist.barrier()
os._exit(0)  # gloo's threads now and then abort an orderly end
"""


def test_two_processes_average_what_one_would_compute(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", RANK]
    started = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "meet")],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    answers = []
    for process in started:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        answers.append(json.loads(out.strip().splitlines()[-1]))
    x = torch.arange(8.0)
    w = torch.tensor([0.7, -0.2], requires_grad=True)
    value = torch.log(all_mean((w[0] * x + w[1]).square().mean()))
    value.backward()
    value = value.detach()
    assert [answer[0] for answer in answers] == pytest.approx([value.item()] * 2, rel=1e-6)
    total = np.sum([answer[1] for answer in answers], 0)
    assert total.tolist() == pytest.approx(w.grad.tolist(), rel=1e-5)


def test_alone_the_average_is_its_input():
    x = torch.tensor(3.0, requires_grad=True)
    assert all_mean(x) is x


def test_two_streams_of_labels_are_independent():
    shares = [0.1] * 10
    first = draw_labels(3, range(4000), shares, "cpu")
    second = draw_labels(3, range(4000), shares, "cpu", "component")
    together = float((first == second).double().mean())
    assert together == pytest.approx(0.1, abs=4 * (0.09 / 4000) ** 0.5)


def test_levels_become_floats_and_come_back_as_they_were():
    for levels in range(2, 257):
        x = np.arange(levels, dtype=np.uint8)
        assert (to_bytes(to_float(torch.as_tensor(x), levels), levels) == x).all()
