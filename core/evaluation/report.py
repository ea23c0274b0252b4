"""An evaluation as one HTML file that needs nothing else: pictures, numbers, sentences, settings, versions, seeds."""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import numpy as np

from core import evaluation, jobs, runs, sheets
from core.catalog import UserError
from core.evaluation import Arrays, Evaluation, Measurement

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1d29; --ground: #ffffff; --soft: #f4f5f9; --line: #d9dce6; --dim: #5b6075;
  --real: #0a52b1; --made: #c2780a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8f0; --ground: #11131a; --soft: #1b1e29; --line: #323747;
  --dim: #a3a9bd; --real: #4fb6f6; --made: #f09316; } }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--ground); max-width: 60rem;
  margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .25rem; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; }
p { margin: .4rem 0; } .dim, td small, figcaption { color: var(--dim); } small, figcaption { font-size: .84rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .45rem .7rem .45rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; font-size: .84rem; color: var(--dim); } td.number { white-space: nowrap; }
td small { display: block; } figure { margin: .6rem 0; } img { image-rendering: pixelated; max-width: 100%;
  border-radius: 4px; display: block; }
.pairs { display: flex; flex-wrap: wrap; gap: .8rem; } .pairs figure { margin: 0; }
.box { background: var(--soft); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; }
.box p { margin: .25rem 0; } svg { width: 100%; max-width: 34rem; height: auto; display: block; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; overflow-x: auto;
  font-size: .8rem; } ul { padding-left: 1.2rem; }
