"""The Train page: the form, the run that is shown, what can be done with it, and the table of all runs."""

from __future__ import annotations

import json
import shutil
import time

import pytest

from core import jobs, kinds, runs
from core.ground import files
from core.kinds import train
from core.models import families
from pages.parts import shell

LONG = {"train.images": 5000}


def run_of(trained, name):
    return jobs.get(trained.runs[name])


# --- Starting -----------------------------------------------------------------------------------


def test_start_submits_the_defaults(visit, spawned, asked):
    seen = visit("train").press("train.start").calm()
    job = asked(spawned[0])
    assert job["kind"] == "train"
    assert job["config"] == kinds.configure(
        "train", {"dataset": "digits", "family": seen.widget("train.what").value}
    )
    assert seen.at.session_state["run"] == spawned[0]
    assert "Stop" in seen.widget("train.stop").label


def test_start_submits_exactly_what_was_changed(visit, spawned, asked):
    seen = visit("train").set(train__what="gan")
    seen.set(
        train__train__images=1234, train__train__seed=0, train__train__warmup=0, train__train__clip=0.0, train__train__schedule="constant",
        train__gan__conditional=False, train__gan__latent_dim=3, train__gan__penalty_end=0.0, train__gan__loss="minimax",
        data__digits__valid_share=0.2, train__name="  My   name ",
    )  # fmt: skip
    seen.press("train.start").calm()
    job = asked(spawned[0])
    assert job["name"] == "My name"
    assert job["config"] == kinds.configure(
        "train", {"dataset": "digits", "family": "gan"},
        {
            "train.images": 1234, "train.seed": 0, "train.warmup": 0, "train.clip": 0.0, "train.schedule": "constant",
            "family.conditional": False, "family.latent_dim": 3, "family.penalty_end": 0.0, "family.loss": "minimax",
            "dataset.valid_share": 0.2,
        },
    )  # fmt: skip
    assert job["config"]["family"]["config"]["conditional"] is False


def test_a_classifier_may_learn_from_the_images_of_a_run_as_well(
    visit, gallery, trained, asked, spawned
):
    seen = visit("train").set(train__what="classifier")
    choice = seen.widget("train.extra.made_by")
    assert choice.value == ""
    shown = " ".join(choice.options)
    assert "Digits, GAN" in shown, shown
    assert "Digits, VAE" not in shown  # it has not learned the classes
    assert not seen.all("train.extra.made_images")
    seen.set(train__extra__made_by="shipped-digits-gan")
    seen.set(train__extra__made_images=300)
    command = next(code.value for code in seen.at.code if code.language == "bash")
    assert "--set extra.made_by=shipped-digits-gan --set extra.made_images=300" in command
    seen.press("train.start").calm()
    extra = asked(spawned[-1])["config"]["extra"]
    assert extra == {"made_by": "shipped-digits-gan", "made_images": 300}


def test_the_classifier_is_a_choice(visit, spawned, asked):
    seen = visit("train").set(train__what="classifier")
    seen.set(train__classifier__width=8, train__train__images=2000).press("train.start").calm()
    job = asked(spawned[0])
    assert job["kind"] == "classifier"
    assert job["config"]["classifier"]["width"] == 8
    assert job["config"]["train"]["images"] == 2000
    assert "family" not in job["config"]


def test_the_dataset_comes_from_the_sidebar(visit, trained, spawned, asked):
    visit("train", data="plain").press("train.start").calm()
    assert asked(spawned[0])["config"]["dataset"] == {"name": "plain", "config": {}}


def test_the_values_stay_while_the_visitor_looks_elsewhere(visit):
    seen = visit("train").set(train__train__images=4321, train__what="vae")
    seen.set(train__vae__conditional=True)
    seen.open("data").open("train")
    assert seen.widget("train.what").value == "vae"
    assert seen.widget("train.train.images").value == 4321
    assert seen.widget("train.vae.conditional").value is True


