"""What can be downloaded of a study: one HTML page, the program that repeats it, the adversarial images."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from core.ground import paper, sheets, xmp
from core.ground.writing import percent, percents
from core.media import side_of
from core.norms import NEAR, norm_of, wide
from core.robustness.findings import ClassStanding, Standing
from core.robustness.measure import AttackStudy
from core.robustness.store import Report

SHOWN = 8  # images of a page


def batch(study: AttackStudy) -> bytes:
    """Packs images, adversarial images, labels and numbers as .npz: x, adversarial, y, indices, smallest, eps.

    ``adversarial`` holds for each image the smallest change found within the headline's budget, else the image itself.
    """
    eps = study.grid[study.head] if study.grid else 0.0
    held = torch.as_tensor(study.smallest <= eps + NEAR, device=study.x.device)
    adversarial = torch.where(wide(held, study.x), study.adversarial, study.x)
    memory = io.BytesIO()
    np.savez_compressed(
        memory,
        allow_pickle=False,
        x=study.x.cpu().numpy(),
        adversarial=adversarial.cpu().numpy(),
        y=study.y.cpu().numpy(),
        indices=np.array(study.indices, np.int64),
        smallest=study.smallest,
        eps=np.array(eps),
    )
    return memory.getvalue()


def pictures(study: AttackStudy) -> list[dict[str, Any]]:
    """Chooses images that fell, spread over the classes, each as PNG bytes: clean, adversarial, difference enlarged."""
    fell = np.flatnonzero(np.isfinite(study.smallest))
    y = study.y.cpu().numpy()
    order = sorted(fell, key=lambda i: (list(y[fell[fell <= i]]).count(y[i]), int(y[i])))[:SHOWN]
    rows = []
    for i in order:
        x, moved = study.x[i : i + 1].cpu(), study.adversarial[i : i + 1].cpu()
        change = moved - x
        loud = 0.5 + change / (2 * change.abs().max().clamp_min(1e-6))
        png = sheets.png(
            study.target.medium.drawn(torch.cat([x, moved, loud])),
            3,
            mark=xmp.Mark("algorithmicallyEnhanced", origin="adversarial"),
            scale=max(1, 96 // x.shape[-1]),
            gap=2,
        )
        said = int(study.target.predict(moved.to(study.x.device))[0])
        rows.append(
            {
                "png": png,
                "label": study.target.classes[int(y[i])],
                "said": study.target.classes[said] if said >= 0 else "not a number",
                "eps": float(study.smallest[i]),
                "by": str(study.by[i]),
            }
        )
    return rows


def python(report: Report) -> str:
    """Writes the program that repeats the number without the app."""
    model, data, config = report.model, report.data, report.config
    ids = {"": "", "run": model.get("run", ""), "plain": "", "brought": f"own/{model['name']}"}
    lines = [
        "from core import datasets, robustness",
        "from core.robustness import classifiers",
        "",
        f"dataset = datasets.load({data.get('name', 'digits')!r}, {data.get('config') or {}!r})",
    ]
    if model.get("kind") == "code":
        lines.append(
            f"target = classifiers.from_code({model['place']!r}, None, dataset)  # add the file of your weights"
        )
    else:
        lines.append(
            f"target = classifiers.target_of({ids.get(model.get('kind', ''), '')!r}, dataset)"
        )
    lines += [
        f"config = robustness.StudyConfig.of({dict(config)!r})",
        "x, y, indices, data = robustness.images_of(dataset, config)",
        "for report in robustness.AttackStudy(target, x, y, config, indices=indices, data=data, dataset=dataset):",
        "    pass",
        "print(report.verdict.sentence)",
    ]
    if "fingerprint" in data:
        lines.insert(4, f"assert dataset.fingerprint == {data['fingerprint']!r}")
    return "\n".join(lines) + "\n"


def html(report: Report, shown: Sequence[Mapping[str, Any]] = ()) -> str:
    """Writes the report as one page that needs nothing else: verdict, curve, checks, attacks, pictures, the program."""
    model, data, head = report.model, report.data, report.head
    order = report.identity and report.identity.order
    tables = [
        (
            "Strength and robust accuracy (worst of all attacks, per image)",
            ["eps", "robust", "95 % interval", "n", "by attack"],
            [
                [
                    *_standing(row.text, row),
                    ", ".join(f"{k} {percent(v)}" for k, v in row.attacks.items()),
                ]
                for row in report.results
            ],
        ),
        (
            f"By class at {head.text}",
            ["class", "robust", "95 % interval", "n"],
            [_standing(row.name, row) for row in head.classes],
        ),
        (
            f"The {len(report.checks)} checks",
            ["", "check", "outcome", "finding, and what to do"],
            [
                [c.number, c.name, c.outcome, f"{c.finding} {c.advice}".strip()]
                for c in report.checks
            ],
        ),
        (
            "Which class answers as which",
            ["images of", "are answered as"],
            order.pairs if order else (),
        ),
        (
            "Attacks",
            ["attack", "parameters", "library", "time", "forward", "backward"],
            [
                [
                    a.title,
                    json.dumps(a.parameters),
                    a.library,
                    f"{a.seconds:.1f} s",
                    a.forward,
                    a.backward,
                ]
                for a in report.attacks
            ],
        ),
        (
            "Smallest changes",
            ["attack", "fooled", "median", "quartiles"],
            [
                [name, s.fooled, f"{s.median:.4f}", "{:.4f} to {:.4f}".format(*s.quartiles)]
                for name, s in report.distances.items()
                if s.median is not None and s.quartiles
            ],
        ),
    ]
    metadata = {
        "Model": f"{model['name']}, {'×'.join(map(str, side_of(model)[1]))}, hash {model.get('hash', '')}",
        "Model's training and preprocessing": json.dumps(
            model.get("training") or model.get("preprocessing") or {}
        ),
        "Asked as": f"{model['mode']} mode, {model['dtype']}, EOT {model['eot']}, BPDA {model['bpda']}",
        "Data": f"{data.get('name', 'arrays')}, {data.get('split', '')}, n = {data['n']}, seed {data['seed']}, "
        f"fingerprint {data.get('fingerprint', '')[:16]}",
        "Threat": f"{report.threat['goal']}; {report.threat['knowledge']}; {report.norm}; {report.threat['units']}",
        "Clean accuracy of the same images": percent(report.clean.value),
        "Versions": json.dumps(report.versions),
        "Time": f"{report.seconds:.1f} s on {report.device}",
        "Images": ", ".join(str(image.index) for image in report.images[:2000]),
    }
    return paper.render(
        "robustness/report.html",
        f"Robustness of {model['name']}",
        report=report,
        curve=_curve(report),
        tables=tables,
        shown=[{**p, "at": norm_of(report.norm).text(p["eps"])} for p in shown],
        metadata=metadata,
        program=python(report),
    )


def _standing(name: str, at: Standing | ClassStanding) -> list[Any]:
    return [name, percent(at.robust), percents(*at.interval), at.n]


def _curve(report: Report) -> dict[str, Any] | None:
    """Places robust accuracy against strength, with its interval, the placebo and chance, on 640 × 260."""
    rows = report.results
    if len(rows) < 2:
        return None
    across = [44 + k * 584 / (len(rows) - 1) for k in range(len(rows))]

    def down(share: float) -> float:
        return 12 + (1 - share) * 208

    def line(points: Iterable[tuple[float, float]]) -> str:
        return " ".join(f"{x:.1f},{down(share):.1f}" for x, share in points)

    ends = list(zip(across, rows, strict=True))
    noise = [
        (x, row.attacks.get("noise", None if k else row.robust)) for k, (x, row) in enumerate(ends)
    ]
    return {
        "band": line(
            [(x, row.interval[1]) for x, row in ends]
            + [(x, row.interval[0]) for x, row in ends[::-1]]
        ),
        "line": line((x, row.robust) for x, row in ends),
        "placebo": line((x, share) for x, share in noise if share is not None),
        "chance": line((x, report.chance) for x in (across[0], across[-1])),
        "ticks": [(f"{x:.0f}", row.text) for x, row in ends],
        "marks": [(f"{down(share) + 4:.0f}", share) for share in (0, 0.5, 1)],
    }
