"""Several processes train one model: together they do what one would, with the same global batch."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from core import datasets, jobs, kinds, runs
from core.catalog import UserError
from core.classifier import Classifier, ClassifierConfig
from core.datasets import Dataset, assemble
from core.ground import files
from core.ground.watch import Stopped
from core.kinds.train import begin
from core.models import build, families
from core.nets import BatchNorm1d, BatchNorm2d
from core.tensors import agreed, all_mean, alone, processes, rows
from core.training import TrainConfig, Trainer, batch_of, loop, spec_of

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[2]
COUNT = 2  # processes
# each family by its default, and what its default leaves out; all with a batch that is shared equally
CASES: dict[str, tuple[str, int, dict[str, Any]]] = {
    **{each.name: (each.name, 8, {}) for each in families if "picture" in each.takes},
    "classifier": ("classifier", 8, {}),
    "gan conv": ("gan", 12, {"network": "conv", "width": 4}),
    "gan wgan-gp": ("gan", 8, {"loss": "wgan-gp", "width": 32}),
    "vae conv": ("vae", 12, {"likelihood": "discretised", "width": 4, "conditional": True}),
    "vqvae codebook": ("vqvae", 8, {"quantizer": "codebook", "first_stage": 0.9, "width": 8}),
    "flow conv": ("flow", 12, {"network": "conv", "steps": 2, "channels": 8, "width": 32}),
    "diffusion unet": ("diffusion", 12, {"objective": "denoising", "width": 8}),
}
SMALL = {"vae": {"width": 32}, "flow": {"width": 32, "steps": 4}, "diffusion": {"width": 8}}


def images(size: int) -> Dataset:
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    x = (rng.random((3, 1, size, size)) * 12)[y] + rng.random((90, 1, size, size)) * 4
    splits = {"train": np.arange(60), "valid": np.arange(60, 80), "test": np.arange(80, 90)}
    return assemble(x.astype(np.uint8), y, ("a", "b", "c"), splits, levels=17, name="toy")


def started(case: str, **values: Any) -> Trainer:
    """Gives a training of 20 steps in double precision."""
    family, size, given = CASES[case]
    dataset = images(size)
    torch.set_default_dtype(torch.float64)  # of the weights, and of what is drawn
    torch.manual_seed(0)
    spec = spec_of(dataset)
    if family == "classifier":
        model = Classifier(ClassifierConfig(width=8), spec)
    else:
        model = build(family, SMALL.get(family, {}) | given, spec)
        if family == "gan":
            cast("Any", model).probability.fill_(
                0.5
            )  # or the augmentation would do nothing in so few steps
    config = TrainConfig.of({"images": 320, "batch": 16, "warmup": 2} | values)
    return Trainer(model, dataset, config, CPU, lambda x, generator: x.double())


def flat(state: Any, where: str = "") -> dict[str, Tensor]:
    """Names every tensor of a state."""
    pairs = state.items() if isinstance(state, dict) else enumerate(state)
    found: dict[str, Tensor] = {}
    for key, value in pairs:
        if isinstance(value, Tensor):
            found[f"{where}{key}"] = value.clone()
        elif isinstance(value, dict | list):
            found |= flat(value, f"{where}{key}/")
    return found


def trained(case: str) -> dict[str, Any]:
    run = started(case)
    loop.publish_steps = lambda steps: set(range(1, steps + 1))  # a record at every step
    values: dict[str, Any] = {}
    for record in run:
        values |= record.values
    return {"state": flat(run.state()), "values": values, "step": run.step}


# --- In a process of its own ----------------------------------------------------------------------


def meet(place: int, folder: Path) -> None:
    """Trains all cases with the other processes and keeps what came out."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'meet'}", rank=place, world_size=COUNT
    )
    found: dict[str, Any] = {case: trained(case) for case in CASES}
    found["told"] = agreed({"place": place, "x": torch.full((2,), float(place))})
    found["stopped"] = stopped(place)
    found["alone"] = alone_and_together(place)
    found["diverged"] = diverged(place)
    try:
        batch_of(started("gan").model, TrainConfig(batch=15))
    except UserError as error:
        found["refused"] = str(error)
    found["rounded"] = batch_of(torch.nn.Identity(), TrainConfig())  # type: ignore[arg-type]
    torch.save(found, folder / f"{place}.pt")
    torch.distributed.destroy_process_group()