"""
_ARROWS = {"lower": "lower is better", "higher": "higher is better", "": ""}


def html(found: Evaluation, title: str = "") -> bytes:
    """Writes the report of an evaluation.

    Args:
        found: What to report, also while it is still measured.
        title: Heading; the run's name when empty.

    Returns:
        One HTML file, UTF-8, with every picture inside; light or dark as its reader's system is.

    Raises:
        UserError: If a file of the evaluation is damaged.
    """
    run = jobs.get(found.run)
    heading = title or found.name
    arrays = found.arrays()
    body = [
        f"<h1>{escape(heading)}</h1>",
        f'<p class="dim">{escape(_subtitle(found))}</p>',
        '<div class="box">'
        + "".join(f"<p>{escape(text)}</p>" for text in evaluation.sentences(found))
        + "</div>",
        *([_samples(arrays)] if arrays else []),
        *([_section("Take note", _list(found.warnings))] if found.warnings else []),
        _section("The numbers", _numbers(found)),
        _copies(found, arrays),
        *([_section("Class by class", _classes(found))] if found.classes else []),
        *([_fails(found, arrays)] if arrays else []),
        *([_map(found, arrays)] if arrays else []),
        _settings(found, run),
    ]
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(heading)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )
    return page.encode()


def _subtitle(found: Evaluation) -> str:
    size, channels = found.conditions.get("size", "?"), found.conditions.get("channels", 1)
    kind = "colour" if channels == 3 else "grey"
    day = time.strftime("%d %B %Y", time.localtime(found.created))
    return (
        f"{found.family} trained on {found.dataset} ({size}×{size} px, {kind}), {found.images:,} images seen, "
        f"step {found.step}; measured on {day} with {found.conditions.get('n_samples', '?')} samples."
    )


def _section(title: str, inside: str) -> str:
    return f"<h2>{escape(title)}</h2>{inside}"


def _list(texts: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"


def _picture(x: np.ndarray, columns: int, alt: str, side: int = 64, note: str = "") -> str:
    """Puts images, uint8 (N, C, H, W), into the page as one PNG."""
    scale = max(1, round(side / x.shape[-1]))
    content = base64.b64encode(sheets.png(x, columns, gap=2, scale=scale)).decode()
    caption = f"<figcaption>{escape(note)}</figcaption>" if note else ""
    return (
        f'<figure><img alt="{escape(alt)}" src="data:image/png;base64,{content}">{caption}</figure>'
    )


def _samples(arrays: Arrays) -> str:
    count = min(36, len(arrays.made))
    text = f"The first {count} samples, unselected."
    return _picture(arrays.made[:count], 12, text, note=text)


def _value(value: float | None, m: Measurement) -> str:
    if value is None:
        return "–"
    return f"{value:.1%}" if m.entry.scale == "share" else f"{value:.4g}"


def _numbers(found: Evaluation) -> str:
    rows = []
    for group, title in evaluation.GROUPS.items():
        ours = [m for m in found.measurements if m.entry.group == group]
        if not ours:
            continue
        rows.append(f'<tr><th colspan="5">{escape(title)}</th></tr>')
        for m in ours:
            words = [m.entry.means, m.entry.doubt and f"Caution: {m.entry.doubt}", m.note]
            lines = "".join(f"<small>{escape(text)}</small>" for text in words if text)
            interval = "" if m.low is None else f"{_value(m.low, m)} to {_value(m.high, m)}"
            rows.append(
                f"<tr><td>{escape(m.title)}{lines}</td>"
                f'<td class="number">{_value(m.value, m)}<small>{_ARROWS[m.entry.direction]}</small></td>'
                f'<td class="number">{interval}</td><td class="number">{_value(m.floor, m)}</td>'
                f'<td class="number">{m.n or ""}</td></tr>'
            )
    head = "".join(
        f"<th>{text}</th>" for text in ("Metric", "Value", "95 % interval", "Real images", "n")
    )
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _copies(found: Evaluation, arrays: Arrays | None) -> str:
    verdict = evaluation.verdict(found)
    text = f"<p><strong>{escape(verdict.sentence)}</strong></p>"
    text += _list(test.sentence for test in verdict.tests)
    text += f'<p class="dim">{escape(verdict.believe)}</p>'
    if arrays is not None:
        first = arrays.suspects[:12]
        plain = [(arrays.near_pixels[i], "as it is", float(arrays.near_rank[i])) for i in first]
        hidden = evaluation.in_disguise(arrays, first) or plain
        pairs_of = [min(both, key=lambda one: one[2]) for both in zip(plain, hidden, strict=True)]
        try:
            near = evaluation.training_images(found, np.array([place for place, _, _ in pairs_of]))
        except UserError as error:
            return _section("Is it a copy?", text + f"<p>{escape(str(error))}</p>")
        pairs = np.stack([arrays.made[first], near], 1).reshape(-1, *near.shape[1:])
        note = "The twelve most suspicious samples (left of each pair) and the training image nearest to each."
        text += '<div class="pairs">'
        for place in range(len(first)):
            text += _picture(
                pairs[2 * place : 2 * place + 2],
                2,
                f"Sample {first[place]} and its nearest training image, {pairs_of[place][1]}",
                48,
                f"{pairs_of[place][1]}; as near: {pairs_of[place][2]:.0%} of unseen",
            )
        text += f'</div><p class="dim">{escape(note)} “As near” is the share of unseen real images that lie as near '
        text += "to the training set: a small share is suspicious.</p>"
    return _section("Is it a copy?", text)


def _classes(found: Evaluation) -> str:
    columns = {
        "class": "Class",
        "real_share": "Share, real",
        "made_share": "Share, samples",
        "precision": "Realism",
        "recall": "Variety",
        "coverage": "Coverage",
        "accuracy": "Right class",
    }
    head = "".join(f"<th>{text}</th>" for text in columns.values())
    rows = "".join(
        "<tr>"
        + "".join(f'<td class="number">{_share(row.get(key))}</td>' for key in columns)
        + "</tr>"
        for row in found.classes
    )
    return f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div>'


def _share(value: Any) -> str:
    if value is None:
        return "–"
    return escape(value) if isinstance(value, str) else f"{value:.0%}"


def _fails(found: Evaluation, arrays: Arrays) -> str:
    text = _picture(
        arrays.made[arrays.unreal[:24]],
        12,
        "The least real samples",
        note="The least real samples.",
    )
    try:
        real = evaluation.reference_images(found)[arrays.uncovered[:24]]
        note = "The real images that the model covers worst."
        text += _picture(real, 12, note, note=note)
    except UserError as error:
        text += f"<p>{escape(str(error))}</p>"
    return _section("Where it fails", text)


def _map(found: Evaluation, arrays: Arrays, most: int = 1200) -> str:
    way = "t-SNE"
    points = evaluation.projection(found, "tsne")
    if points is None:
        way, points = "principal components", evaluation.projection(found, "pca")
    assert points is not None
    split = len(arrays.made)
    parts = [part[np.isfinite(part).all(1)][:most] for part in (points[split:], points[:split])]
    both = np.concatenate(parts)
    if not len(both):
        return ""
    low, high = both.min(0), both.max(0)
    span = np.where(high > low, high - low, 1)
    dots = []
    for part, colour in zip(parts, ("real", "made"), strict=True):
        for x, y in (part - low) / span:
            dots.append(
                f'<circle cx="{6 + 588 * x:.1f}" cy="{394 - 388 * y:.1f}" r="2" fill="var(--{colour})"/>'
            )
    drawing = (
        '<svg viewBox="0 0 600 400" role="img" aria-label="Map of real images and samples" fill-opacity=".6">'
        + "".join(dots)
        + "</svg>"
    )
    note = (
        f'<p class="dim">Images that look alike lie together ({way}). <span style="color:var(--real)">●</span> real, '
        '<span style="color:var(--made)">●</span> samples. Where only one colour lies, the model misses a kind of '
        "picture, or makes one that is not real.</p>"
    )
    return _section("The map", drawing + note)


def _settings(found: Evaluation, run: jobs.Job) -> str:
    facts: dict[str, Any] = {
        "run": found.run,
        "evaluation": found.job,
        "evaluated under": dict(found.conditions),
        "evaluated with": dict(found.versions),
    }
    try:
        facts["trained with"] = runs.record(run)
    except UserError as error:
        facts["trained with"] = str(error)
    told = json.dumps(_short(facts), indent=2, ensure_ascii=False)
    return _section("Settings, versions, seeds", f"<pre>{escape(told)}</pre>")


def _short(value: Any) -> Any:
    """Rounds numbers for a reader, and says what is not one."""
    if isinstance(value, Mapping):
        return {str(key): _short(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_short(one) for one in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else str(value)
    return value
