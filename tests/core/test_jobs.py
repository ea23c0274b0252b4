"""Jobs: folders that are a queue, processes that outlive their server, and files that are written whole."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from core import jobs, kinds, runs, worker
from core.catalog import UserError
from core.ground import files
from core.ground.settings import settings

ROOT = Path(__file__).resolve().parents[2]
Usage = namedtuple("Usage", "total used free")
CONFIG = {
    "dataset": {"name": "digits", "config": {}},
    "family": {"name": "vae", "config": {}},
    "train": {"images": 640},
}


def refused(call: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def contents(place: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder, with its time and content."""
    return {
        str(p): (p.stat().st_mtime_ns, p.read_bytes())
        for p in sorted(place.rglob("*"))
        if p.is_file()
    }


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Starts no process; remembers which would have been started."""
    started: list[str] = []
    monkeypatch.setattr(jobs, "spawn", lambda path: started.append(path.name))
    return started


@pytest.fixture
def make(spawned: list[str]) -> Callable[..., jobs.Job]:
    """Writes a job that nobody does, in any state: `make("stopped", name="Anna")`."""

    def job(
        status: str = "queued", *, lane: str = "train", kind: str = "train", **words: Any
    ) -> jobs.Job:
        made = jobs.create(kind, lane, CONFIG, title=words.pop("title", "digits-vae"), **words)
        if status == "interrupted":
            jobs.set_state(made.path, status="running")
        elif status != "queued":
            jobs.set_state(made.path, status=status)
        return jobs.get(made.id)

    return job


# --- Writing and finding ------------------------------------------------------------------------


def test_a_job_is_a_folder_that_says_what_was_asked(make, spawned):
    job = make(title="Digits & VAE!", name="  My\n first \x07 run ", who="Anna")
    assert spawned == [job.id]
    assert job.id.split("-")[2:4] == ["digits", "vae"]
    words = json.loads((job.path / "job.json").read_text())
    assert words["config"] == CONFIG
    assert (job.name, job.who, job.note, job.kind, job.lane) == (
        "My first run",
        "Anna",
        "",
        "train",
        "train",
    )
    assert (job.status, job.active, job.share, job.message, job.seconds_left) == (
        "queued",
        True,
        0,
        "",
        None,
    )
    assert abs(job.created - time.time()) < 5
    assert [each.id for each in jobs.listing()] == [job.id]
    assert [p.name for p in settings().jobs.iterdir()] == [job.id]  # nothing half-written beside it


def test_jobs_are_listed_newest_first_and_by_kind(make):
    ids = [make(kind=kind).id for kind in ("train", "classifier", "train")]
    assert [job.id for job in jobs.listing()] == ids[::-1]
    assert [job.id for job in jobs.listing("classifier")] == [ids[1]]
    assert (
        make(title="???").id.split("-")[2] == "train"
    )  # a title of signs alone gives way to the kind


def test_a_job_that_has_ended_is_read_once_until_its_files_change(make, monkeypatch):
    ended, waiting = make("finished"), make()
    opened, read = [], files.read_json
    monkeypatch.setattr(
        files, "read_json", lambda file: opened.append(file.parent.name) or read(file)
    )
    assert [job.id for job in jobs.listing()] == [waiting.id, ended.id]
    assert set(opened) == {waiting.id}
    jobs.describe(ended.id, name="Another")
    assert jobs.get(ended.id).name == "Another"
    jobs.set_state(ended.path, status="failed", message="No.")
    assert (jobs.get(ended.id).status, jobs.get(ended.id).message) == ("failed", "No.")
    (ended.path / "job.json").write_text("{")
    assert [job.id for job in jobs.listing()] == [waiting.id]


def test_a_job_is_found_by_id_by_a_start_of_it_and_by_name(make):
    job = make("stopped", name="Blue birds")
    assert {jobs.find(text).id for text in (job.id, job.id[:-2], "Blue birds")} == {job.id}
    assert jobs.find("Blue birds", "train").id == job.id
    assert (
        refused(jobs.find, "Blue birdz")
        == "There is no run 'Blue birdz'. Did you mean 'Blue birds'?"
    )
    assert (
        refused(jobs.find, "Blue birds", "classifier")
        == "There is no run 'Blue birds'. Choose from: none yet."
    )
    assert (
        refused(jobs.get, job.id + "x")
        == f"There is no job or run {job.id + 'x'!r}. Did you mean {job.id!r}?"
    )


def test_two_runs_of_one_name_are_told_apart_by_id(make):
    first, second = make("stopped", name="same"), make("stopped", name="same")
    assert (
        refused(jobs.find, "same")
        == f"2 runs are called 'same'. Write the id of one: {second.id}, {first.id}."
    )


@pytest.mark.parametrize(
    "trick",
    [
        "",
        ".",
        "..",
        "../jobs",
        "../../etc",
        "/etc",
        ".new",
        "a/../..",
        "x\0y",
        "y" * 5000,
        "*",
        "~",
    ],
)
def test_an_id_never_leads_out_of_the_folder(make, trick):
    make()
    (settings().jobs / ".new").mkdir()
    for call in (jobs.get, jobs.find, jobs.stop, jobs.resume, jobs.delete):
        assert refused(call, trick).startswith("There is no ")
    assert refused(jobs.describe, trick, name="mine").startswith("There is no ")
    assert len(jobs.listing()) == 1


def test_a_name_and_a_note_can_be_changed(make):
    job = make("finished")
    changed = jobs.describe(job.id, name="  New  name " + "x" * 100, note=" because \n")
    assert changed.name == ("New name " + "x" * 100)[:80]
    assert changed.note == "because"
    assert jobs.describe(job.id, note="n" * 9000).note == "n" * 4000
    assert jobs.get(job.id).name == changed.name
    assert refused(jobs.describe, job.id, name=" \n ") == (
        "A name needs at least one visible character, got an empty one. Type a name."
    )
    assert jobs.get(job.id).name == changed.name


def test_deleting_leaves_nothing_and_an_active_job_stays(make):
    done, waiting = make("stopped"), make(name="waiting")
    jobs.delete(done.id)
    assert refused(jobs.delete, waiting.id) == "waiting is queued. Stop it before you delete it."
    assert [p.name for p in settings().jobs.iterdir()] == [waiting.id]
    assert refused(jobs.get, done.id).startswith("There is no job or run")


def test_only_what_is_active_is_stopped_and_only_what_is_not_is_resumed(make, spawned):
    waiting, done, failed = make(name="w"), make("finished", name="d"), make("failed", name="f")
    assert jobs.stop(waiting.id).stopping
    assert (
        refused(jobs.stop, done.id)
        == "d is finished, so there is nothing to stop. Resume or delete it instead."
    )
    assert (
        refused(jobs.resume, waiting.id) == "w is queued already. Stop it first, or let it go on."
    )
    assert refused(jobs.resume, done.id) == (
        "d has finished, so there is nothing to resume. Give it more images, or start a new one with its settings."
    )
    spawned.clear()
    (failed.path / "STOP").touch()
    jobs.set_state(failed.path, message="It broke.", done=5)
    again = jobs.resume(failed.id)
    assert (again.status, again.message, again.stopping, again.state["done"]) == (
        "queued",
        "",
        False,
        5,
    )
    assert spawned == [failed.id]


def test_a_job_without_a_process_is_interrupted(make):
    job = make("interrupted")
    assert (job.status, job.active) == ("interrupted", False)
    assert job.message == (
        "Its process ended without a word (killed, or the machine restarted). Resume goes on from the newest checkpoint."
    )
    with FileLock(job.path / "alive.lock"):
        assert jobs.get(job.id).status == "running"
    assert jobs.get(job.id).status == "interrupted"
    assert jobs.resume(job.id).status == "queued"


def test_a_new_job_has_time_to_start_its_process(make):
    job = make()
    assert job.status == "queued"
    state = files.read_json(job.path / "state.json")
    files.write_json(job.path / "state.json", state | {"since": time.time() - 60})
    assert jobs.get(job.id).status == "interrupted"
    assert jobs.get(job.id).message.startswith("Its process ended before the work began, without")


def test_a_process_that_dies_at_its_start_is_told_at_once_with_its_last_words(
    tmp_path, monkeypatch, capsys
):
    from core.__main__ import main

    broken = tmp_path / "python"
    broken.write_text(
        "#!/bin/sh\necho Traceback >&2\necho \"KeyError: 'sound'.\" >&2\necho >&2\nexit 1"
    )
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    monkeypatch.setattr(jobs.folder, "START_GRACE", 3600)  # it is known without waiting
    said = "Its process ended before the work began: KeyError: 'sound'. More is in "
    few = ["--images", "64", "--wait"]
    for command, code in (["train", *few], 1), (["inspect", "digits"], 2), (["attack"], 2):
        assert main(command) == code
        assert f"error: {said}" in capsys.readouterr().err
    job = next(job for job in jobs.listing() if job.kind == "train")
    assert job.message == f"{said}{job.path / 'worker.log'}. Resume tries again."
    jobs.set_state(
        job.path, status="running", message=jobs.STARTING
    )  # its turn has come, and no more
    assert jobs.get(job.id).message.startswith(said)
    jobs.set_state(job.path, message="Preparing the data")
    assert jobs.get(job.id).message.startswith("Its process ended without a word (killed")
    # the words of an earlier start are not those of this one
    broken.write_text("#!/bin/sh\nexit 1")
    state = jobs.resume(job.id).state
    assert state["status"] == "queued"
    while jobs.get(job.id).active:
        time.sleep(0.02)
    assert jobs.get(job.id).message == (
        "Its process ended before the work began, without a word (killed, or the machine restarted). Resume tries again."
    )


@pytest.mark.parametrize("status", ["queued", "running"])
def test_a_clock_that_is_set_back_keeps_no_dead_job_alive(make, status):
    job = make()
    ahead = {
        "status": status,
        "since": time.time() + 86_400,
    }  # written before the clock was set back
    files.write_json(job.path / "state.json", ahead)
    assert jobs.get(job.id).status == "interrupted"
    with FileLock(job.path / "alive.lock"):
        assert jobs.get(job.id).status == status


def test_a_job_is_told_alive_on_a_volume_that_may_only_be_read(make, monkeypatch):
    job = make()
    assert not jobs.is_alive(job.path)
    assert not (job.path / "alive.lock").exists()  # a look writes nothing
    with FileLock(job.path / "alive.lock"), monkeypatch.context() as patch:
        patch.setattr("filelock._unix.os.open", read_only)
        assert jobs.is_alive(job.path)
    with monkeypatch.context() as patch:
        patch.setattr("filelock._unix.os.open", read_only)
        assert not jobs.is_alive(job.path)


def read_only(*args: Any) -> Any:
    raise OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize(
    ("file", "part", "value"),
    [
        ("state.json", "done", "many"),
        ("state.json", "since", []),
        ("job.json", "dataset", "digits"),
        ("job.json", "family", {"config": {}}),
        ("job.json", "train", {}),
    ],
)
def test_a_value_of_another_kind_is_damage(here, file, part, value):
    job = here()
    content = files.read_json(job.path / file)
    where = content if file == "state.json" else content["config"]
    where[part] = value
    files.write_json(job.path / file, content)
    with pytest.raises(UserError, match=rf"{file} is damaged \({part} is missing or wrong\)"):
        jobs.get(job.id)
    assert [id for id, _ in jobs.damaged()] == [job.id]


def test_a_file_that_is_nested_too_deep_is_damage(here, monkeypatch):
    job = here()

    def too_deep(_: Any) -> Any:
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr(files.json, "loads", too_deep)
    os.utime(job.path / "job.json")  # what has ended is not read again until it changes
    with pytest.raises(UserError, match=r"json is damaged \(maximum recursion depth exceeded\)"):
        jobs.get(job.id)
    assert files.parse(b"[[[\n") == ([], 1)


def test_a_record_of_words_in_place_of_numbers_is_counted_as_damaged():
    lines = b'{"step": 1, "images": 64}\n{"step": "x", "images": 64}\n{"warning": "w"}\n'
    assert files.parse(lines) == ([{"step": 1, "images": 64}, {"warning": "w"}], 1)


def test_share_and_time_left_follow_the_pace_since_the_start(make):
    job = make()
    with FileLock(job.path / "alive.lock"):
        jobs.set_state(job.path, status="running", done=250, total=1000)
        jobs.set_state(job.path, begun=200, started=1000.0, told=1010.0)  # 50 images in 10 s
        job = jobs.get(job.id)
        assert job.share == 0.25
        assert job.seconds_left == pytest.approx(150)
        # at the begin it is what the speed says; then the samples count that the pace until now has in it
        for done, left in ((201, 799 * (10 / 800 + 799 / 8000)), (600, 400 * (0.025 + 0.1) / 2)):
            jobs.set_state(job.path, speed=10, done=done)
            assert jobs.get(job.id).seconds_left == pytest.approx(left)
        files.write_json(job.path / "state.json", {"status": "running", "done": 1, "total": 2})
        assert jobs.get(job.id).seconds_left is None  # a record that says less than it should
        files.write_json(job.path / "state.json", dict(job.state))
        jobs.set_state(job.path, begun=250)
        assert jobs.get(job.id).seconds_left is None
    jobs.set_state(job.path, begun=200, status="stopped")
    stopped = jobs.get(job.id)
    assert stopped.seconds_left is None
    assert stopped.seconds_more == pytest.approx(150)  # were it resumed


# --- View-only and caps -------------------------------------------------------------------------


def test_a_view_only_server_changes_no_byte(make, setting, home, monkeypatch):
    active, idle = make(), make("interrupted")
    setting(view_only=1)
    before = contents(home)
    sentence = "This server is for viewing only, so it cannot {}. Run your own copy, or ask its owner to unset SIMULACRA_VIEW_ONLY."
    choice = {"dataset": "digits", "family": "vae"}
    for call, what in (
        (lambda: kinds.submit("train", choice), "start a job"),
        (lambda: jobs.create("train", "train", CONFIG, title="t"), "start a job"),
        (lambda: jobs.stop(active.id), "stop a job"),
        (lambda: jobs.resume(idle.id), "resume a job"),
        (lambda: jobs.delete(idle.id), "delete a job"),
        (lambda: jobs.describe(idle.id, name="mine"), "rename or annotate a job"),
        (lambda: jobs.describe(idle.id, note="mine"), "rename or annotate a job"),
    ):
        assert refused(call) == sentence.format(what)
    assert len(jobs.listing()) == 2  # looking is allowed
    assert jobs.find(idle.id).status == "interrupted"
    assert contents(home) == before


def test_the_queue_has_an_end(make, setting, home):
    setting(max_queue=2)
    make()
    make("finished")
    make(lane="short")
    before = contents(home)
    assert refused(make) == (
        "2 jobs are waiting, and this server queues at most 2. Wait for one to end, or stop one."
    )
    assert contents(home) == before


def test_more_images_than_the_server_allows_are_refused(spawned, setting, home):
    setting(max_images=1000)
    choice = {"dataset": "digits", "family": "vae"}
    assert refused(kinds.submit, "train", choice, {"train.images": 1001}) == (
        "train.images must be at most 1000 on this server, got 1001. Train for fewer images."
    )
    assert not home.exists()
    assert kinds.submit("train", choice, {"train.images": 1000}).status == "queued"


# --- A full disk --------------------------------------------------------------------------------


def full(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


WRITE = Path.write_bytes
FULL = (
    "The disk of {} is full. Delete old runs or set SIMULACRA_HOME to a larger disk, then resume."
)


def test_a_nearly_full_disk_starts_and_resumes_nothing(make, home, monkeypatch):
    job = make("stopped")
    before = contents(home)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(0, 0, 2**20))
    for call in (make, lambda: jobs.resume(job.id)):
        assert refused(call) == (
            f"The disk of {home} has 1 MB left, and 500 MB are needed. "
            "Delete old runs, or set SIMULACRA_HOME to a larger disk."
        )
    assert contents(home) == before


def test_a_disk_that_fills_while_writing_leaves_nothing_half_written(make, home, monkeypatch):
    job = make("stopped")
    before = contents(home)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        for call in (make, lambda: jobs.resume(job.id), lambda: jobs.describe(job.id, note="n")):
            assert refused(call) == FULL.format(home)
    assert contents(home) == before
    assert [p.name for p in settings().jobs.iterdir()] == [job.id]
    real, calls = Path.write_bytes, []

    def second(self: Path, content: bytes) -> int:
        calls.append(self)
        return full() if len(calls) == 2 else real(self, content)  # type: ignore[return-value]

    monkeypatch.setattr(Path, "write_bytes", second)
    assert refused(make) == FULL.format(home)
    assert [p.name for p in settings().jobs.iterdir()] == [job.id]


def test_another_error_of_the_system_stays_what_it_is():
    with pytest.raises(OSError, match="broken"), files.full_disk_told():
        raise OSError(errno.EIO, "broken")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_place_that_may_not_be_written_is_named(number):
    with pytest.raises(UserError) as caught, files.full_disk_told():
        raise OSError(number, "no", "/some/place")
    assert str(caught.value) == (
        "This program may not write to /some/place. Give it the permission, or set SIMULACRA_HOME to a folder that it "
        "may write."
    )


def test_a_training_on_a_full_disk_fails_with_a_sentence_and_keeps_its_checkpoint(
    here, home, monkeypatch
):
    real, made = runs.save_checkpoint, []

    def save(path: Path, *args: Any) -> None:
        made.append(path)
        if len(made) == 3:
            monkeypatch.setattr(Path, "write_bytes", full)
        real(path, *args)

    monkeypatch.setattr(runs, "save_checkpoint", save)
    state = jobs.set_state

    def told(path: Path, **fields: Any) -> None:  # space enough for the last words
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", WRITE)
            state(path, **fields)

    monkeypatch.setattr(jobs, "set_state", told)
    job = here()
    assert job.status == "failed"
    assert job.message == FULL.format(home)
    monkeypatch.undo()
    assert len(runs.checkpoints(job)) == 2
    assert not [p for p in (job.path / "checkpoints").iterdir() if p.name.startswith(".")]


# --- Damage -------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["job.json", "state.json"])
@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"status": "queued"', None]
)
def test_a_damaged_file_is_named_and_the_other_jobs_stay_in_the_list(make, file, content):
    good, bad = make(name="good"), make("stopped", name="bad")
    path = bad.path / file
    path.unlink() if content is None else path.write_bytes(content)
    assert [job.id for job in jobs.listing()] == [good.id]
    ((name, reason),) = jobs.damaged()
    assert name == bad.id
    assert str(bad.path) in reason
    assert refused(jobs.get, bad.id) == reason
    assert refused(jobs.find, bad.id) == reason
    jobs.delete(bad.id)
    assert jobs.damaged() == []
    assert [job.id for job in jobs.listing()] == [good.id]


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("job.json", "created", "yesterday"), ("job.json", "config", 3), ("job.json", "name", None), ("job.json", "kind", []),
        ("state.json", "status", "dancing"), ("state.json", "status", 3),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_kind_is_damage_too(make, file, key, value):
    good, bad = make(), make("stopped")
    files.write_json(bad.path / file, files.read_json(bad.path / file) | {key: value})
    assert [job.id for job in jobs.listing()] == [good.id]
    ((name, reason),) = jobs.damaged()
    assert (name, refused(jobs.get, bad.id)) == (bad.id, reason)
    assert file in reason
    assert key in reason


def test_a_stray_file_or_hidden_folder_is_no_job(make):
    job = make()
    (settings().jobs / "notes.txt").write_text("hello")
    (settings().jobs / ".gone-x").mkdir()
    assert [each.id for each in jobs.listing()] == [job.id]
    assert jobs.damaged() == []


# --- The log ------------------------------------------------------------------------------------


def test_records_come_back_in_order(tmp_path):
    log = files.Log(tmp_path)
    assert log.read() == ([], 0)
    for step in range(5):
        log.append({"step": step, "text": "line\nbreak \u2028"})
    assert log.read() == ([{"step": step, "text": "line\nbreak \u2028"} for step in range(5)], 0)


def test_a_damaged_line_is_skipped_and_counted_and_a_half_written_one_is_not_there_yet(tmp_path):
    log = files.Log(tmp_path)
    log.append({"step": 1})
    with log.file.open("ab") as file:
        file.write(b'{"step": 2\n[3]\n\n\xff\xfe\n{"step": 4}\n{"st')
    assert log.read() == ([{"step": 1}, {"step": 4}], 3)
    log.append({"step": 5})  # after the crash: on a line of its own
    assert log.read() == ([{"step": 1}, {"step": 4}, {"step": 5}], 4)


def test_what_was_read_is_read_again_when_it_grew(tmp_path):
    log = files.Log(tmp_path)
    for step in range(20):
        log.append({"step": step})
        assert len(log.read()[0]) == step + 1


def test_cutting_drops_what_came_after_a_step(tmp_path):
    log = files.Log(tmp_path)
    for step in range(6):
        log.append({"step": step})
    with log.file.open("ab") as file:
        file.write(b"{")
    log.cut(3)
    log.append({"step": 4, "again": True})
    assert log.read() == (
        [{"step": 0}, {"step": 1}, {"step": 2}, {"step": 3}, {"step": 4, "again": True}],
        0,
    )


# --- Whole or not at all ------------------------------------------------------------------------


def test_readers_never_see_half_a_file(tmp_path):
    path, stop, problems = tmp_path / "state.json", threading.Event(), []
    files.write_json(path, {"n": 0, "fill": ""})

    def read() -> None:
        while not stop.is_set():
            try:
                value = files.read_json(path)
                assert len(value["fill"]) == value["n"] * 997
            except Exception as error:
                problems.append(error)

    def write(offset: int) -> None:
        for n in range(offset, 60, 2):
            files.write_json(path, {"n": n, "fill": "x" * n * 997})

    readers = [threading.Thread(target=read) for _ in range(2)]
    writers = [threading.Thread(target=write, args=(k,)) for k in range(2)]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in readers:
        thread.join()
    assert problems == []
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]


# --- The queue ----------------------------------------------------------------------------------


def test_places_are_counted_by_lane_from_the_oldest(make):
    first, short, second, third = make(), make(lane="short"), make(), make()
    assert [jobs.position(jobs.get(job.id)) for job in (first, second, third, short)] == [
        1,
        2,
        3,
        1,
    ]
    assert jobs.position(make("finished")) == 0
    jobs.set_state(first.path, status="finished")
    assert [jobs.position(jobs.get(job.id)) for job in (second, third)] == [1, 2]
    jobs.set_state(second.path, status="stopped")
    jobs.resume(second.id)  # who comes back queues up again
    assert [jobs.position(jobs.get(job.id)) for job in (third, second)] == [1, 2]


def test_a_slot_is_held_by_one_job_and_the_lanes_are_independent(make, setting):
    first, second, short = make(), make(), make(lane="short")
    with jobs.slot(first) as mine:
        assert mine
        jobs.set_state(first.path, status="running")
        with FileLock(first.path / "alive.lock"), jobs.slot(short, poll=0.01) as other:
            assert other  # an evaluation does not wait for a training
            (second.path / "STOP").touch()
            with jobs.slot(second, poll=0.01) as none:
                assert not none
    jobs.set_state(first.path, status="finished")
    (second.path / "STOP").unlink()
    with jobs.slot(second, poll=0.01) as mine:
        assert mine


def test_two_slots_take_two_jobs(make, setting):
    setting(slots_train=2)
    first, second = make(), make()
    with jobs.slot(first) as a:
        jobs.set_state(first.path, status="running")
        with FileLock(first.path / "alive.lock"), jobs.slot(second, poll=0.01) as b:
            assert a
            assert b


# --- Done in this process -----------------------------------------------------------------------


def test_a_finished_job_says_so(here):
    job = here(name="mine")
    assert (job.status, job.message, job.share) == ("finished", "", 1)
    assert job.state["step"] == 4
    records, damaged = files.Log(job.path).read()
    assert damaged == 0
    assert records[-1]["images"] == 256
    assert job.state["last"]["step"] == 4


def test_a_crash_is_a_short_sentence_and_the_traceback_is_in_the_log(here, monkeypatch, capsys):
    def broken(task: kinds.Task) -> Any:
        yield {"step": 1}
        raise ZeroDivisionError("secret detail")

    monkeypatch.setitem(vars(jobs.kinds.get("train")), "make", broken)
    job = here(work=False)
    assert worker.work(job.path) == 1
    job = jobs.get(job.id)
    assert job.status == "failed"
    assert (
        job.message
        == f"Something went wrong inside Simulacra. The details are in {job.path / 'worker.log'}."
    )
    assert (
        "ZeroDivisionError: secret detail" in capsys.readouterr().err
    )  # which spawn() sends to worker.log


def test_a_job_is_stopped_at_the_servers_limit_of_seconds(here, setting, monkeypatch):
    setting(max_seconds=1)
    began = kinds.Task.__init__

    def late(self: kinds.Task, job: jobs.Job) -> None:
        began(self, job)
        self._began -= 2

    monkeypatch.setattr(kinds.Task, "__init__", late)
    job = here(images=6400)
    assert (job.status, job.message) == ("stopped", "Stopped at this server's limit of 1 seconds.")
    assert runs.checkpoints(job) == [1]


def test_a_job_that_waits_is_stopped_before_it_begins(here):
    job = here(work=False)
    jobs.stop(job.id)
    assert worker.work(job.path) == 0
    job = jobs.get(job.id)
    assert (job.status, job.message) == (
        "stopped",
        "Stopped while it waited. Resume queues it again.",
    )
    assert not (job.path / "run.json").exists()


def test_a_second_process_leaves_the_job_to_the_first(here, monkeypatch):
    job = here(work=False)
    with FileLock(job.path / "alive.lock"):
        acquire = FileLock.acquire
        monkeypatch.setattr(
            FileLock, "acquire", lambda self, **how: acquire(self, **(how | {"timeout": 0}))
        )
        assert worker.work(job.path) == 1
    assert jobs.get(job.id).status == "queued"


# --- Real processes -----------------------------------------------------------------------------


def until(true: Callable[[], Any], seconds: float = 90, what: str = "") -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.02)
    pytest.fail(f"waited {seconds} s in vain {what}")


def begun(id: str) -> bool:
    return len(files.Log(settings().jobs / id).read()[0]) >= 3


def test_the_second_job_waits_for_its_turn_and_both_survive_who_started_them(home, setting):
    """One queue, three processes: submitted elsewhere, stopped while running, stopped while waiting."""
    setting(threads=1, nice=0)
    code = (
        "from core import kinds\n"
        "for images in (10**9, 256, 256):\n"
        "    values = {'train.images': images, 'train.batch': 64}\n"
        "    print(kinds.submit('train', {'dataset': 'digits', 'family': 'vae'}, values).id)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    first, second, third = done.stdout.split()  # their server has ended already
    until(lambda: begun(first), what=(home / "jobs" / first / "worker.log").read_text())
    assert [jobs.get(id).status for id in (first, second, third)] == ["running", "queued", "queued"]
    assert [jobs.position(jobs.get(id)) for id in (first, second, third)] == [0, 1, 2]
    assert jobs.get(first).seconds_left > 0
    jobs.stop(third)
    until(lambda: jobs.get(third).status == "stopped")
    assert jobs.get(first).status == "running"
    jobs.stop(first)
    until(lambda: jobs.get(first).status == "stopped")
    assert jobs.get(first).message == "Stopped on request. Resume goes on from here."
    assert max(runs.checkpoints(jobs.get(first))) == jobs.get(first).state["step"]
    until(lambda: jobs.get(second).status == "finished")  # by itself
    assert jobs.get(second).share == 1


def test_a_killed_training_says_so_and_resumes_bit_by_bit(home, setting, here, monkeypatch):
    from safetensors.torch import load_file

    monkeypatch.undo()
    monkeypatch.setenv("SIMULACRA_HOME", str(home))
    setting(threads=1, nice=0, slots_train=2, device="cpu")
    values = {"train.images": 64 * 32, "train.batch": 32}
    families = ("gan", "vae")
    ids = {
        f: kinds.submit("train", {"dataset": "digits", "family": f}, values).id for f in families
    }
    killed = set()
    while killed != set(families):
        for family in set(families) - killed:
            if jobs.get(ids[family]).status == "running" and begun(ids[family]):
                os.kill(jobs.get(ids[family]).state["pid"], signal.SIGKILL)
                end = time.monotonic() + 5
                until(
                    lambda f=family: jobs.get(ids[f]).status == "interrupted",
                    end - time.monotonic(),
                )
                killed.add(family)
        time.sleep(0.02)
    before = {family: max(runs.checkpoints(jobs.get(ids[family]))) for family in families}
    assert all(1 <= step < 64 for step in before.values()), before
    for family in families:
        jobs.resume(ids[family])
    monkeypatch.setattr(jobs, "spawn", lambda path: None)
    whole = {f: kinds.submit("train", {"dataset": "digits", "family": f}, values) for f in families}
    for family in families:
        until(lambda f=family: jobs.get(ids[f]).status not in jobs.ACTIVE)
        assert jobs.get(ids[family]).status == "finished", (
            home / "jobs" / ids[family] / "worker.log"
        ).read_text()
        assert worker.work(whole[family].path) == 0
        ends = [
            load_file(home / "jobs" / id / "checkpoints" / "64" / "model.safetensors")
            for id in (ids[family], whole[family].id)
        ]
        assert ends[0].keys() == ends[1].keys()
        assert all(bool((ends[0][key] == ends[1][key]).all()) for key in ends[0]), family
        steps = [
            [r["step"] for r in files.Log(home / "jobs" / id).read()[0]]
            for id in (ids[family], whole[family].id)
        ]
        assert steps[0] == sorted(set(steps[0]))  # cut at the checkpoint, then on
        assert steps[0][-1] == steps[1][-1] == 64