class Early:
    """A task that is stopped while the first process prepares the images, so that no other may look for them."""

    def __init__(self, lead: bool) -> None:
        self.lead = lead

    def dataset(self) -> None:
        raise Stopped("Stopped on request.") if self.lead else AssertionError


def stopped(place: int) -> str:
    task: Any = Early(place == 0)
    try:
        begin(task, {})
    except Stopped as stop:
        return str(stop)
    return ""


def alone_and_together(place: int) -> list[float]:
    x = torch.tensor([1.0 + place], requires_grad=True)
    together = all_mean(x)
    (together * (place + 1)).sum().backward()
    assert x.grad is not None
    with alone():
        return [float(together), float(x.grad), float(all_mean(x)), *map(float, processes())]


def diverged(place: int) -> list[str]:
    """One of the processes meets a loss that is no number; all go back."""
    run = started("vae")
    model: Any = run.model
    losses, calls = model.losses, iter(range(1000))

    def broken(*given: Any) -> Any:
        for loss in losses(*given):
            wrong = torch.nan if place == 1 and next(calls) == 5 else 1.0
            yield type(loss)(loss.group, loss.value * wrong, loss.parts)

    model.losses = broken
    return [record.note for record in run if record.note]


# --- And in this one ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes has after training together."""
    folder = tmp_path_factory.mktemp("together")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen([sys.executable, __file__, str(place), str(folder)], env=environment)
        for place in range(COUNT)
    ]
    assert [process.wait(300) for process in started] == [0] * COUNT
    return [torch.load(folder / f"{place}.pt", weights_only=False) for place in range(COUNT)]


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(loop, "publish_steps", loop.publish_steps)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_the_model_that_one_trains(together, case):
    one = trained(case)
    for other in together:
        assert other[case]["step"] == one["step"] == 20
        assert other[case]["state"].keys() == one["state"].keys()
        for name, value in one["state"].items():
            theirs = other[case]["state"][name]
            assert torch.allclose(theirs.double(), value.double(), 0, 1e-9), name
        assert other[case]["values"] == pytest.approx(one["values"], rel=1e-6, abs=1e-6)
    first, second = (other[case]["state"] for other in together)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_tests_above_see_every_family_move_and_its_controller_act(together):
    for case in CASES:
        before = flat(started(case).model.state_dict())
        after = together[0][case]["state"]
        moved = [name for name in before if not torch.equal(before[name], after[f"model/{name}"])]
        assert len(moved) > len(before) / 3, case
    assert "augmentation" in together[0]["gan conv"]["values"]
    assert together[0]["flow"]["values"]["dropout"] >= 0
    assert together[0]["vqvae"]["values"]["prior_loss"] > 0


def test_what_is_said_by_the_first_is_known_to_all(together):
    for other in together:
        assert other["told"]["place"] == 0
        assert other["stopped"] == "Stopped on request."
        assert other["told"]["x"].tolist() == [0, 0]
    # the mean of 1 and 2; its slope from 1 times the mean in one process and 2 times in the other, over 2
    assert [other["alone"][:2] for other in together] == [[1.5, 1.5], [1.5, 1.5]]
    assert [other["alone"][2:] for other in together] == [[1.0, 1.0, 0.0], [2.0, 1.0, 0.0]]


def test_what_is_no_number_in_one_process_sends_all_of_them_back(together):
    (note,) = together[0]["diverged"]
    assert note.startswith("The model loss is nan at step 5: went back to step")
    assert together[1]["diverged"] == [note]


