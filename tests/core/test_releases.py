"""A release against the one before it: what is compared, what decides, what is refused, what pipelines read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from core import datasets, jobs, worker
from core.__main__ import main
from core.catalog import UserError
from core.ground import files, stats
from core.robustness import (
    AttackStudy,
    Report,
    StudyConfig,
    classifiers,
    images_of,
    releases,
    store,
)
from core.robustness.store import Attacked

EPS = "26/255"
REPORTS: dict[str, Report] = {}  # of the classifiers that ship, made once


@pytest.fixture
def digits():
    return datasets.load("digits")


@pytest.fixture
def report_of(digits, gallery):
    """Gives the report of 60 images of a classifier that ships."""

    def give(id: str) -> Report:
        if id not in REPORTS:
            config = StudyConfig.of({"eps": EPS, "n": 60, "attacks": "fgsm"})
            x, y, indices, data = images_of(digits, config)
            target = classifiers.target_of(f"shipped-digits-{id}", digits)
            *_, REPORTS[id] = AttackStudy(target, x, y, config, indices=indices, data=data)
        return REPORTS[id]

    return give


def test_the_same_images_decide_and_classes_are_corrected(report_of):
    plain, robust = report_of("classifier"), report_of("robust")
    release = releases.against(robust, plain)
    eps = robust.headline + 1e-6
    pairs = [
        (a.stands(eps), b.stands(eps)) for a, b in zip(robust.images, plain.images, strict=True)
    ]
    gained, lost = pairs.count((False, True)), pairs.count((True, False))
    assert release.robust.change == stats.paired_change(gained, lost, 60)
    assert release.robust.worse and release.sentence.startswith("Worse than Digits, adversarially")
    assert not releases.against(plain, robust).robust.worse
    assert releases.against(plain, robust).sentence.startswith("Better than Digits, classifier")
    same = releases.against(plain, plain)
    assert (
        not same.robust.worse
        and same.sentence.startswith("Not shown to be worse than")
        and same.robust.p == 1
    )
    assert [row.name for row in release.classes] == list("0123456789")
    assert sum(row.change.n for row in release.classes) == 60
    alone = [
        stats.mcnemar(
            sum(b.stands(eps) > a.stands(eps) for a, b in of),
            sum(b.stands(eps) < a.stands(eps) for a, b in of),
        )
        for name in "0123456789"
        for of in [[(a, b) for a, b in zip(robust.images, plain.images, strict=True) if a.label == name]]
    ]  # fmt: skip
    assert [row.p for row in release.classes] == stats.holm(alone)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"complete": False, "stopped": "Stopped on request."}, "The baseline is not complete"),
        ({"data": {"n": 60}}, "does not say which images of which dataset"),
        ({"data": {"fingerprint": "f" * 64, "split": "test", "seed": 0}}, "The baseline is of other images"),
        ({"norm": "l2"}, "measured with norm l2, this study with linf"),
        ({"attacks": ()}, "The baseline was attacked by , this study attacks by fgsm, noise"),
        ({"model": {"name": "old", "classes": ["a", "b"], "eot": 1, "bpda": False}}, "tells the classes a, b apart"),
    ],
)  # fmt: skip
def test_a_baseline_that_does_not_fit_is_refused(report_of, change, text):
    new = report_of("classifier")
    with pytest.raises(UserError, match=text):
        releases.against(replace(new, **change), new)


def test_a_study_that_could_not_be_compared_is_refused_before_it_begins(report_of, digits):
    old = report_of("classifier")
    config = releases.study_of(old)
    releases.allow(old, digits, config)
    for values, text in (
        ({"n": 50}, "of 60 images, this study of 50"),
        ({"seed": 3}, "with seed 0, this study with 3"),
        ({"eps": "8/255"}, "with strengths"),
        ({"attacks": "pgd"}, "attacked by fgsm, noise, this study attacks by noise, pgd"),
        ({"options": "noise.draws=3"}, "with noise.draws 10, this study with 3"),
    ):
        with pytest.raises(UserError, match=text):
            releases.allow(old, digits, config.of({**config.record(), **values}, "attack"))
    with pytest.raises(UserError, match="of an early version that did not write its settings down"):
        releases.study_of(replace(old, config={}))
    # what an older version did not know stands as it is by default
    older = [replace(tried, parameters={}) for tried in old.attacks]
    releases.allow(replace(old, attacks=older), digits, config)


HOSTILE = 'a|b <b>"&\x07]]> [x](javascript:1) @all\n# head'


def _named(report: Report, name: str) -> Report:
    """The report of a model and a first class that are called so."""
    classes = [name, *list("123456789")]
    images = [
        Attacked(i.index, name if i.label == "0" else i.label, i.clean, i.right, i.smallest, i.by)
        for i in report.images
    ]
    return replace(report, model={**report.model, "name": name, "classes": classes}, images=images)


def test_pipelines_read_valid_files_whatever_names_hold(report_of):
    old, new = (_named(report_of(id), HOSTILE) for id in ("robust", "classifier"))
    release = releases.against(old, new)
    suites = ElementTree.fromstring(releases.junit(release, 0.9))
    assert suites.tag == "testsuites" and [child.tag for child in suites] == ["testsuite"]
    (suite,) = suites
    cases = suite.findall("testcase")
    # the order that the schema of Jenkins (junit-10.xsd) asks for, and the counts that it holds
    assert [child.tag for child in suite] == ["properties", *["testcase"] * len(cases)]
    assert suite.attrib.keys() == {"name", "tests", "failures", "errors", "skipped", "time"}
    assert int(suite.get("tests", "")) == len(cases) == 2 + 1 + 10
    failed = [case for case in cases if case.find("failure") is not None]
    assert int(suite.get("failures", "")) == len(failed) == 2
    assert [case.get("name") for case in failed] == ["not worse than the baseline", "robust: 90 %"]
    for case in cases:
        assert {"name", "classname", "time"} == case.attrib.keys() and float(
            case.get("time", "")
        ) >= 0
        assert [child.tag for child in case] in (["failure", "system-out"], ["system-out"])
    assert 'a|b <b>"&]]>' in "".join(case.get("name", "") for case in cases)
    text = releases.markdown(release)
    assert "### Robustness: worse" in text and "\x07" not in text and "\n# head" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = [line.replace("\\|", "").count("|") for line in rows]
    assert len(rows) == 2 + 2 + 10 and set(cells) == {7}
    assert "<b>" not in text and "[x](" not in text
    assert 'failures="0"' in releases.junit(releases.against(old, old))


def test_the_command_repeats_the_study_of_a_baseline(
    monkeypatch, setting, report_of, tmp_path, capsys
):
    setting(nice=0, threads=1)
    monkeypatch.setattr(jobs, "spawn", lambda path: worker.work(path))
    old = report_of("robust")
    file = tmp_path / "release-1.json"
    files.write_json(file, old.record())
    base = ["attack", "--baseline", str(file), "--classifier"]
    written = ["--junit", str(tmp_path / "r.xml"), "--markdown", str(tmp_path / "r.md")]
    assert main([*base, "shipped-digits-classifier", *written, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["config"]["attacks"] == "fgsm" and found["data"]["n"] == 60
    assert found["baseline"]["worse"] and found["baseline"]["robust"]["interval"][1] < 0
    assert 'failures="1"' in (tmp_path / "r.xml").read_text()
    assert "Robustness: worse" in (tmp_path / "r.md").read_text()
    assert main([*base, "shipped-digits-robust"]) == 0
    assert "may be chance" in capsys.readouterr().out
    for more, text in (
        (["--eps", "8/255"], "The baseline was measured with strengths"),
        (["--set", "dataset.valid_share=0.2"], "The baseline is of other images"),
    ):
        assert main([*base, "shipped-digits-classifier", *more]) == 2
        assert text in capsys.readouterr().err
    assert main(["attack", "--junit", str(tmp_path / "r.xml")]) == 2
    assert "needs --baseline REPORT" in capsys.readouterr().err
    (tmp_path / "no.json").write_text("{}")
    assert main(["attack", "--baseline", str(tmp_path / "no.json")]) == 2
    assert "is damaged, or no report of an attack" in capsys.readouterr().err


WRONG = (None, [], {}, "\ud800", -1, 10**400, float("inf"), True, [1, None], {"": 1})


def _damaged(value: Any) -> Iterator[Any]:
    """Gives copies of a record with one part left out or of another type, of each list in its first part."""
    keys: Any = list(value) if isinstance(value, dict) else range(min(1, len(value)))
    for key in keys:
        copy = value.copy()
        if isinstance(value, dict):
            del copy[key]
            yield copy
        inner = _damaged(value[key]) if isinstance(value[key], (dict, list)) else ()
        for part in (*WRONG, *inner):
            copy = value.copy()
            copy[key] = part
            yield copy


def test_a_damaged_baseline_is_refused_whatever_is_wrong_with_it(report_of, digits):
    new = report_of("classifier")
    record = json.loads(json.dumps(new.record()))
    count = refused = 0
    for damaged in _damaged(record):
        count += 1
        try:
            old = store.parsed(damaged, "old.json")
            releases.allow(old, digits, releases.study_of(old))
            release = releases.against(old, new)
        except UserError:
            refused += 1
        else:
            assert releases.markdown(release).encode() and releases.junit(release).encode()
    assert count > 1000 and refused > count / 2
    for name in ("model", "data", "results", "headline", "images"):
        with pytest.raises(UserError, match=r"old.json is damaged, or no report of an attack"):
            store.parsed({**record, name: None}, "old.json")
    with pytest.raises(UserError, match="damaged"):  # a headline that no row is of
        store.parsed({**record, "headline": 0.4321}, "old.json")
