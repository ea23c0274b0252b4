"""What a visitor of a fresh server sees on Build: a finished improvement, before anything was pressed."""

from __future__ import annotations

from core import jobs


def test_a_finished_improvement_is_there_and_can_be_done_here(visit, gallery, asked, spawned):
    seen = visit("build", data="digits").calm()
    result = jobs.get("shipped-digits-improved").result()
    said = seen.texts("markdown", "caption").replace("\u00a0", " ")
    assert result["sentence"] in said
    assert "comes with Simulacra and was measured on another computer" in said
    assert "prepared with **Two rare classes**" in said
    for step in result["steps"]:
        assert step["title"] in said
    assert "copies of 884 images joined; 24 of them:" in said
    # the version is not on this server, so nothing offers it
    assert "is not on this server" in said
    assert not {"build.improve.take", "build.improve.proof", "build.improve.again"} & seen.keys()
    seen.press("build.improve.repeat").calm()
    config = asked(spawned[0])["config"]
    assert config["improve"]["minutes"] == 3.0
    assert config["dataset"] == {
        "name": "digits",
        "config": {**config["dataset"]["config"], "rare": True},
    }