def test_a_batch_is_shared_equally(together):
    for other in together:
        assert other["refused"] == (
            "train.batch must be a multiple of the 2 GPUs that share it, got 15. "
            "Set it to 16, or to 0 for what suits the family."
        )
        assert other["rounded"] == 128


def test_alone_all_is_as_it_was():
    x = torch.ones(3, requires_grad=True)
    assert processes() == (1, 0)
    assert all_mean(x) is x
    assert agreed(x) is x
    drawn = rows(torch.rand, (4, 2), generator=torch.Generator().manual_seed(1), parts=2)
    assert torch.equal(drawn, torch.rand((4, 2), generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 5, 5)])
def test_our_batch_norm_is_that_of_torch(shape, monkeypatch):
    """With two processes pretended, of which both have the same rows."""
    theirs = torch.nn.BatchNorm1d(4) if len(shape) == 2 else torch.nn.BatchNorm2d(4)
    mine = BatchNorm1d(4) if len(shape) == 2 else BatchNorm2d(4)
    x = torch.randn(shape)
    for momentum in (0.1, None):
        mine.momentum = theirs.momentum = momentum
        expected = theirs(torch.cat([x, x]))[:6]
        with monkeypatch.context() as patch:
            patch.setattr("core.nets.processes", lambda: (2, 0))
            assert torch.allclose(mine(x), expected, atol=1e-5)
        for name, value in theirs.state_dict().items():
            assert torch.allclose(mine.state_dict()[name].float(), value.float(), atol=1e-5), name
    assert torch.equal(mine.eval()(x), theirs.eval()(x)) or torch.allclose(mine(x), theirs(x))


# --- A job of two processes -----------------------------------------------------------------------


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch, setting: Any) -> None:
    """A server that takes its processor for two GPUs."""
    setting(device="cpu", nice=0, threads=1)
    monkeypatch.setattr("core.tensors.gpus", lambda: 2)


def ended(id: str, seconds: float = 240) -> jobs.Job:
    end = time.monotonic() + seconds
    while (job := jobs.get(id)).active and time.monotonic() < end:
        time.sleep(0.1)
    return job


def test_torchrun_starts_a_job_stops_it_and_goes_on(two_gpus, monkeypatch):
    values = {"train.images": 100_000, "train.batch": 32, "family.width": 16, "train.gpus": 2}
    values |= {"family.components": 2, "train.watch": False}
    job = kinds.submit("train", {"dataset": "digits", "family": "vae"}, values)
    end = time.monotonic() + 240
    while jobs.get(job.id).state.get("step", 0) < 10 and time.monotonic() < end:
        time.sleep(0.05)
    if jobs.get(job.id).active:
        jobs.stop(job.id)
    job = ended(job.id)
    log = (job.path / "worker.log").read_text()
    assert (job.status, job.message) == (
        "stopped",
        "Stopped on request. Resume goes on from here.",
    ), log
    step = job.state["step"]
    assert runs.checkpoints(job)[-1] == step < 3125
    records = [r for r in files.Log(job.path).read()[0] if "loss" in r]
    assert [record["step"] for record in records] == sorted({r["step"] for r in records})
    one = Trainer(
        runs.network(runs.record(job)),
        datasets.load("digits"),
        TrainConfig.of(job.config["train"] | {"gpus": 1}),
        CPU,
    )
    first = next(iter(one))
    assert records[0]["step"] == first.step == 1
    assert records[0]["loss"] == pytest.approx(first.values["loss"], rel=1e-4)
    # and a failure in one of them ends all, with its sentence
    monkeypatch.setattr(jobs, "_allow_queue", lambda: None)
    facts = files.read_json(job.path / "run.json")
    files.write_json(
        job.path / "run.json", facts | {"dataset": facts["dataset"] | {"fingerprint": "x"}}
    )
    jobs.resume(job.id)
    job = ended(job.id)
    assert job.status == "failed"
    assert job.message.startswith("The dataset digits has changed since this run began")


if __name__ == "__main__":
    meet(int(sys.argv[1]), Path(sys.argv[2]))