def test_presets_fill_and_can_be_taken_back(visit, spawned, asked):
    gan = families.get("gan")
    seen = visit("train").set(train__what="gan", train__train__images=777)
    for name, values in gan.presets.items():
        seen.set(train__preset=name).calm()
        for dotted, value in values.items():
            part, _, field = dotted.partition(".")
            assert (
                seen.widget(f"train.{'gan' if part == 'family' else part}.{field}").value == value
            ), (name, dotted)
    seen.press("train.start").calm()
    assert asked(spawned[0])["config"] == kinds.configure(
        "train", {"dataset": "digits", "family": "gan"}, gan.presets[name]
    )
    seen.set(train__preset=None)
    for field, parameter in gan.config.knobs().items():
        assert seen.widget(f"train.gan.{field}").value == parameter.default


def test_settings_as_a_command_line(visit):
    seen = visit("train").set(train__what="vae")
    assert seen.texts("code") == "python -m core train --dataset digits --family vae"
    seen.set(train__vae__beta=2.0, train__train__schedule="constant", train__vae__conditional=True)
    words = seen.texts("code")
    assert "--set family.beta=2.0" in words
    assert "--set train.schedule=constant" in words
    assert "--set family.conditional=True" in words
    assert words.count("--set") == 3


def test_the_command_line_asks_for_the_same(visit, spawned, asked):
    """What is copied from the page and typed in a terminal gives the same job."""
    import shlex

    from core.catalog import parse

    seen = visit("train").set(train__what="gan")
    seen.set(train__preset="classic").set(train__train__images=4000, train__gan__penalty=0.0)
    words = shlex.split(seen.texts("code"))
    given = parse(words[i + 1] for i, word in enumerate(words) if word == "--set")
    seen.press("train.start")
    assert asked(spawned[0])["config"] == kinds.configure(
        "train", {"dataset": "digits", "family": "gan"}, given
    )


def test_a_refusal_is_a_sentence_and_loses_nothing(visit, spawned, setting):
    setting(max_images=1000)
    seen = visit("train").set(train__train__images=5000)
    (words,) = seen.press("train.start").errors
    assert "at most 1000" in words
    assert seen.widget("train.train.images").value == 5000
    assert spawned == []
    assert not seen.run().errors


@pytest.mark.parametrize("name", ["gan", "vae", "classifier"])
def test_use_its_settings_round_trips(visit, trained, spawned, asked, name):
    seen = visit("train", run=trained.runs[name], data="faces")
    seen.press("train.clone").calm()
    assert seen.widget("data").value == "digits"
    seen.press("train.start").calm()
    assert asked(spawned[0])["config"] == asked(trained.runs[name])["config"]


def test_use_the_settings_of_a_run_whose_dataset_is_gone(visit, trained):
    from core import datasets

    datasets.delete("plain")
    seen = visit("train", run=trained.runs["plain"]).press("train.clone")
    assert not seen.at.exception
    assert seen.widget("data").value == "digits"
    assert "plain" in seen.texts("toast")


# --- The run that is shown ----------------------------------------------------------------------


def test_the_chosen_run_is_shown(visit, trained):
    seen = visit("train", run=trained.runs["vae"])
    assert "**Tiny vae** · vae on digits · finished" in seen.texts("markdown")
    assert "**320** of 320 images" in seen.texts("markdown")
    assert len(seen.pictures(f"train.film.{trained.runs['vae']}")["frames"]) >= 3
    assert seen.at.get("plotly_chart")
    seen.set(run=trained.runs["gan"])
    assert "**Tiny gan**" in seen.texts("markdown")
    assert not seen.shown(f"train.film.{trained.runs['vae']}")


def test_a_classifier_tells_its_accuracy_and_n(visit, trained):
    seen = visit("train", run=trained.runs["classifier"])
    assert "accuracy on the test split" in seen.texts("markdown")
    assert "(n = " in seen.texts("markdown")
    assert not seen.at.get("page_link") or "learned" not in " ".join(
        link.label for link in seen.at.main.get("page_link")
    )


def test_more_curves_on_request(visit, trained):
    seen = visit("train", run=trained.runs["gan"])
    few = len(seen.at.get("plotly_chart"))
    seen.at.session_state["train.all"] = True
    seen.run()
    titles = [
        json.loads(chart.proto.spec)["layout"]["title"]["text"]
        for chart in seen.at.get("plotly_chart")
    ]
    assert len(titles) == len(set(titles)) > few
    assert "Speed" in titles


