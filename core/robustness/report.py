"""What can be taken away of a study: one HTML page, the program that repeats it, the adversarial images."""

from __future__ import annotations

import base64
import html as escaping
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from core import sheets
from core.norms import NEAR, norm_of
from core.robustness.measure import AttackStudy
from core.robustness.records import Report
from core.tensors import to_bytes
from core.writing import percent

SHOWN = 8  # images of a page


def batch(study: AttackStudy) -> bytes:
    """Packs images, adversarial images, labels and numbers as .npz: x, adversarial, y, indices, smallest, eps.

    ``adversarial`` holds for each image the smallest change found within the headline's budget, else the image itself.
    """
    eps = study.grid[study.head] if study.grid else 0.0
    held = torch.as_tensor(study.smallest <= eps + NEAR, device=study.x.device)
    adversarial = torch.where(held[:, None, None, None], study.adversarial, study.x)
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
    made = []
    for i in order:
        x, moved = study.x[i : i + 1].cpu(), study.adversarial[i : i + 1].cpu()
        change = moved - x
        loud = 0.5 + change / (2 * change.abs().max().clamp_min(1e-6))
        png = sheets.png(
            to_bytes(torch.cat([x, moved, loud])), 3, scale=max(1, 96 // x.shape[-1]), gap=2
        )
        said = int(study.target.predict(moved.to(study.x.device))[0])
        made.append(
            {
                "png": png,
                "label": study.target.classes[int(y[i])],
                "said": study.target.classes[said] if said >= 0 else "not a number",
                "eps": float(study.smallest[i]),
                "by": str(study.by[i]),
            }
        )
    return made


def python(report: Report) -> str:
    """Writes the program that repeats the number without the app."""
    model, data, config = report.model, report.data, report.config
    given = {k: v for k, v in config.items() if k not in ("split",)}
    place = {"": "", "run": model.get("run", ""), "plain": "", "brought": f"own/{model['name']}"}
    lines = [
        "from core import classifiers, datasets, robustness",
        "",
        f"dataset = datasets.load({data.get('name', 'digits')!r}, {data.get('config') or {}!r})",
    ]
    if model.get("kind") == "code":
        lines.append(
            f"target = classifiers.from_code({model['place']!r}, None, dataset)  # add the file of your weights"
        )
    else:
        lines.append(
            f"target = classifiers.target_of({place.get(model.get('kind', ''), '')!r}, dataset)"
        )
    lines += [
        f"config = robustness.StudyConfig.of({given | {'split': config['split']}!r})",
        "x, y, indices, data = robustness.images_of(dataset, config)",
        "for report in robustness.AttackStudy(target, x, y, config, indices=indices, data=data, dataset=dataset):",
        "    pass",
        "print(report.verdict.sentence)",
    ]
    if "fingerprint" in data:
        lines.insert(3, f"assert dataset.fingerprint == {data['fingerprint']!r}")
    return "\n".join(lines) + "\n"


def html(report: Report, shown: Sequence[Mapping[str, Any]] = ()) -> str:
    """Writes the report as one page that needs nothing else: verdict, curve, checks, attacks, pictures, the program."""
    model, data, head = report.model, report.data, report.head
    colours = {"green": "#2b8a3e", "amber": "#b35c00", "red": "#c92a2a"}
    rows = [
        [
            row.text,
            percent(row.robust),
            f"{percent(row.interval[0])} to {percent(row.interval[1])}",
            str(row.n),
            ", ".join(f"{name} {percent(value)}" for name, value in row.attacks.items()),
        ]
        for row in report.results
    ]
    classes = [
        [
            c.name,
            percent(c.robust),
            f"{percent(c.interval[0])} to {percent(c.interval[1])}",
            str(c.n),
        ]
        for c in head.classes
    ]
    checks = [
        [
            str(c.number),
            c.name,
            c.outcome,
            " ".join(filter(None, [c.finding, c.advice])),
        ]
        for c in report.checks
    ]
    order = report.identity and report.identity.order
    tried = [
        [
            a.title,
            json.dumps(a.parameters),
            a.library,
            f"{a.seconds:.1f} s",
            str(a.forward),
            str(a.backward),
        ]
        for a in report.attacks
    ]
    state = (
        ""
        if report.complete
        else f"<p><b>Not complete.</b> {_text(report.stopped or 'Still at work.')}</p>"
    )
    images = "".join(
        f'<figure><img alt="clean, adversarial, difference" '
        f'src="data:image/png;base64,{base64.b64encode(p["png"]).decode()}">'
        f"<figcaption>{_text(p['label'])} → {_text(p['said'])} at {_text(norm_of(report.norm).text(p['eps']))} "
        f"({_text(p['by'])})</figcaption></figure>"
        for p in shown
    )
    facts = {
        "Model": f"{model['name']}, {model['channels']}×{model['size']}×{model['size']}, hash {model.get('hash', '')}",
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
    distances = [
        [
            name,
            str(spread.fooled),
            f"{spread.median:.4f}",
            f"{spread.quartiles[0]:.4f} to {spread.quartiles[1]:.4f}",
        ]
        for name, spread in report.distances.items()
        if spread.median is not None and spread.quartiles
    ]
    parts = [
        *(
            f'<p class="verdict" style="border-color:{colours[said.colour]}">{_text(said.sentence)}</p>'
            for said in (report.robustness, report.verdict)
        ),
        state,
        _curve(report),
        _table("Strength and robust accuracy (worst of all attacks, per image)",
               ["eps", "robust", "95 % interval", "n", "by attack"], rows),
        _table(f"By class at {head.text}", ["class", "robust", "95 % interval", "n"], classes),
        _table(f"The {len(checks)} checks", ["", "check", "outcome", "finding, and what to do"], checks),
        _table("Which class answers as which", ["images of", "are answered as"], order.pairs) if order else "",
        _table("Attacks", ["attack", "parameters", "library", "time", "forward", "backward"], tried),
        _table("Smallest changes", ["attack", "fooled", "median", "quartiles"], distances) if distances else "",
        f"<h2>Images: clean, adversarial, difference enlarged</h2>{images}" if images else "",
        _table("What was attacked, and how", ["", ""], [[k, v] for k, v in facts.items()]),
        "<h2>What this does not prove</h2><ul>"
        + "".join(f"<li>{_text(t)}</li>" for t in [*report.limits, *report.notes])
        + "</ul>",
        f"<h2>The same number without the app</h2><pre>{_text(python(report))}</pre>",
    ]  # fmt: skip
    return _PAGE.replace("TITLE", _text(f"Robustness of {model['name']}")).replace(
        "BODY", "\n".join(parts)
    )


def _curve(report: Report) -> str:
    """Draws robust accuracy against strength, with its interval, the placebo, and chance."""
    rows = report.results
    if len(rows) < 2:
        return ""
    width, height, left, top = 640, 260, 44, 12
    step = (width - left - 12) / (len(rows) - 1)

    def at(k: int, value: float) -> str:
        return f"{left + k * step:.1f},{top + (1 - value) * (height - top - 40):.1f}"

    band = " ".join(
        [at(k, r.interval[1]) for k, r in enumerate(rows)]
        + [at(k, rows[k].interval[0]) for k in reversed(range(len(rows)))]
    )
    line = " ".join(at(k, r.robust) for k, r in enumerate(rows))
    placebo = " ".join(
        at(k, r.attacks.get("noise", r.robust if not k else 0)) for k, r in enumerate(rows)
        if not k or "noise" in r.attacks
    )  # fmt: skip
    ticks = "".join(
        f'<text x="{left + k * step:.0f}" y="{height - 18}" text-anchor="middle">{_text(r.text)}</text>'
        for k, r in enumerate(rows)
    )
    marks = "".join(
        f'<text x="{left - 6}" y="{float(at(0, v).split(",")[1]) + 4:.0f}" text-anchor="end">{percent(v)}</text>'
        for v in (0, 0.5, 1)
    )
    chance = at(0, report.chance), at(len(rows) - 1, report.chance)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Robust accuracy against attack strength">'
        f'<polygon points="{band}" fill="#3b5bdb" opacity="0.18"/>'
        f'<polyline points="{placebo}" fill="none" stroke="#868e96" stroke-dasharray="5 4" stroke-width="2"/>'
        f'<polyline points="{" ".join(chance)}" fill="none" stroke="#c92a2a" stroke-dasharray="2 4"/>'
        f'<polyline points="{line}" fill="none" stroke="#3b5bdb" stroke-width="2.5"/>{ticks}{marks}</svg>'
        "<p>Blue: robust accuracy with its 95 % interval. Grey, dashed: random noise of the same size, the placebo. "
        "Red, dotted: chance.</p>"
    )


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{_text(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<h2>{_text(title)}</h2><table><tr>{top}</tr>{body}</table>"


def _text(value: object) -> str:
    return escaping.escape(str(value))


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>TITLE</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
.verdict { border-left: 6px solid; padding: .6rem 1rem; font-size: 1.2rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem; border-bottom: 1px solid #8884; }
td { overflow-wrap: anywhere; }
figure { display: inline-block; margin: .4rem; } img { image-rendering: pixelated; }
figcaption { font-size: .8rem; } pre { overflow-x: auto; padding: .8rem; background: #8882; }
svg { width: 100%; max-width: 640px; font-size: 11px; } svg text { fill: currentColor; }
</style>
<h1>TITLE</h1>
BODY
</html>
"""
