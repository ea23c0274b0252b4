"""The training loop: schedules, averages, failures, and resuming bit by bit."""

from __future__ import annotations

import dataclasses
import io
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.catalog import UserError
from core.classifier import Classifier, ClassifierConfig
from core.datasets import Dataset, assemble
from core.ground.settings import settings
from core.models import Spec, build, families
from core.tensors import Group, Loss, step_generator, to_float
from core.training import Progress, TrainConfig, Trainer, publish_steps, spec_of
from core.training.batches import Streamed
from core.training.update import plain

CPU = torch.device("cpu")
PICTURES = [entry.name for entry in families if "picture" in entry.takes]
NETWORKS = [*PICTURES, "classifier"]


class Line(nn.Module):
    """A stand-in with one weight per group, which remembers what it was given."""

    def __init__(self, *groups: tuple[str, float, float], slope: float = 1.0) -> None:
        super().__init__()
        self.weights = nn.ParameterDict(
            {name: nn.Parameter(torch.ones(2)) for name, _, _ in groups}
        )
        self.spans, self.slope = groups, slope
        self.seen: list[tuple[Tensor, Tensor | None]] = []
        self.broken: Callable[[int, str], float] = lambda step, group: 0.0

    def __deepcopy__(self, memo: dict[int, Any]) -> Line:
        twin = Line(*self.spans, slope=self.slope)
        twin.load_state_dict(self.state_dict())
        return twin

    def groups(self) -> list[Group]:
        return [
            Group(name, [self.weights[name]], 0.1, 0.5, 0.9, 0.0, start, stop)
            for name, start, stop in self.spans
        ]

    def losses(
        self, x: Tensor, y: Tensor | None, generator: torch.Generator, progress: float
    ) -> Iterator[Loss]:
        self.seen.append((x, y))
        for name, start, stop in self.spans:
            if start <= progress < stop:
                wrong = self.broken(len(self.seen) - 1, name)
                value = self.slope * (self.weights[name] - x.mean()).sum() + wrong
                yield Loss(name, value, {f"{name}_loss": value.detach(), "brightness": x.mean()})


