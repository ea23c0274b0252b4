"""The drawn faces: known attributes, and pictures that follow them."""

import subprocess
import sys

import numpy as np
import pytest

from core.catalog import UserError
from core.datasets import faces
from core.ground.watch import Watch


@pytest.fixture(scope="module")
def table():
    return faces.attributes(1, 4000)


@pytest.fixture(scope="module")
def loose():
    return faces.attributes(1, 4000, correlated=False)


def some(table, count=40):
    return {name: values[:count] for name, values in table.items()}


def changed(table, name, value):
    return table | {name: np.full(len(table["expression"]), value)}


def drawn(tables, size):
    """Draws several tables of one length at once: (tables, faces, 3, size, size)."""
    together = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    return faces.draw(together, size).reshape(len(tables), -1, 3, size, size)


def levels(first, second):
    return np.abs(first.astype(int) - second.astype(int))


def test_attributes_are_complete_and_within_their_ranges(table, loose):
    for found in (table, loose):
        assert set(found) == {*faces.NAMES, *faces.RANGES}
        assert all(values.shape == (4000,) for values in found.values())
        for name, choices in faces.NAMES.items():
            assert set(found[name]) == set(range(len(choices))), name
        for name, (low, high) in faces.RANGES.items():
            assert low <= found[name].min() and found[name].max() <= high, name


@pytest.mark.parametrize("correlated", [True, False])
def test_a_face_does_not_depend_on_how_many_are_asked_for(correlated):
    many, few = faces.attributes(3, 200, correlated), faces.attributes(3, 7, correlated)
    other = faces.attributes(4, 200, correlated)
    for name in many:
        assert np.array_equal(many[name][:7], few[name])
        assert not np.array_equal(many[name], other[name])
    assert all(len(values) == 0 for values in faces.attributes(3, 0, correlated).values())


@pytest.mark.parametrize(
    ("one", "another"),
    [
        (("hair_colour", "silver"), ("glasses", None)),
        (("hair_colour", "black"), ("skin", None)),
        (("hair_colour", "copper"), ("freckles", None)),
        (("hair_style", "curly"), ("skin", None)),
        (("hair_style", "short"), ("beard", None)),
        (("eye_colour", "brown"), ("skin", None)),
    ],
)
def test_correlations_can_be_switched_off(table, loose, one, another):
    def strength(found):
        first = found[one[0]] == faces.NAMES[one[0]].index(one[1])
        second = found[another[0]]
        if another[0] in faces.NAMES:
            second = second > 0
        return np.corrcoef(first, second)[0, 1]

    assert strength(table) > 0.15
    assert abs(strength(loose)) < 0.08


def test_a_broad_smile_narrows_the_eyes_only_when_correlated(table, loose):
    def strength(found):
        happy = found["expression"] == faces.CLASSES.index("happy")
        return np.corrcoef(found["smile"][happy], found["eyes"][happy])[0, 1]

    assert strength(table) < -0.5
    assert abs(strength(loose)) < 0.1


def test_the_class_is_always_its_mouth_and_eyes(table, loose):
    for found in (table, loose):
        of = {name: found["expression"] == i for i, name in enumerate(faces.CLASSES)}
        assert found["smile"][of["happy"]].min() > 0.5 > found["smile"][of["neutral"]].max()
        assert found["smile"][of["sad"]].max() < -0.5
        assert found["mouth"][of["surprised"]].min() > 0.5 > found["mouth"][of["wink"]].max()
        assert found["eyes"][of["surprised"]].min() > found["eyes"][of["neutral"]].max()


@pytest.mark.parametrize("size", [8, 16, 31, 64])
def test_a_picture_depends_on_its_own_attributes_only(loose, size):
    batch = some(loose, 8)
    pixels = faces.draw(batch, size)
    assert pixels.shape == (8, 3, size, size)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, faces.draw(batch, size))
    for i in range(8):
        alone = faces.draw({name: values[i : i + 1] for name, values in batch.items()}, size)
        assert np.array_equal(pixels[i : i + 1], alone)
    assert faces.draw(some(batch, 0), size).shape == (0, 3, size, size)


def test_progress_is_told_after_each_chunk(table):
    told = []

    class Heard(Watch):
        def say(self, text, done=None, total=1.0):
            told.append((done, total))

    faces.draw(some(table, 70), 128, Heard())
    assert len(told) > 1
    assert told[-1] == (70, 70)
    assert told == sorted(told)


def test_small_pictures_are_large_ones_seen_from_afar(table):
    batch = some(table, 100)
    large = faces.draw(batch, 64).astype(float)
    for size in (16, 32):
        k = 64 // size
        afar = large.reshape(100, 3, size, k, size, k).mean((3, 5))
        small = faces.draw(batch, size)
        assert np.abs(small - afar).mean() < 5
        assert abs((small - afar).mean()) < 2


def test_edges_are_ramps_about_one_pixel_wide():
    one = {name: values[:1] for name, values in faces.attributes(0, 1).items()}
    for name, choice in (("hair_style", "bun"), ("shirt", "navy"), ("background", "butter")):
        one = changed(one, name, faces.NAMES[name].index(choice))
    for size in (32, 64, 128):
        red = faces.draw(one, size)[0, 0].astype(float)
        column = red[round(0.86 * size) :, round(0.22 * size)]  # from the background into the shirt
        above, below = column.max(), column[-1]
        between = (column > below + 3) & (column < above - 15)
        assert above - below > 100
        assert 1 <= between.sum() <= 3


