#!/usr/bin/env bash
# Removing a parametrization from a deep copy of a torch module takes the parameter away from the original.
#
# Expected: copy.deepcopy gives a module of its own; remove_parametrizations on the copy leaves the original as it was.
# Seen: a parametrized module gets a class of its own, and its copy shares that class. Removing the last parametrization
#   deletes the property from the class, so the original, which still holds its parametrization, raises AttributeError
#   ("has no attribute 'weight'") at its next forward pass. leave_parametrized does not matter. With the built-in weight
#   norm it is the same. A copy that is left alone, and a removal without a copy, do no harm.
# Met where low-rank adapters were merged on a copy of the network that went on learning: the training broke off after
#   its first saved state. What helps: merge into a state dict instead of a copied module, or copy the module first
#   and parametrize each copy.
# Versions: torch 2.14.1, Python 3.11, Linux x86-64. Date: 2026-12-01.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.14.1
cat > "$tmp/check.py" <<'PYTHON'
import copy
import sys

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize


class Half(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight / 2


def outcome(module: nn.Module) -> str:
    try:
        module(torch.ones(1, 2))
    except AttributeError as error:
        return str(error)
    return "works"


def own() -> nn.Module:
    module = nn.Linear(2, 2)
    parametrize.register_parametrization(module, "weight", Half())
    return module


broken = "'ParametrizedLinear' object has no attribute 'weight'"
rows = {}
for keeps in (True, False):
    module = own()
    other = copy.deepcopy(module)
    parametrize.remove_parametrizations(other, "weight", leave_parametrized=keeps)
    rows[f"original after a removal from its copy (leave_parametrized={keeps})"] = outcome(module), broken
module = parametrizations.weight_norm(nn.Linear(2, 2))
other = copy.deepcopy(module)
parametrize.remove_parametrizations(other, "weight")
rows["the same with weight_norm"] = outcome(module), broken
module = own()
other = copy.deepcopy(module)
rows["original beside an untouched copy"] = outcome(module), "works"
rows["that copy"] = outcome(other), "works"
one, two = own(), own()
parametrize.remove_parametrizations(one, "weight")
rows["another module that was parametrized by itself"] = outcome(two), "works"
for name, (seen, _) in rows.items():
    print(f"{name}: {seen}")
sys.exit(any(seen != expected for seen, expected in rows.values()))
PYTHON
"$tmp/venv/bin/python" "$tmp/check.py"