def test_what_controllers_did_is_on_the_page(visit, trained):
    run = run_of(trained, "gan")
    note = "The critic loss is nan at step 5: went back to step 5."
    record = {"step": 5, "images": 320, "augmentation": 0.2, "overfitting": 0.6, "warning": note}
    with (run.path / "log.jsonl").open("a") as log:
        log.write(json.dumps(record) + "\n")
    seen = visit("train", run=run.id)
    seen.at.session_state["train.all"] = True
    seen.run().calm()
    (chart,) = [
        layout
        for each in seen.at.get("plotly_chart")
        if "critic's input" in (layout := json.loads(each.proto.spec)["layout"])["title"]["text"]
    ]
    assert [line["x0"] for line in chart["shapes"]] == [320]
    assert note in seen.texts("caption")
    assert "went back here, at 320 images" in seen.texts("caption")


def test_a_queued_run_without_a_checkpoint(visit, trained):
    job = kinds.submit("train", {"dataset": "digits", "family": "vae"}, LONG, name="Early one")
    seen = visit("train", run=job.id).calm()
    assert "**Early one**" in seen.texts("markdown")
    assert "first images appear within seconds" in seen.texts("caption")
    assert not seen.all("train.resume")
    assert seen.widget("train.delete").disabled


def test_the_panel_follows_from_queued_to_finished(visit, trained):
    source = run_of(trained, "gan")
    job = kinds.submit("train", {"dataset": "digits", "family": "gan"}, LONG, name="Busy")
    seen = visit("train", run=job.id)
    jobs.set_state(job.path, message="Starting")
    shutil.copytree(source.path / "samples", job.path / "samples")
    shutil.copyfile(source.path / "log.jsonl", job.path / "log.jsonl")
    seen.again("live")
    assert seen.shown(f"train.film.{job.id}")
    assert "**320** of 5,000 images" in seen.texts("markdown")
    jobs.set_state(job.path, status="finished")
    seen.again("live")
    assert "· finished" in seen.texts("markdown")  # the whole page ran again
    assert not seen.all("train.stop")


def test_a_run_that_is_deleted_while_it_is_watched_is_no_bug(visit, trained):
    job = kinds.submit("train", {"dataset": "digits", "family": "gan"}, LONG)
    seen = visit("train", run=job.id)
    shutil.rmtree(job.path)
    seen.again("live")
    assert all("your fault" not in words for words in seen.errors)
    seen.run().calm()
    assert seen.widget("run").value in trained.runs.values()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("failed", "error"),
        ("stopped", "warning"),
        ("interrupted", "warning"),
        ("queued", "warning"),
    ],
)
def test_why_a_run_ended_is_said_and_it_can_be_resumed(visit, trained, spawned, status, kind):
    run = run_of(trained, "vae")
    if status == "interrupted":  # it says that it runs, and nobody holds it
        jobs.set_state(run.path, status="running")
        words = "Its process ended without a word"
    elif status == "queued":  # it never began, a minute after it was asked for
        state, then = files.read_json(run.path / "state.json"), time.time() - 60
        files.write_json(
            run.path / "state.json", state | {"status": "queued", "since": then, "queued": then}
        )
        (run.path / "worker.log").write_text("Traceback\nImportError: no module 'x'\n")
        words, status = (
            "Its process ended before the work began: ImportError: no module 'x'. More",
            "interrupted",
        )
    else:
        words = "The loss is nan at step 3. Lower train.lr."
        pace = {"done": 100, "total": 400, "begun": 0, "started": 1000.0, "told": 1030.0}
        jobs.set_state(run.path, status=status, message=words, **pace)
    seen = visit("train", run=run.id)
    assert words in seen.texts(kind)
    if status in ("failed", "stopped"):
        assert seen.widget("train.resume").label == "Resume, 1 min 30 s"
    assert f"· {status}" in seen.texts("markdown")
    seen.press("train.resume").calm()
    assert spawned == [run.id]
    assert files.read_json(run.path / "state.json")["status"] == "queued"
    assert seen.all("train.stop")


def test_stop_asks_the_job_to_stop(visit, trained):
    job = kinds.submit("train", {"dataset": "digits", "family": "gan"}, LONG)
    seen = visit("train", run=job.id).press("train.stop").calm()
    assert (job.path / "STOP").exists()
    assert seen.widget("train.stop").disabled
    assert "Stopping" in seen.widget("train.stop").label


