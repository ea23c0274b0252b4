"""Records what other libraries compute, as small arrays that the tests compare with.

Their pins break ours, so they live in an environment of their own, which needs: foolbox==3.3.4 torchattacks==3.5.1
adv-lib==0.2.8 pyautoattack==0.2.0 imagecorruptions==1.1.2 scikit-learn torch. Then, in this folder::

    python attacks.py

writes attacks.npz (a small classifier, images, and what the attacks of the others make of them) and corruptions.npz
(a photograph, and the local means of its corruptions).
"""

from __future__ import annotations

import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

warnings.filterwarnings("ignore")
HERE = Path(__file__).parent
EPS, L2 = 0.1, 0.4
SEVERITY = 3


def network(weights: dict[str, torch.Tensor] | None = None) -> nn.Module:
    """Makes the classifier of the arrays."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Softplus(), nn.Linear(32, 10))
    if weights:
        net.load_state_dict(weights)
    return net.eval()


def trained() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Trains it on scikit-learn's digits; gives images that it names rightly."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16).float().view(-1, 1, 8, 8), torch.tensor(y)
    torch.manual_seed(0)
    net = network()
    adam = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(600):
        pick = torch.randint(1400, (128,))
        adam.zero_grad()
        F.cross_entropy(net(x[pick]), y[pick]).backward()
        adam.step()
    net.requires_grad_(False)
    right = net(x[1400:]).argmax(1) == y[1400:]
    return net, x[1400:][right][:32].contiguous(), y[1400:][right][:32]


def attacks() -> None:
    """Records FGSM, PGD, DeepFool, DDN and AutoAttack."""
    sys.modules["visdom"] = types.ModuleType(
        "visdom"
    )  # adv-lib plots with it, and asks for it at once
    import adv_lib.attacks as adv
    import foolbox as fb
    import torchattacks
    from pyautoattack import AutoAttack

    net, x, y = trained()
    found: dict[str, Any] = {"x": x, "y": y}
    model = fb.PyTorchModel(net, bounds=(0, 1), device="cpu")

    def foolbox(attack: Any, eps: float) -> torch.Tensor:
        return attack(model, x, y, epsilons=eps)[1]

    found["foolbox_fgsm"] = foolbox(fb.attacks.LinfFastGradientAttack(), EPS)
    found["torchattacks_fgsm"] = torchattacks.FGSM(net, eps=EPS)(x, y)

    class Recorded(fb.attacks.LinfProjectedGradientDescentAttack):
        def get_random_start(self, x0: Any, epsilon: float) -> Any:
            start = super().get_random_start(x0, epsilon)
            found["start"] = start.raw.clone().clamp(0, 1)
            return start

    torch.manual_seed(3)
    found["foolbox_pgd"] = foolbox(Recorded(steps=20, abs_stepsize=EPS / 8), EPS)
    torch.manual_seed(3)
    again = torchattacks.PGD(net, eps=EPS, alpha=EPS / 8, steps=20, random_start=True)
    found["torchattacks_pgd"] = again(x, y)
    torch.manual_seed(3)
    found["torchattacks_start"] = (x + torch.empty_like(x).uniform_(-EPS, EPS)).clamp(0, 1)
    l2 = fb.attacks.L2ProjectedGradientDescentAttack(
        steps=20, abs_stepsize=L2 / 8, random_start=False
    )
    found["foolbox_pgd_l2"] = foolbox(l2, L2)
    for name, made in (
        ("deepfool", adv.df(net, x, y, steps=50, overshoot=0.02, norm=2)),
        ("ddn", adv.ddn(net, x, y, steps=200, levels=None)),
    ):
        found[name] = (made - x).flatten(1).norm(dim=1)
        assert bool((net(made).argmax(1) != y).all()), name
    whole = AutoAttack(net, eps=EPS, norm="Linf", seed=0, device="cpu")
    adversarial, _ = whole.run_standard_evaluation(x[:6].clone(), y[:6].clone(), batch_size=250)
    found["autoattack"] = adversarial
    weights = {f"net.{name}": value for name, value in net.state_dict().items()}
    arrays = {name: torch.as_tensor(v).detach().numpy() for name, v in (found | weights).items()}
    np.savez_compressed(HERE / "attacks.npz", **arrays)
    print({name: value.shape for name, value in arrays.items()})


def corruptions() -> None:
    """Records the corruptions that still run, as means of 4 by 4 pixels."""
    from imagecorruptions import corrupt, get_corruption_names
    from sklearn.datasets import load_sample_image

    photo = load_sample_image("china.jpg")[100:324, 200:424]
    found = {"photo": photo}
    for name in get_corruption_names():
        np.random.seed(0)
        try:
            made = corrupt(photo, severity=SEVERITY, corruption_name=name)
        except (TypeError, AttributeError) as error:
            print(f"{name} does not run: {error}")
            continue
        found[name] = made.reshape(56, 4, 56, 4, 3).mean((1, 3)).round().astype(np.uint8)
        found[f"{name}_change"] = np.abs(made.astype(float) - photo).mean()
    np.savez_compressed(HERE / "corruptions.npz", **found)


if __name__ == "__main__":
    attacks()
    corruptions()