def test_a_shape_keeps_its_area_at_every_size():
    base = {name: values[:1] for name, values in faces.attributes(0, 1).items()}
    for name in ("glasses", "beard", "freckles", "hair_style", "turn", "head", "mouth"):
        base = changed(base, name, 0)
    for name, value in (("beard", 1), ("freckles", 1), ("mouth", 1.0)):
        pairs = [drawn([base, changed(base, name, value)], size) for size in (16, 32, 64)]
        weight = [levels(without, with_it).mean() for without, with_it in pairs]
        assert weight[:2] == pytest.approx([weight[2]] * 2, rel=0.2), name


def test_every_choice_changes_the_picture(loose):
    batch = some(loose)
    for name, choices in faces.NAMES.items():
        pictures = drawn([changed(batch, name, value) for value in range(len(choices))], 32)
        for i, first in enumerate(pictures):
            for second in pictures[:i]:
                change = levels(first, second).max((1, 2, 3))
                # A single face may hide it: brown freckles on dark skin.
                assert np.median(change) > 8, name


def test_every_range_changes_the_picture_continuously(loose):
    batch = some(loose, 5)
    for name, (low, high) in faces.RANGES.items():
        places = np.linspace(low, high, 41)
        path = drawn([changed(batch, name, value) for value in places], 32)
        whole, steps = levels(path[0], path[-1]).mean(), levels(path[1:], path[:-1])
        assert whole > 0.3, name
        assert steps.mean((1, 2, 3, 4)).max() < 0.2 * whole, name
        assert steps.max() < 110, name  # a feature moves a fifth of a pixel in a step of the turn
        nudged = drawn([changed(batch, name, value + 1e-4) for value in places[:-1]], 32)
        assert levels(nudged, path[:-1]).max() <= 1, name


def test_a_smile_moves_the_mouth_and_nothing_else(loose):
    batch = changed(some(loose), "turn", 0.0)
    frown, laugh = drawn([changed(batch, "smile", value) for value in (-1.0, 1.0)], 32)
    where = levels(frown, laugh).sum((0, 1))
    assert where[17:26, 9:23].sum() > 0.99 * where.sum()


def test_a_wink_shuts_one_eye(loose):
    batch = changed(changed(some(loose), "turn", 0.0), "eyes", 0.9)
    classes = [faces.CLASSES.index(name) for name in ("wink", "neutral")]
    wink, neutral = drawn([changed(batch, "expression", value) for value in classes], 32)
    where = levels(wink, neutral)[:, :, 13:18].sum((0, 1, 2))
    assert where[16:].sum() > 20 * where[:16].sum()


def test_a_turn_moves_the_features_as_a_ball_would(loose):
    batch = changed(changed(some(loose), "glasses", 0), "beard", 0)

    def mouth_at(turn):
        batch["turn"] = np.full(40, turn)
        shut, agape = drawn([changed(batch, "mouth", value) for value in (0.0, 1.0)], 64)
        weight = levels(shut, agape).sum((0, 1, 2))
        return (weight * np.arange(64)).sum() / weight.sum()

    assert mouth_at(0.0) == pytest.approx(31.5, abs=0.3)
    assert mouth_at(1.0) - 31.5 == pytest.approx(31.5 - mouth_at(-1.0), abs=0.5)
    assert mouth_at(1.0) > 34


def test_errors_say_what_is_wrong_what_is_allowed_and_what_to_do(table):
    batch = some(table, 3)

    def text(attributes, size=32):
        with pytest.raises(UserError) as error:
            faces.draw(attributes, size)
        return str(error.value)

    needed = ", ".join([*faces.NAMES, *faces.RANGES])
    assert text({name: v for name, v in batch.items() if name != "smile"}) == (
        f"The attribute 'smile' is missing. A face needs {needed}. "
        "Start from faces.attributes(seed, count) and change what you like."
    )
    assert text(batch | {"skin": batch["skin"][:2]}) == (
        "The attribute 'skin' has the shape (2,), but 'expression' has 3 values. "
        "Give each one value per face."
    )
    assert text(batch | {"turn": np.array([0, 1.5, 0])}) == (
        "The attribute 'turn' must be from -1 to 1, got 1.5. "
        "Clip it, or leave it as faces.attributes gives it."
    )
    assert text(batch | {"eyes": np.array([0, np.nan, 0])}).startswith(
        "The attribute 'eyes' must be from 0 to 1, got nan."
    )
    assert text(batch | {"glasses": np.array([0, 1, 3])}) == (
        "The attribute 'glasses' must be from 0 to 2 (none, round, square), got 3. "
        "Clip it, or leave it as faces.attributes gives it."
    )
    for size in (7, 257):
        assert text(batch, size) == f"size must be from 8 to 256 pixels, got {size}. Try 32."
    with pytest.raises(UserError) as error:
        faces.attributes(0, -1)
    assert str(error.value) == "count must be a whole number at least 0, got -1. Try count=1."
    with pytest.raises(UserError) as error:
        faces.attributes(-5, 1)
    assert str(error.value) == "seed must be a whole number at least 0, got -5. Try seed=1."


def test_the_import_is_light():
    code = "import sys, core.datasets.faces; print({'torch', 'pandas', 'scipy'} & {*sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == "set()\n", run.stderr
