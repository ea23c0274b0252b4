"""The classifier: what it learns, and what it refuses."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from core import datasets, runs
from core.ascent import climb
from core.catalog import UserError
from core.classifier import Classifier, ClassifierConfig, divergence
from core.kinds.classifier import ExtraConfig, extended
from core.models import Fits, Spec, Trainable, Validates
from core.norms import LINF, SUITED, Budget
from core.tensors import to_float
from core.training import TrainConfig, Trainer, spec_of

CPU = torch.device("cpu")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(spec: Spec, **values: object) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Classifier(ClassifierConfig.of(values), spec)


@pytest.mark.parametrize("size", [8, 28, 30, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_every_size_get_one_logit_per_class(size, channels):
    model = made(
        Spec("image", (channels, size, size), 256, (0.25,) * 4), width=8, features=16
    ).eval()
    x = torch.rand(3, channels, size, size, generator=rng())
    assert model(x).shape == (3, 4)
    assert model.features(x).shape == (3, 16)
    assert torch.allclose(model.last(model.features(x)), model(x))
    assert torch.allclose(model(x[1:2])[0], model(x)[1], atol=1e-5)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_classes_are_refused(count):
    with pytest.raises(UserError) as caught:
        made(Spec("image", (1, 8, 8), 17, (1.0,) * count))
    assert str(caught.value) == (
        f"A classifier needs a dataset with at least 2 classes, got {count}. Choose a dataset with labels."
    )


def test_it_offers_what_the_loop_and_the_checkpoints_need():
    model = made(Spec("image", (1, 8, 8), 17, (0.5, 0.5)), weight_decay=0.1)
    assert isinstance(model, Trainable)
    assert isinstance(model, Fits)
    assert isinstance(model, Validates)
    (group,) = model.groups()
    assert group.weight_decay == 0.1
    assert {id(p) for p in group.params} == {id(p) for p in model.parameters()}
    x, y = torch.rand(8, 1, 8, 8, generator=rng()), torch.arange(8) % 2
    (loss,) = model.losses(x, y, rng(), 0.0)
    grads = torch.autograd.grad(loss.value, group.params)
    assert all(grad.isfinite().all() and grad.any() for grad in grads)


def test_the_loss_is_the_cross_entropy_with_the_asked_smoothing():
    model = made(Spec("image", (1, 8, 8), 17, (0.5, 0.5)), smoothing=0.2).eval()
    x, y = torch.rand(8, 1, 8, 8, generator=rng()), torch.arange(8) % 2
    (loss,) = model.losses(x, y, rng(), 0.0)
    log_prob = F.log_softmax(model(x), 1)
    right = log_prob[torch.arange(8), y]
    expected = -(0.8 * right + 0.2 * log_prob.mean(1)).mean()
    assert loss.value.item() == pytest.approx(expected.item(), rel=1e-5)
    with torch.no_grad():
        held_out = model.held_out(x, y, rng())
    assert next(iter(held_out)) == "valid_loss"
    assert held_out["valid_loss"].item() == pytest.approx(
        -right.mean().item(), rel=1e-5
    )  # never smoothed
    assert held_out["valid_accuracy"].item() == pytest.approx(
        (model(x).argmax(1) == y).float().mean().item()
    )


def test_it_learns_what_can_be_told_apart(toy):
    dataset = toy(180, classes=3)
    trainer = Trainer(
        made(spec_of(dataset), width=8), dataset, TrainConfig(images=2000, batch=50), CPU
    )
    first, *_, last = list(trainer)
    assert last.values["accuracy"] == 1
    assert last.values["loss"] < first.values["loss"] / 5
    model = trainer.published()
    x, y = dataset.part("test")
    with torch.no_grad():
        logits = model(to_float(torch.as_tensor(x)))
    assert (logits.argmax(1) == torch.as_tensor(y)).all()
    assert trainer.held_out(model)["valid_accuracy"] == 1
    assert trainer.held_out(model)["valid_loss"] < math.log(3) / 5


@pytest.mark.parametrize("count", [2, 257])
def test_fitting_recomputes_the_batch_statistics_and_nothing_else(count):
    model = made(Spec("image", (1, 8, 8), 17, (0.5, 0.5)), width=8).eval()
    before = copy.deepcopy(model)
    x, y = torch.rand(count, 1, 8, 8, generator=rng()), torch.arange(count) % 2
    model.fit(x, y)
    once = copy.deepcopy(model.state_dict())
    model.fit(x, y)
    assert not model.training
    assert all(torch.equal(value, once[name]) for name, value in model.state_dict().items())
    moved = {
        name
        for name, value in model.state_dict().items()
        if not torch.equal(value, before.state_dict()[name])
    }
    assert moved
    assert all("running" in name or "num_batches" in name for name in moved)


# --- hardened against attacks -------------------------------------------------------------------


def test_climbing_stays_in_the_box_and_one_full_step_is_the_sign_of_the_gradient():
    x = torch.rand(4, 1, 4, 4, generator=rng())
    weights = torch.randn(16, generator=rng(1))
    climbed = climb(lambda moved: moved.flatten(1) @ weights, x, x, 0.1, 1)
    expected = (x + 0.1 * weights.sign().view(1, 4, 4)).clamp(0, 1)
    assert torch.allclose(climbed, expected)
    far = climb(lambda moved: moved.flatten(1) @ weights, x, x + 1, 0.1, 5)
    assert ((far - x).abs() <= 0.1 + 1e-6).all()
    assert far.min() >= 0 and far.max() <= 1


def test_the_divergence_is_that_of_torch_distributions():
    first, second = torch.randn(2, 5, 4, generator=rng()).unbind(0)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=first),
        torch.distributions.Categorical(logits=second),
    )
    assert torch.allclose(divergence(first, second), expected, atol=1e-6)


@pytest.mark.parametrize("defence", ["pgd", "trades", "noise"])
def test_a_hardened_classifier_learns_and_is_published_ready(toy, defence):
    dataset = toy(120, classes=2)
    model = made(spec_of(dataset), width=4, features=8, defence=defence, attack_steps=2)
    trainer = Trainer(model, dataset, TrainConfig(images=600, batch=20), CPU)
    *_, last = list(trainer)
    assert math.isfinite(last.values["loss"])
    assert ("inconstancy" in last.values) == (defence == "trades")
    published = trainer.published()
    assert all(param.grad is None and not param.requires_grad for param in published.parameters())
    held_out = trainer.held_out(published)
    assert list(held_out) == ["valid_loss", "valid_accuracy", "valid_hard_accuracy"]
    assert trainer.held_out(published) == held_out  # the same draws every time
    assert held_out["valid_accuracy"] == 1


@pytest.mark.parametrize(("defence", "bound"), [("pgd", 0.1), ("trades", 0.1)])
def test_it_trains_on_images_that_are_changed_within_its_budget(defence, bound):
    spec = Spec("image", (1, 8, 8), 17, (0.5, 0.5))
    model = made(spec, width=4, features=8, defence=defence, eps=bound, attack_steps=3)
    x, y = torch.rand(6, 1, 8, 8, generator=rng()), torch.arange(6) % 2
    hard = model._hardened(x, y, rng(), 1.0)
    assert ((hard - x).abs() <= bound + 1e-6).all() and ((hard - x).abs() > bound / 2).any()
    assert hard.min() >= 0 and hard.max() <= 1
    assert torch.equal(model._hardened(x, y, rng(), 0.0), x)  # nothing yet at the start
    if defence == "pgd":
        assert F.cross_entropy(model(hard), y) > F.cross_entropy(model(x), y)
    else:
        assert divergence(model(x), model(hard)).mean() > 1e-5


def test_adversarial_training_pays(toy):
    """Against the attack that it trained on, a hardened classifier keeps more than a plain one."""
    dataset, kept = toy(240, classes=2), {}
    for defence in ("none", "pgd"):
        model = made(
            spec_of(dataset), width=4, features=8, defence=defence, eps=0.1, attack_steps=3
        )
        trainer = Trainer(model, dataset, TrainConfig(images=2000, batch=40), CPU)
        for _ in trainer:
            pass
        net = trainer.published()
        x, y = dataset.part("test")
        x, y = to_float(torch.as_tensor(x)), torch.as_tensor(y)
        hard = climb(
            lambda m, net=net, y=y: F.cross_entropy(net(m), y, reduction="none"), x, x, 0.1, 10
        )
        kept[defence] = float(F.cross_entropy(net(hard), y))
    assert kept["pgd"] < 0.9 * kept["none"]


def test_a_record_of_before_the_defences_still_opens():
    old = {"width": 8, "features": 16, "smoothing": 0.0, "weight_decay": 0.01}
    assert ClassifierConfig.of(old).defence == "none"


@pytest.mark.parametrize(("kind", "eps"), [((1, 8), 38), ((1, 28), 51), ((3, 32), 8)])
def test_the_suited_strength_belongs_to_the_kind_of_images(kind, eps):
    budget = Budget(LINF, (kind[0], kind[1], kind[1]))
    assert budget.usual == budget.chosen(SUITED) == eps / 255 and budget.chosen(0.5) == 0.5


def test_an_unknown_defence_is_refused():
    with pytest.raises(UserError) as caught:
        ClassifierConfig.of({"defence": "hope"}, "classifier")
    assert str(caught.value) == (
        "classifier.defence must be one of none, pgd, trades, noise, got 'hope'. Leave it out to use none."
    )


def test_images_of_a_generative_run_are_added_to_the_training_images_alone(here):
    maker = here("gan", name="maker")
    plain = datasets.load("digits")
    both = extended(plain, ExtraConfig(made_by="maker", made_images=25))
    assert len(both) == len(plain) + 25
    assert len(both.splits["train"]) == len(plain.splits["train"]) + 25
    for split in ("valid", "test"):
        assert (both.splits[split] == plain.splits[split]).all()
    assert (both.y[-25:] == [k % 10 for k in range(25)]).all()
    assert both.x[-25:].max() <= plain.levels - 1 and both.x[-25:].std() > 1
    again = extended(plain, ExtraConfig(made_by=maker.id, made_images=25))
    assert again.fingerprint == both.fingerprint
    job = here(None, **{"classifier.width": 8, "extra.made_by": "maker", "extra.made_images": 64})
    assert job.status == "finished", job.message
    assert runs.record(job)["extra"] == {"made_by": "maker", "made_images": 64}


def test_a_run_that_cannot_label_or_has_seen_other_images_adds_nothing(here, toy):
    here("vae", name="mute")
    digits = datasets.load("digits")
    with pytest.raises(
        UserError, match="mute does not listen to classes, so its images have no labels"
    ):
        extended(digits, ExtraConfig(made_by="mute"))
    with pytest.raises(UserError, match="was trained on other images than toy holds"):
        extended(toy(60), ExtraConfig(made_by="mute"))