def network(name: str, spec: Spec, seed: int = 0, **values: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "classifier":
            return Classifier(ClassifierConfig(width=8), spec)
        return build(name, values, spec)


def variants(name: str) -> Iterator[dict[str, Any]]:
    """The defaults of a network, and every other choice of every Literal, one at a time."""
    yield {}
    for key, knob in families.get(name).config.knobs().items() if name in families else ():
        yield from ({key: option} for option in knob.options if option != knob.default)


def trainer(dataset: Dataset, model: Any = None, **values: Any) -> Trainer:
    config = TrainConfig.of({"images": 100, "batch": 10} | values)
    return Trainer(model or Line(("model", 0, 1)), dataset, config, CPU)


def told(run: Trainer) -> str:
    with pytest.raises(UserError) as caught:
        list(run)
    return str(caught.value)


# --- Duration and batches -----------------------------------------------------------------------


def test_training_lasts_as_many_images_as_asked(toy):
    run = trainer(toy(), images=95)
    records = list(run)
    assert [record.step for record in records] == list(range(1, 11))
    assert records[-1].images == records[-1].total == 95
    assert records[-1].steps == 10
    assert [len(x) for x, _ in run.model.seen] == [10] * 10
    assert all(record.publish and record.images_per_second > 0 for record in records)
    assert [record.seconds for record in records] == sorted(record.seconds for record in records)
    assert list(run) == []  # done is done


def test_a_batch_holds_training_images_in_0_to_1_with_their_labels(toy):
    dataset = toy(60, classes=3, levels=17)
    run = trainer(dataset)
    list(run)
    x, y = dataset.part("train")
    whole = torch.as_tensor(x).float() / 16
    for images, labels in run.model.seen:
        assert float(images.max()) <= 1
        where = [int((whole == image).flatten(1).all(1).nonzero()[0]) for image in images]
        assert labels.tolist() == y[where].tolist()
    assert not torch.equal(run.model.seen[0][0], run.model.seen[1][0])


def test_the_seed_chooses_the_batches_and_nothing_else_does(toy):
    def batches(**values: Any) -> list[Tensor]:
        run = trainer(toy(), **values)
        list(run)
        return [x for x, _ in run.model.seen]

    first = batches()
    torch.manual_seed(5)
    assert all(map(torch.equal, first, batches()))
    assert all(map(torch.equal, first, batches(lr=0.5)))
    assert not any(map(torch.equal, first, batches(seed=1)))


def test_the_transform_sees_the_batch_and_the_steps_own_generator(toy):
    drawn = []

    def transform(x: Tensor, generator: torch.Generator) -> Tensor:
        drawn.append(float(torch.rand((), generator=generator)))
        return torch.zeros_like(x)

    runs = [
        Trainer(Line(("model", 0, 1)), toy(), TrainConfig(images=30, batch=10), CPU, transform)
        for _ in range(2)
    ]
    for run in runs:
        list(run)
        assert all(not x.any() for x, _ in run.model.seen)
    assert drawn[:3] == drawn[3:]
    assert len(set(drawn)) == 3


def test_the_test_images_are_never_read(toy, monkeypatch):
    parts: list[str] = []
    part = Dataset.part
    monkeypatch.setattr(
        Dataset, "part", lambda self, split: (parts.append(split), part(self, split))[1]
    )
    dataset = toy(60, levels=17)
    poisoned = dataset.x.copy()
    poisoned[dataset.splits["test"]] = 255  # far outside: would be seen at once
    dataset = dataclasses.replace(dataset, x=poisoned)
    for name in NETWORKS:
        run = trainer(dataset, network(name, spec_of(dataset)), images=40)
        assert float(run.train.x.max()) <= 16
        assert float(run.valid.x.max()) <= 16
        list(run)
        run.held_out(run.published())
    assert "test" not in parts


def test_the_shares_of_classes_are_those_of_the_training_images():
    y = np.array([0, 0, 0, 1, 2, 2, 2, 2, 1, 1])
    splits = {"train": np.arange(4), "valid": np.arange(4, 8), "test": np.arange(8, 10)}
    dataset = assemble(np.zeros((10, 3, 8, 8), np.uint8), y, ("a", "b", "c"), splits, levels=17)
    assert spec_of(dataset) == Spec("image", (3, 8, 8), 17, (0.75, 0.25, 0.0))
    bare = assemble(np.zeros((10, 1, 8, 8), np.uint8), None, (), splits)
    assert spec_of(bare) == Spec("image", (1, 8, 8), 256, ())


def test_one_training_image_is_too_few(toy):
    dataset = toy(12)
    splits = {"train": np.arange(1), "valid": np.arange(1, 6), "test": np.arange(6, 12)}
    with pytest.raises(UserError) as caught:
        spec_of(dataclasses.replace(dataset, splits=splits))
    assert (
        str(caught.value) == "Training needs at least 2 images, toy has 1. Choose a larger dataset."
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_five_hundred_classes_and_classes_of_one_image_are_trained(name):
    x = np.random.default_rng(0).integers(0, 256, (520, 1, 12, 12), dtype=np.uint8)
    y = np.minimum(np.arange(520), 499)
    splits = {"train": np.arange(515), "valid": np.arange(515, 518), "test": np.arange(518, 520)}
    dataset = assemble(x, y, tuple(map(str, range(500))), splits)
    run = trainer(dataset, network(name, spec_of(dataset)), images=20)
    assert [record.step for record in run] == [1, 2]
    run.published()


@pytest.mark.parametrize("name", PICTURES)
def test_two_unlabelled_images_without_held_out_ones_are_trained(name):
    splits = {"train": np.arange(2), "valid": np.arange(0), "test": np.arange(0)}
    dataset = assemble(
        np.random.default_rng(0).integers(0, 256, (2, 3, 12, 12), dtype=np.uint8), None, (), splits
    )
    run = trainer(dataset, network(name, spec_of(dataset)), images=20)
    list(run)
    assert run.held_out(run.published()) == {}


# --- Learning rate, clipping, average -----------------------------------------------------------


def rates(run: Trainer, group: str) -> dict[int, float]:
    """The learning rate of the step before each record."""
    return {record.step - 1: run.optimisers[group].param_groups[0]["lr"] for record in run}


def test_the_rate_warms_up_and_falls_along_a_cosine(toy):
    for step, rate in rates(trainer(toy(), images=4000, warmup=20, lr=0.5), "model").items():
        if step < 20:
            expected = 0.5 * (step + 1) / 21
        else:
            expected = 0.5 * (0.02 + 0.98 * (1 + math.cos(math.pi * step / 400)) / 2)
        assert rate == pytest.approx(expected)


def test_the_warm_up_takes_at_most_a_tenth_of_the_steps(toy):
    found = rates(trainer(toy(), images=300, warmup=100, schedule="constant"), "model")
    assert [found[step] for step in range(5)] == pytest.approx(
        [0.025, 0.05, 0.075, 0.1, 0.1]
    )  # the group's own 0.1
    assert found[29] == pytest.approx(0.1)


def test_without_warm_up_and_schedule_the_rate_is_constant(toy):
    found = rates(trainer(toy(), warmup=0, schedule="constant", lr=0.25), "model")
    assert set(found.values()) == {0.25}


def test_a_group_is_trained_in_its_own_span_with_its_own_schedule(toy):
    model = Line(("first", 0, 0.4), ("second", 0.4, 1))
    run = trainer(toy(), model, images=100, warmup=0, lr=1.0)
    weights, found = [], []
    for record in run:
        weights.append([float(model.weights[name].detach()[0]) for name in ("first", "second")])
        found.append(run.optimisers["second"].param_groups[0]["lr"])
        assert ("first_loss" in record.values) == (record.step <= 4)
    assert len({first for first, _ in weights[3:]}) == 1
    assert {second for _, second in weights[:4]} == {1.0}
    assert len({second for _, second in weights[4:]}) == 6
    expected = [0.02 + 0.98 * (1 + math.cos(math.pi * (step - 4) / 6)) / 2 for step in range(4, 10)]
    assert found[4:] == pytest.approx(expected)


def test_a_gradient_longer_than_the_limit_is_shortened_and_told_at_full_length(toy):
    for clip, length in ((2.0, 2.0), (0.0, 100 * math.sqrt(2)), (1000.0, 100 * math.sqrt(2))):
        model = Line(("model", 0, 1), slope=100.0)
        for record in trainer(toy(), model, clip=clip):
            assert float(model.weights["model"].grad.norm()) == pytest.approx(length, rel=1e-4)
            assert record.values["grad_norm/model"] == pytest.approx(100 * math.sqrt(2), rel=1e-4)


@pytest.mark.parametrize("half_life", [0, 1, 500])
def test_the_average_follows_its_closed_form(toy, half_life, monkeypatch):
    monkeypatch.setattr("core.training.loop.publish_steps", lambda steps: set(range(1, steps + 1)))
    model = Line(("model", 0, 1))
    run = trainer(toy(), model, images=240, average=half_life)
    expected = float(model.weights["model"].detach()[0])
    for record in run:
        now = float(model.weights["model"].detach()[0])
        reach = min(half_life, record.step / 10)
        keep = 0.5 ** (1 / reach) if reach else 0.0
        expected = keep * expected + (1 - keep) * now
        assert float(run.averaged.weights["model"][0]) == pytest.approx(expected, rel=1e-4)
    assert (float(run.averaged.weights["model"][0]) == now) == (half_life == 0)
    assert not run.averaged.training


def test_a_long_average_looks_at_every_fourth_step(toy):
    run = trainer(toy(), Line(("model", 0, 1)), average=100)
    weight, averaged = run.model.weights["model"], run.averaged.weights["model"]
    for run.step in (1001, 1002, 1003, 1004):
        with torch.no_grad():
            weight.fill_(1.0)
        averaged.fill_(0.0)
        run._average()
        expected = 1 - 0.5 ** (4 / 100) if run.step == 1004 else 0.0
        assert averaged.tolist() == pytest.approx([expected] * averaged.numel())


@pytest.mark.parametrize("clip", [0.0, 0.5])
@pytest.mark.parametrize(
    ("name", "values"), [(n, v) for n in NETWORKS for v in variants(n)], ids=str
)
def test_a_step_is_that_of_the_textbook(toy, name, values, clip):
    dataset = toy(60, size=16)
    spec = spec_of(dataset)
    run = trainer(
        dataset, network(name, spec, **values), images=20, clip=clip, warmup=0, schedule="constant"
    )
    model, start = network(name, spec, **values), network(name, spec, **values)
    groups = {group.name: group for group in model.groups()}
    adams = {
        key: torch.optim.AdamW(
            g.params,
            g.lr,
            (g.beta1, g.beta2),
            weight_decay=g.weight_decay,
            fused=False,
            foreach=False,
        )
        for key, g in groups.items()
    }
    x, y = (torch.as_tensor(part) for part in dataset.part("train"))
    for step in range(2):
        generator = step_generator(CPU, 0, step)
        index = torch.randint(len(x), (10,), generator=generator)
        for loss in model.losses(to_float(x[index]), y[index], generator, step / 2):
            model.zero_grad()
            loss.value.backward()
            if clip:
                nn.utils.clip_grad_norm_(groups[loss.group].params, clip)
            adams[loss.group].step()
    list(run)
    for key, theirs in model.named_parameters():
        mine, before = run.model.get_parameter(key), start.get_parameter(key)
        if (
            theirs.ndim > 1
        ):  # the slope of a bias may be all rounding, of which Adam makes whole steps
            moved = (theirs - before).norm()
            assert moved > 0, key
            assert (mine - theirs).norm() < 0.05 * moved, key


def test_two_weights_that_share_a_gradient_are_clipped_once(toy):
    class Twins(Line):
        def losses(
            self, x: Tensor, y: Tensor | None, generator: torch.Generator, progress: float
        ) -> Iterator[Loss]:
            yield Loss("model", (50 * (self.weights["model"] + self.other)).square().sum())

        def groups(self) -> list[Group]:
            return [Group("model", list(self.parameters()))]

        def __deepcopy__(self, memo: dict[int, Any]) -> Twins:
            return twins()

    def twins() -> Twins:
        model = Twins(("model", 0, 1))
        model.other = nn.Parameter(torch.ones(2))
        return model

    model = twins()
    list(trainer(toy(), model, images=10, clip=1.0))
    for weight in (model.weights["model"], model.other):
        assert float(weight.grad.norm()) == pytest.approx(0.5**0.5, rel=1e-4)


# --- Moments to publish -------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 24, 100, 1563, 78_125, 10**7])
def test_samples_are_drawn_at_the_first_step_log_spaced_ones_and_the_last(steps):
    moments = sorted(publish_steps(steps))
    assert moments[0] == 1
    assert moments[-1] == steps
    assert len(moments) <= 25
    assert all(1 <= moment <= steps for moment in moments)
    assert steps > 10 or moments == list(range(1, steps + 1))
    large = [b / a for a, b in itertools.pairwise(moments) if a >= 100]
    assert all(ratio == pytest.approx(steps ** (1 / 23), rel=0.02) for ratio in large)


def test_a_long_training_tells_of_itself_four_times_a_second(toy, monkeypatch):
    now = [0.0]

    def clock() -> float:
        now[0] += 0.01
        return now[0]

    monkeypatch.setattr("core.training.loop.time.perf_counter", clock)
    run = trainer(toy(), images=2000)
    records = list(run)
    assert any(not record.publish for record in records)
    gaps = np.diff([record.seconds for record in records])
    assert gaps.max() < 0.5
    assert {record.step for record in records} >= publish_steps(200)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_record_carries_losses_norms_and_the_rate(toy, name):
    dataset = toy(60)
    run = trainer(dataset, network(name, spec_of(dataset)), images=20)
    # two steps, two records: a group of the first half of the training is in the first alone
    values = {key: value for record in run for key, value in record.values.items()}
    groups = [group.name for group in run.model.groups()]
    assert {"lr", *(f"grad_norm/{group}" for group in groups)} <= values.keys()
    assert any("loss" in key for key in values)
    assert all(type(value) is float and math.isfinite(value) for value in values.values())
    if name == "gan":
        assert {"D_real", "D_fake", "critic_loss", "generator_loss"} <= values.keys()


def test_a_value_is_the_average_since_the_last_record(toy):
    run = trainer(toy(), images=2000)
    step = 0
    for record in run:
        means = [x.mean().item() for x, _ in run.model.seen[step : record.step]]
        assert record.values["brightness"] == pytest.approx(float(np.mean(means)), rel=1e-5)
        step = record.step
    assert step == 200


# --- Publishing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_publishing_gives_a_copy_and_leaves_the_training_alone(toy, name):
    dataset = toy(60)
    quiet, busy = (trainer(dataset, network(name, spec_of(dataset)), images=50) for _ in range(2))
    list(quiet)
    for _ in busy:
        published = busy.published()
        kept = {key: value.clone() for key, value in published.state_dict().items()}
        busy.held_out(published)
        assert not published.training
    assert same(quiet.state(), busy.state())
    assert all(torch.equal(value, kept[key]) for key, value in published.state_dict().items())
    mine = {value.data_ptr() for value in published.parameters()}
    assert not mine & {value.data_ptr() for value in busy.averaged.parameters()}
    averaged = dict(busy.averaged.named_parameters())
    assert all(torch.equal(value, averaged[key]) for key, value in published.named_parameters())


def test_held_out_values_are_the_same_each_time(toy):
    dataset = toy(60)
    run = trainer(dataset, network("vae", spec_of(dataset)), images=50)
    list(run)
    model = run.published()
    first = run.held_out(model)
    assert list(first) == ["valid_loss", "valid_reconstruction_error"]
    assert run.held_out(model) == first
    assert trainer(dataset).held_out(Line(("model", 0, 1))) == {}


# --- When it goes wrong -------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("group", ["first", "second"])
def test_a_loss_that_is_no_number_sends_it_back_to_the_last_good_state(toy, group, value):
    model = Line(("first", 0, 1), ("second", 0, 1))
    model.ease = 1.0
    model.broken = lambda call, name: value if (call, name) == (4, group) else 0.0
    run = trainer(toy(), model, schedule="constant", warmup=0)
    records = iter(run)
    for _ in range(4):
        rate = next(records).values["lr"]
    before = {name: weight.detach().clone() for name, weight in model.weights.items()}
    averaged = run.averaged.weights[group].clone()
    record = next(records)
    assert record.note == (
        f"The {group} loss is {value:g} at step 4: went back to step 4, "
        "with 0.5 of the learning rate and of the penalties."
    )
    assert record.publish
    assert all(torch.equal(model.weights[name], before[name]) for name in before)
    assert torch.equal(run.averaged.weights[group], averaged)
    assert (run.step, run.rollbacks, model.ease) == (4, 1, 0.5)
    rest = list(records)
    assert [record.step for record in rest] == list(range(5, 11))
    assert rest[0].values["lr"] == pytest.approx(rate / 2)
    # the same step is drawn anew, and what is saved knows of it
    assert not torch.equal(model.seen[4][0], model.seen[5][0])
    again = trainer(toy(), Line(("first", 0, 1), ("second", 0, 1)))
    again.restore(run.state())
    assert (again.rollbacks, again.ease) == (1, 0.5)


def test_it_goes_back_past_what_was_not_published(toy, monkeypatch):
    monkeypatch.setattr("core.training.loop.publish_steps", lambda steps: {3, steps})
    model = Line(("model", 0, 1))
    model.broken = lambda call, name: math.nan if call == 7 else 0.0
    run = trainer(toy(), model)
    notes = [record.note for record in run if record.note]
    assert notes == [
        "The model loss is nan at step 7: went back to step 3, with 0.5 of the learning rate and of the penalties."
    ]
    assert run.step == run.steps


class Root(Line):
    """Its gradient is no number from the third call on: the root of zero has no slope."""

    def losses(
        self, x: Tensor, y: Tensor | None, generator: torch.Generator, progress: float
    ) -> Iterator[Loss]:
        for loss in super().losses(x, y, generator, progress):
            zero = (self.weights["model"] * 0).sum()
            wrong = zero.sqrt() if len(self.seen) >= 3 else zero
            yield Loss("model", loss.value + wrong, loss.parts)


@pytest.mark.parametrize(("clip", "advice"), [(10, ", or train.clip to 1"), (0.5, "")])
def test_it_gives_up_the_fourth_time_and_says_what_to_change(toy, clip, advice):
    model = Root(("model", 0, 1))
    run = trainer(toy(), model, clip=clip, schedule="constant", warmup=0)
    assert told(run) == (
        "The model gradient is nan at step 2, for the 4th time. "
        f"Set train.lr below 0.01{advice}, then start again; the last good checkpoint is kept."
    )
    assert run.rollbacks == 3
    assert model.weights["model"].isfinite().all()


def test_weights_that_are_no_numbers_are_never_published(toy):
    run = trainer(toy(), Line(("model", 0, 1)))
    records = iter(run)
    next(records)
    with torch.no_grad():
        run.averaged.weights["model"].fill_(math.nan)
    record = next(records)
    assert record.note.startswith(
        "The weights of weights.model are not finite at step 2: went back to step 1"
    )
    assert run.averaged.weights["model"].isfinite().all()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_set_that_stays_on_the_disk_trains_the_same(toy, name, monkeypatch):
    dataset = toy(60)
    kept = trainer(dataset, network(name, spec_of(dataset)), images=60)
    list(kept)
    monkeypatch.setenv("SIMULACRA_DATA_MB", "0")
    settings.cache_clear()
    read = trainer(dataset, network(name, spec_of(dataset)), images=60)
    assert isinstance(read.train.x, Streamed)
    list(read)
    assert same(kept.state(), read.state())
    assert all(
        torch.equal(value, other)
        for value, other in zip(
            kept.published().state_dict().values(),
            read.published().state_dict().values(),
            strict=True,
        )
    )


# --- Resuming -----------------------------------------------------------------------------------


def same(a: Any, b: Any) -> bool:
    """Whether two states are equal bit by bit, but for the time they took."""
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a if key != "seconds")
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_restored_training_ends_where_an_uninterrupted_one_does(toy, name):
    dataset = toy(60, size=12)
    spec = spec_of(dataset)
    values = {"images": 300, "batch": 10, "seed": 3}
    whole = trainer(dataset, network(name, spec), **values)
    list(whole)
    begun = trainer(dataset, network(name, spec), **values)
    record: Progress | None = None
    for record in begun:
        if record.step >= 13:
            break
    assert record is not None
    state = through_a_file(begun.state())
    resumed = trainer(dataset, network(name, spec, seed=1), **values)
    torch.manual_seed(11)
    resumed.restore(state)
    assert resumed.step == record.step < 30
    assert resumed.seconds > 0
    records = list(resumed)
    assert records[0].seconds > record.seconds
    assert same(whole.state(), resumed.state())
    assert not same(
        whole.state(), trainer(dataset, network(name, spec), **values | {"seed": 4}).state()
    )
    assert same(whole.published().state_dict(), resumed.published().state_dict())


@pytest.mark.parametrize("name", NETWORKS)
def test_half_precision_trains_in_full_precision_weights(toy, name):
    dataset = toy(60)
    run = trainer(dataset, network(name, spec_of(dataset)), images=30, precision="bfloat16")
    for record in run:
        assert all(math.isfinite(value) for value in record.values.values())
    assert {param.dtype for param in run.model.parameters()} == {torch.float32}


# --- The gradient ---------------------------------------------------------------------------------


def test_a_step_follows_what_its_update_says(toy):
    """The seam: a private training clips the gradient of each image; here, all of them to almost nothing."""
    asked: list[str] = []

    def clipped(loss: Loss, group: Group) -> tuple[Tensor, list[Tensor | None]]:
        asked.append(group.name)
        assert loss.each is not None
        parts: list[list[Tensor]] = []
        for each in loss.each():
            grads = torch.autograd.grad(each, group.params, retain_graph=True)
            scale = 1e-6 / torch.nn.utils.get_total_norm(grads)
            parts.append([scale * grad for grad in grads])
        return loss.value.detach(), [torch.stack(each).mean(0) for each in zip(*parts, strict=True)]

    dataset = toy(60)
    model = build("diffusion", {}, spec_of(dataset))
    config = TrainConfig(images=32, batch=8, warmup=0)
    *_, last = Trainer(model, dataset, config, CPU, update=clipped)
    assert asked == ["model"] * 4
    assert 0 < last.values["grad_norm/model"] <= 1e-6
    assert last.values["loss"] > 0.1  # that of the images themselves


def test_the_usual_update_is_the_gradient_of_the_loss():
    net = Line(("a", 0.0, 1.0), ("b", 0.0, 1.0))
    first, second = net.losses(torch.full((1, 1, 2, 2), 0.5), None, torch.Generator(), 0.0)
    group, _ = net.groups()
    value, grads = plain(first, group)
    assert not value.requires_grad and torch.equal(value, first.value)
    assert [grad.tolist() for grad in grads if grad is not None] == [[1.0, 1.0]]
    assert plain(second, group)[1] == [None]  # it has no part in that loss