def test_damaged_log_lines_are_counted(visit, trained):
    file = run_of(trained, "gan").path / "log.jsonl"
    file.write_text(file.read_text() + '{"step": 99, "los\n\x00\x01\n')
    seen = visit("train", run=trained.runs["gan"]).calm()
    assert "2 damaged line(s)" in seen.texts("caption")


def test_a_run_with_a_damaged_folder_does_not_hide_the_others(visit, trained):
    (run_of(trained, "plain").path / "job.json").write_text("{")
    seen = visit("train").calm()
    assert len(seen.widget("run").options) == 3


# --- What can be done with a run ----------------------------------------------------------------


def test_delete_asks_first(visit, trained):
    seen = visit("train", run=trained.runs["plain"]).press("train.delete").calm()
    assert "for good" in seen.texts("markdown")
    assert (trained.home / "jobs" / trained.runs["plain"]).exists()
    seen.run()
    assert not seen.all("train.delete.yes")
    assert (trained.home / "jobs" / trained.runs["plain"]).exists()
    seen.press("train.delete").press("train.delete.yes", "train.delete").calm()
    assert not (trained.home / "jobs" / trained.runs["plain"]).exists()
    assert len(runs.listing()) == 3
    assert seen.widget("run").value != trained.runs["plain"]


def test_rename_and_note(visit, trained, asked):
    id = trained.runs["gan"]
    seen = visit("train", run=id).press("train.describe").calm()
    assert seen.widget("train.describe.name").value == "Tiny gan"
    seen.widget("train.describe.name").set_value("A better name")
    seen.widget("train.describe.note").set_value("It learned.")
    seen.press("train.describe", "train.describe.save").calm()
    assert (asked(id)["name"], asked(id)["note"]) == ("A better name", "It learned.")
    assert "**A better name**" in seen.texts("markdown")
    assert "It learned." in seen.texts("caption")


def test_an_empty_name_is_refused(visit, trained, asked):
    seen = visit("train", run=trained.runs["gan"]).press("train.describe")
    seen.widget("train.describe.name").set_value("   ")
    seen.press("train.describe", "train.describe.save")
    assert "needs at least one visible character" in seen.texts("error")
    assert asked(trained.runs["gan"])["name"] == "Tiny gan"


def test_names_with_markup_are_shown_as_names(visit, trained):
    jobs.describe(trained.runs["gan"], name="<script>alert(1)</script>")
    seen = visit("train", run=trained.runs["gan"]).calm()
    assert "<script>alert(1)</script>" in seen.texts("markdown")
    assert not any(node.proto.allow_html for node in seen.at.markdown)


# --- All runs -----------------------------------------------------------------------------------


def rows(seen):
    return list(seen.at.dataframe[0].value["name"])


def test_search_in_the_table(visit, trained):
    seen = visit("train")
    assert rows(seen) == ["Tiny gan", "Tiny vae", "Tiny plain", "Tiny classifier"]
    assert rows(seen.set(train__search="vae")) == ["Tiny vae"]
    assert rows(seen.set(train__search="GAN digits")) == ["Tiny gan"]
    assert rows(seen.set(train__search="finished plain")) == ["Tiny plain"]
    assert rows(seen.set(train__search="unicorn")) == []
    assert "0 of 4 runs" in seen.texts("caption")
    jobs.describe(trained.runs["vae"], note="the one with unicorns")
    assert rows(seen.run()) == ["Tiny vae"]


def test_the_table_says_how_good_and_how_fast(visit, trained):
    look = {"step": 5, "images": 320, "distance_floor": 0.5, "copying_high": 0.7}
    looks = (
        {"distance": 1.0, "copying": 0.55, "copying_low": 0.5},
        {"distance": 0.6, "copying": 0.9, "copying_low": 0.8},  # nearer, but it copies
    )
    with (run_of(trained, "gan").path / "log.jsonl").open("a") as log:
        log.writelines(json.dumps(look | each) + "\n" for each in looks)
    table = visit("train").at.dataframe[0].value
    gan = table[table["name"] == "Tiny gan"].iloc[0]
    assert (gan["distance"], gan["copying"], gan["classes"]) == (2.0, 0.55, 10)
    assert gan["images/s"] > 0


