"""Pictures and curves: what reaches the browser, and how much of it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core import jobs, runs, training
from core.ground import files
from core.kinds.train import curves
from core.measure.learning import QUALITY
from core.models import families
from pages.parts import show

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0"), (950, "950"), (12_800, "12.8k"), (1_200_000, "1.2M"), (3e9, "3G")],
)
def test_counts_are_short(number, words):
    assert show.short(number) == words


def film_page():
    import streamlit as st

    from core import jobs
    from pages.parts import show

    for number, job in enumerate(jobs.listing()):
        st.code(str(show.film(job, key=f"film.{number}", **st.session_state.get("options", {}))))


def films(**options):
    from streamlit.testing.v1 import AppTest

    at = AppTest.from_function(film_page, default_timeout=120)
    if options:
        at.session_state["options"] = options
    at.run()
    assert not at.exception, at.exception
    return [code.value for code in at.code], [
        json.loads(node.proto.json)[0] for node in at.get("bidi_component")
    ]


def test_a_film_is_the_sheets_of_the_run_as_they_rest_on_the_disk(trained):
    import base64

    told, shown = films()
    assert told == ["True", "True", "True", "False"]  # the classifier makes none
    run = jobs.get(trained.runs["gan"])
    files = [file for _, file in runs.samples(run)]
    assert [base64.b64decode(frame.partition(",")[2]) for frame in shown[0]["frames"]] == [
        file.read_bytes() for file in files
    ]
    assert shown[0]["labels"] == [f"{step * 64} images" for step, _ in runs.samples(run)]
    assert "Tiny gan" in shown[0]["alt"]


def test_a_heavy_film_shows_fewer_moments_and_always_the_last(trained):
    run = jobs.get(trained.runs["gan"])
    found = runs.samples(run)
    assert len(found) >= 4
    size = sum(file.stat().st_size for _, file in found)
    _, shown = films(budget=size // 2)
    assert 2 <= len(shown[0]["frames"]) < len(found)
    assert shown[0]["labels"][-1] == "320 images"
    _, shown = films(budget=1)
    assert len(shown[0]["frames"]) == 2


def test_every_record_of_a_run_has_a_curve(trained):
    """Each number that training reports is drawn somewhere; only where the training is, is not."""
    beside = {"step", "images", "seconds", "test_accuracy", "n_test", "warning"}
    for id in trained.runs.values():
        run = jobs.get(id)
        records, damaged = files.Log(run.path).read()
        assert damaged == 0
        found = show.charts(curves(run), {"run": records})
        drawn = {name for chart in found for name in chart.lines}
        assert {name for record in records for name in record} - beside <= drawn
        assert "As the family reports it." not in {chart.reading for chart in found}


def test_the_logs_of_shipped_runs_have_all_their_charts(gallery):
    """They were written before a curve was declared anywhere."""
    titles = {}
    for run in runs.listing():
        records, _ = files.Log(run.path).read()
        found = show.charts(curves(run), {"run": records})
        drawn = {name for chart in found for name in chart.lines}
        for record in records:
            beside = {"step", "seconds", "images", "test_accuracy", "n_test"}
            assert {n for n in record if not n.startswith("copying_")} - beside <= drawn
        assert "As the family reports it." not in {chart.reading for chart in found}
        titles[run.id] = {chart.title: list(chart.lines.values()) for chart in found}
    assert titles["shipped-digits-vqvae"]["Gradient norm"] == ["autoencoder", "prior"]
    assert titles["shipped-digits-flow"]["Held-out less training (bits)"] == ["gap"]
    assert len(titles["shipped-digits-robust"]["Accuracy"]) == 3


def test_values_that_nobody_declared_are_drawn_under_their_own_names():
    records = [
        {"images": 64, "grad_norm/autoencoder": 1.0, "lr": 1.0, "my_own_part": 2.0, "step": 1},
        {
            "images": 128,
            "grad_norm/prior": 3.0,
            "copying": 0.5,
            "copying_low": 0.1,
            "warning": "N.",
        },
        {"images": 192, "my_own_part": 1.0, "copying": 0.5, "copying_low": 0.2, "once": 1.0},
    ]
    found = {
        chart.title: chart.lines
        for chart in show.charts([*training.CURVES, *QUALITY], {"run": records})
    }
    assert found["Gradient norm"] == {
        "grad_norm/autoencoder": "autoencoder",
        "grad_norm/prior": "prior",
    }
    assert found["My own part"] == {"my_own_part": "my_own_part"}
    assert found.keys() == {"Gradient norm", "Learning rate", "Copying", "My own part"}


def test_curves_of_several_families_share_a_chart_by_its_title():
    of = {"a": [{"images": 1, "loss": 1.0}], "b": [{"images": 1, "critic_loss": 1.0}]}
    both = [*families.get("vae").curves, *families.get("gan").curves, *families.get("vae").curves]
    (chart,) = show.charts(both, of)
    assert chart.lines == {"loss": "training", "critic_loss": "critic"}
    words = chart.reading.lower()
    assert words.count("nats") == 1 and "each side" in words


def curve_page():
    import streamlit as st

    from core.models import families
    from pages.parts import show

    one = [{"images": 64 * step, "loss": 1 / step, "valid_loss": 2 / step} for step in range(1, 5)]
    of = {"a": one} if not st.session_state.get("two") else {"a": one, "b": one}
    show.curves(
        of,
        show.charts(families.get("vae").curves, of),
        key="curves",
        marks=st.session_state.get("marks", ()),
    )


def charts(**state):
    from streamlit.testing.v1 import AppTest

    at = AppTest.from_function(curve_page, default_timeout=120)
    for name, value in state.items():
        at.session_state[name] = value
    at.run()
    assert not at.exception, at.exception
    return [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]


def test_one_run_tells_values_apart_by_colour():
    (chart,) = charts()
    assert [line["name"] for line in chart["data"]] == ["training", "held-out"]
    assert len({line["line"]["color"] for line in chart["data"]}) == 2


def test_a_mark_is_a_line_that_says_its_words():
    (plain,), (marked,) = charts(), charts(marks=[(128, "went back here")])
    assert "shapes" not in plain["layout"]
    assert [line["x0"] for line in marked["layout"]["shapes"]] == [128]
    assert [note["hovertext"] for note in marked["layout"]["annotations"]] == ["went back here"]


def test_two_runs_are_told_apart_by_colour_and_values_by_dash():
    (chart,) = charts(two=True)
    lines = {line["name"]: line["line"] for line in chart["data"]}
    assert set(lines) == {"a: training", "a: held-out", "b: training", "b: held-out"}
    assert (
        lines["a: training"]["color"]
        == lines["a: held-out"]["color"]
        != lines["b: training"]["color"]
    )
    assert (
        lines["a: training"]["dash"] == lines["b: training"]["dash"] != lines["a: held-out"]["dash"]
    )


@pytest.mark.parametrize(
    ("values", "reads"),
    [([0.05, 3.0, 20.0], ["0.1", "1", "10"]), ([1.2, 4.0], ["1", "2", "5"]), ([0.0, -1.0], [])],
)
def test_a_log_axis_reads_whole_numbers(monkeypatch, values, reads):
    import plotly.graph_objects as go

    monkeypatch.setattr(show.st, "plotly_chart", lambda figure, **options: figure)
    figure = go.Figure(
        go.Scatter(x=values, y=values), {"yaxis": {"type": "log", "tickfont": {"size": 9}}}
    )
    axis = show.plot(figure, key="k", alt="a").layout.yaxis
    assert list(axis.ticktext) == reads
    assert (axis.tickfont.size, axis.automargin) == (9, True)  # what a figure says itself stays


def test_no_picture_is_a_sentence():
    import numpy as np
    from streamlit.testing.v1 import AppTest

    def empty():
        import numpy as np

        from pages.parts import show

        show.pictures(np.zeros((0, 1, 8, 8), np.uint8), columns=4, alt="none", key="none")

    at = AppTest.from_function(empty, default_timeout=120).run()
    assert not at.exception
    assert "No image fits this choice." in [node.value for node in at.markdown]
    assert np is not None


# --- The palette --------------------------------------------------------------------------------

# what protanopia, deuteranopia and tritanopia leave of linear red, green and blue (Machado, Oliveira and Fernandes, 2009)
SIGHTS = [
    np.eye(3),
    [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
]
XYZ = np.array([[0.4339, 0.3762, 0.1899], [0.2127, 0.7152, 0.0722], [0.0178, 0.1095, 0.8727]])


def seen(colours: list[str], sight: Any) -> Any:
    """Turns colours into CIE 1976 L*a*b*, (N, 3), as somebody with this sight sees them."""
    rgb = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in colours]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ np.array(sight).T, 0, 1) @ XYZ.T
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_ten_classes_are_told_apart_by_colour_in_both_themes_and_by_every_sight(theme):
    here = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["theme"][theme]
    colours = here["chartCategoricalColors"]
    assert len(colours) == 10
    for sight in SIGHTS:
        lab = seen([*colours, here["backgroundColor"]], sight)
        away = np.linalg.norm(lab[:, None] - lab, axis=2)[np.triu_indices(11, 1)]
        assert away.min() >= 19


def test_words_in_a_table_are_guarded_for_its_own_csv_and_nothing_else_is():
    import pandas as pd

    frame = pd.DataFrame({"name": ["=cmd()", "owl"], "=x": [-1, 2], "effect": ["+1.0 [0, 2]", "-"]})
    made = show.named(frame, "name", "not there")
    assert list(made.columns) == ["name", "'=x", "effect"]
    assert made["name"].tolist() == ["'=cmd()", "owl"]
    assert made["'=x"].tolist() == [-1, 2]
    assert made["effect"].tolist() == ["+1.0 [0, 2]", "-"]
    assert frame["name"].tolist() == ["=cmd()", "owl"]