def test_leaderboards_on_request(visit, evaluated):
    seen = visit("train")
    tables = len(seen.at.dataframe)
    seen.at.session_state["train.boards"] = True
    seen.run().calm()
    board = seen.at.dataframe[tables].value
    assert sorted(board["model"]) == ["Tiny gan", "Tiny vae"]
    assert list(board["rank"]) == [1, 2]
    assert "None is attacked yet." in seen.texts("caption")


def test_the_time_stands_before_the_start(visit, gallery, setting, monkeypatch):
    import torch  # before that, no page waits for it  # noqa: F401

    monkeypatch.setattr(train, "pace", lambda kind, chosen, values: 1000.0)
    said = visit("train").texts("caption")
    assert (
        "It takes **about 3 min 20 s** by some steps of it on this computer" in said
    )  # 200 000 images
    setting(view_only=1)  # a visitor who cannot start it costs the server nothing
    said = visit("train").texts("caption")
    assert "It takes **about 2 min" in said and "trained on another computer" in said


def tick(seen, *rows):
    from streamlit.proto.WidgetStates_pb2 import WidgetState

    states = seen.at._tree.get_widget_states()
    value = json.dumps({"selection": {"rows": list(rows), "columns": [], "cells": []}})
    states.widgets.append(WidgetState(id=seen.at.dataframe[0].proto.id, string_value=value))
    seen.at._run(states)
    assert not seen.at.exception
    return seen


def test_compare_up_to_four_side_by_side(visit, trained):
    seen = tick(visit("train"), 0, 1)
    assert seen.shown(f"train.compare.{trained.runs['gan']}")
    assert seen.shown(f"train.compare.{trained.runs['vae']}")
    names = [
        line["name"]
        for chart in seen.at.get("plotly_chart")
        for line in json.loads(chart.proto.spec)["data"]
    ]
    assert any(name.startswith(f"Tiny vae ({trained.runs['vae'][-4:]}): ") for name in names)
    assert seen.widget("train.open").disabled


def test_five_ticked_runs_are_four_and_a_warning(visit, trained):
    kinds.submit("train", {"dataset": "digits", "family": "gan"}, LONG, name="Fifth")
    seen = tick(visit("train"), 0, 1, 2, 3, 4)
    assert "Up to four" in seen.texts("warning")


def test_a_row_that_is_not_there_is_ignored(visit, trained):
    tick(visit("train"), 0, 99).calm()


# --- View only ----------------------------------------------------------------------------------

BUTTONS = ["train.start", "train.describe", "train.delete"]


def test_view_only_disables_every_button_that_changes_something(visit, trained, setting):
    stopped, busy = (
        run_of(trained, "vae"),
        kinds.submit("train", {"dataset": "digits", "family": "gan"}, LONG),
    )
    jobs.set_state(stopped.path, status="stopped")
    setting(view_only=1)
    seen = visit("train", run=stopped.id)
    for key in [*BUTTONS, "train.resume"]:
        assert seen.widget(key).disabled, key
    assert seen.set(run=busy.id).widget("train.stop").disabled
    assert not seen.widget("train.clone").disabled  # looks only


def test_view_only_refuses_a_press_on_a_page_drawn_before(visit, trained, setting, spawned):
    stopped = run_of(trained, "vae")
    jobs.set_state(stopped.path, status="stopped")
    busy = kinds.submit("train", {"dataset": "digits", "family": "gan"}, LONG)
    spawned.clear()
    for key, run in [("train.start", stopped), ("train.resume", stopped), ("train.stop", busy)]:
        seen = visit("train", run=run.id)
        setting(view_only=1)
        (words,) = seen.press(key).errors
        assert words.startswith("This server is for viewing only"), key
        setting(view_only=0)
    assert spawned == []
    assert not (busy.path / "STOP").exists()
    assert len(jobs.listing()) == 5
    assert jobs.get(stopped.id).status == "stopped"


def test_view_only_takes_no_forged_press(visit, trained, setting, spawned, asked):
    setting(view_only=1)
    id = trained.runs["gan"]
    for key in BUTTONS:
        visit("train", run=id).force(key)
    assert spawned == []
    assert len(runs.listing()) == 4
    assert asked(id)["name"] == "Tiny gan"


def test_view_only_refuses_what_a_dialog_opened_before_it_asks_for(visit, trained, setting, asked):
    """The dialog is open, the owner switches to view-only, the visitor presses: the dialog alone runs again."""
    id = trained.runs["plain"]
    for opener, presses, name in [
        ("train.delete", "train.delete.yes", "delete"),
        ("train.describe", "train.describe.save", "describe"),
    ]:
        seen = visit("train", run=id).press(opener)
        setting(view_only=1)
        seen.widget(presses).click()
        seen.again(name)
        assert "This server is for viewing only" in seen.texts("error")
        setting(view_only=0)
    assert asked(id)["name"] == "Tiny plain"


def test_status_words_have_icons():
    assert set(shell.STATUS_ICONS) == set(jobs.STATUSES)


def test_a_shipped_run_is_shown_and_cloned_but_not_changed(visit, gallery, spawned, asked):
    seen = visit("train", run="shipped-digits-vae").calm()
    assert "ships with Simulacra, for looking only" in seen.texts("markdown")
    assert seen.shown("train.film.shipped-digits-vae")
    assert not {"train.describe", "train.delete", "train.stop", "train.resume"} & seen.keys()
    seen.press("train.clone").press("train.start").calm()
    (id,) = spawned
    assert asked(id)["config"]["family"]["name"] == "vae"
    assert asked(id)["config"]["train"]["images"] == 400_000


def test_a_finished_run_trains_longer(visit, trained, spawned):
    id = trained.runs["vae"]
    seen = visit("train", run=id).calm()
    seen.set(**{f"train__longer__images__{id}": 640}).press("train.longer").calm()
    assert spawned == [id]
    assert jobs.get(id).config["train"]["images"] == 640


def test_longer_means_more_than_it_has_seen(visit, trained, spawned):
    id = trained.runs["vae"]
    seen = visit("train", run=id).set(**{f"train__longer__images__{id}": 100})
    (words,) = seen.press("train.longer").errors
    assert words.startswith("Tiny vae has seen 320 images already")
    assert spawned == []


def test_a_run_starts_from_the_weights_of_another(visit, trained, spawned, asked):
    id = trained.runs["vae"]
    seen = visit("train", run=id).press("train.further").press("train.further", "train.from")
    seen.press("train.start").calm()
    (new,) = spawned
    config = asked(new)["config"]
    assert config["train"]["parent"].startswith(f"{id}@")
    assert config["family"] == jobs.get(id).config["family"]


def test_a_shipped_run_can_be_started_from_but_not_extended(visit, gallery, spawned, asked):
    seen = visit("train", run="shipped-digits-vae").calm()
    assert "train.longer" not in seen.keys()
    seen.press("train.further").press("train.further", "train.from").press("train.start").calm()
    assert asked(spawned[0])["config"]["train"]["parent"].startswith("shipped-digits-vae@")


def test_where_a_run_comes_from_and_what_it_took_is_said(visit, trained):
    run = jobs.get(trained.runs["vae"])
    facts = files.read_json(run.path / "run.json")
    parent = {"run": "x", "name": "Elder", "step": 7, "changed": {"train.seed": [0, 1]}}
    files.write_json(run.path / "run.json", facts | {"parent": parent})
    jobs.set_state(run.path, peak_mb=1234, peak_gpu_mb=567, message="Ended early: enough.")
    files.Log(run.path).append(
        {"step": 5, "images": 320, "distance": 0.3, "distance_floor": 0.2}
        | {"copying": 0.55, "copying_low": 0.5, "copying_high": 0.6}
    )
    seen = visit("train", run=run.id).calm()
    assert "Started from Elder at step 7, with train.seed from 0 to 1." in seen.texts("caption")
    words = seen.texts("markdown")
    assert "at most **1,234 MB** of memory · at most **567 MB** of memory of the GPU" in words
    assert "Distance to held-out images **1.50 ×** that of real ones · copying **0.55**" in words
    assert "Ended early: enough." in seen.texts("info")


def test_a_longer_run_is_told_what_becomes_of_its_learning_rate(visit, trained, spawned):
    id = trained.runs["vae"]
    seen = visit("train", run=id).set(**{f"train__longer__images__{id}": 640})
    assert "The learning rate" not in seen.texts()
    seen.at.session_state["train.longer.open"] = True
    assert train.lengthened(id, 640) in seen.run().texts()
    assert spawned == []
