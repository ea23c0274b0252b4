"""The main path of every page that looks, on a server with a few runs."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from core.ground import sheets
from pages.parts import component, shell
from tests.pages.test_data import BIRDS, pack

BACKGROUNDS = {
    "light": "rgb(255, 255, 255)",
    "dark": "rgb(17, 19, 26)",
}  # of .streamlit/config.toml


# --- Every page ---------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [page.name for page in shell.pages()])
def test_page_opens_quietly_and_talks_to_nobody_else(gallery, screen, page):
    """The fixture looks at its requests and complaints when the test ends."""
    screen.open(gallery, "" if page == "overview" else page)  # the first page is the root
    assert len(screen.requests) > 5
    expect(screen.page.get_by_test_id("stException")).to_have_count(0)
    expect(screen.page.get_by_test_id("stAlertContentError")).to_have_count(0)
    # of 1280; the page's own style is there a moment later
    screen.until(lambda: screen.key("shell.header").bounding_box()["width"] >= 970, 10)
    pictures = screen.page.locator("canvas[data-drawn]")
    if page != "build":  # which shows what it has made, and nothing was made yet
        expect(pictures.first).to_be_visible()
    for picture in pictures.all():
        assert picture.get_attribute("aria-label")
    fits = "document.querySelector('[data-testid=stMain]').scrollWidth <= innerWidth"
    assert screen.page.evaluate(fits)  # nothing sticks out
    screen.page.set_viewport_size({"width": 390, "height": 844})
    screen.until(lambda: screen.page.evaluate(fits), 10)


def test_no_link_and_no_picture_is_made_of_what_an_address_says(gallery, screen):
    """That nothing was asked of another server, the fixture sees."""
    words = "![i](http://evil.test/i.png) http://evil.test :material/home: <b>b</b>"
    screen.open(gallery, "augment", data=words, chain=words)
    toasts = screen.page.get_by_test_id("stToast")
    expect(toasts.first).to_be_visible()
    shown = " ".join(toasts.all_inner_texts()).replace("\u2060", "")  # an invisible joiner
    assert words in shown
    evil = screen.page.locator("[href*=evil], [src*=evil], [data-testid=stToast] b")
    expect(evil).to_have_count(0)


def test_the_choice_goes_along_from_page_to_page(gallery, tiny_runs, screen):
    screen.open(gallery, "train", run=tiny_runs.runs["vae"])
    for page in shell.pages():
        screen.page.get_by_test_id("stSidebarNavLink").filter(has_text=page.title).click()
        where = "/" if page is shell.pages()[0] else f"/{page.name}"
        screen.page.wait_for_url(lambda url, where=where: urlsplit(url).path == where)
        screen.ready()
        if page.run:
            screen.chosen("run", "Tiny vae")
        screen.until(lambda: address(screen).get("run") == tiny_runs.runs["vae"])


def test_the_choice_survives_clicks_quicker_than_the_pages(gallery, tiny_runs, screen):
    """A page that is left before it is drawn loses the state of its widgets; the choice is not only there."""
    links = screen.page.get_by_test_id("stSidebarNavLink")
    pause = "milliseconds => new Promise(done => setTimeout(done, milliseconds))"
    for between in (50, 100, 150):  # not enough for any page
        screen.open(gallery, "train", run=tiny_runs.runs["vae"])
        links.nth(0).click()
        screen.page.evaluate(pause, between)
        links.nth(4).click()
        screen.page.evaluate(pause, 1000)  # what goes wrong does so late
        screen.ready()
        screen.chosen("run", "Tiny vae")
        assert address(screen)["run"] == tiny_runs.runs["vae"]


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_both_themes(gallery, another, theme):
    screen = another(color_scheme=theme).open(gallery, "latent")
    app = screen.page.get_by_test_id("stApp")
    expect(app).to_have_css("background-color", BACKGROUNDS[theme])
    expect(screen.canvas("latent.grid")).to_be_visible()
    assert screen.colours("latent.grid") > 3


# --- What components share ----------------------------------------------------------------------

ENDLESS = """
function begin() { window.seen = { begun: (window.seen?.begun ?? 0) + 1, drawn: [], ticks: 0, late: 0 }; return {}; }
function show(me) {
  const tick = () => { seen.ticks++; me.frame("tick", tick); };
  me.frame("tick", tick);
  me.after("late", 300, () => { seen.late++; });
  return () => { seen.drawn.push(me.data); };
}
"""
LEAVING = """async (source) => {
  const { default: mount } = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  document.body.innerHTML = '<div><div class="box" style="width: 50px">x</div></div>';
  const parentElement = document.body.firstElementChild, box = parentElement.firstElementChild;
  const given = (data) => ({ data, parentElement, setStateValue() {}, setTriggerValue() {} });
  const pause = (time) => new Promise((done) => setTimeout(done, time));
  mount(given(1));
  const leave = mount(given(2)), told = [];
  for (const width of ["60px", "70px"]) {
    const { drawn, ticks } = seen, [was, ticked] = [drawn.length, ticks];
    box.style.width = width;
    await pause(100);
    told.push([drawn.at(-1), drawn.length > was, seen.ticks > ticked]);
    if (told.length === 1) leave();
  }
  await pause(250);
  return [seen.begun, told, seen.late];
}"""


def test_a_component_that_leaves_the_page_stops_all_that_it_began(screen):
    stage = Path(component.__file__).with_name("stage.js").read_text("utf-8")
    begun, (here, gone), late = screen.page.evaluate(LEAVING, stage + ENDLESS)
    assert begun == 1  # new data are no new beginning
    assert here == [2, True, True]
    assert gone == [2, False, False]
    assert late == 0


# --- Overview -----------------------------------------------------------------------------------


def test_overview_shows_what_was_made_and_replays_it(gallery, screen):
    key = "overview.live"
    screen.open(gallery)
    film = screen.key(key)
    expect(screen.canvas(key)).to_be_visible()
    slider = film.get_by_role("slider")
    expect(film.locator("output")).to_have_text("320 images")
    last = screen.pixels(key)
    slider.focus()
    screen.page.keyboard.press("Home")
    expect(film.locator("output")).to_have_text("64 images")
    assert screen.pixels(key) != last
    film.get_by_role("button", name="Replay the training").click()
    expect(film.locator("output")).to_have_text("320 images")  # it plays to the end and stops
    expect(film.get_by_role("button", name="Replay the training")).to_be_visible()
    assert screen.pixels(key) == last
    for key in ("overview.faces", "overview.digits"):
        expect(screen.canvas(key)).to_be_visible()
        assert screen.colours(key) > 3


# --- Data ---------------------------------------------------------------------------------------


def bring(screen, name, content, file):
    screen.page.get_by_text("Bring your own pictures").click()
    with screen.page.expect_file_chooser() as chooser:
        screen.key("data.upload").locator("button").first.click()
    chooser.value.set_files({"name": file, "mimeType": "application/zip", "buffer": content})
    expect(screen.button("data.import")).to_be_enabled()
    box = screen.key("data.name").get_by_role("textbox")
    box.fill(name)
    box.press("Tab")
    screen.ready()
    screen.button("data.import").click()


def test_data_bring_pictures(gallery, screen):
    screen.open(gallery, "data")
    bring(screen, "Night birds", BIRDS, "birds.zip")
    screen.chosen("data", "night-birds")
    screen.says("16 colour images of 32×32 px")
    screen.says("1 file was left out")
    screen.until(lambda: address(screen).get("data") == "night-birds")
    screen.ready()
    expect(screen.canvas("data.wall")).to_be_in_viewport()  # not an empty part of the page
    before = screen.pixels("data.wall")
    classes = screen.key("data.class.night-birds").get_by_role("combobox")
    screen.page.get_by_role("heading", level=1).scroll_into_view_if_needed()
    screen.until(
        lambda: classes.click() or screen.page.get_by_role("option").count()
    )  # scrolling closes the list
    expect(screen.page.get_by_role("option")).to_have_text(["owl", "robin"])
    screen.page.get_by_role("option", name="robin").click()
    screen.until(lambda: screen.pixels("data.wall") != before)
    screen.page.get_by_role("link", name="Train a model on night-birds").click()
    expect(screen.key("train.what")).to_be_visible()
    screen.chosen("data", "night-birds")


def test_data_a_zip_without_pictures_gives_its_sentence(gallery, screen):
    screen.open(gallery, "data")
    bring(screen, "others", pack({f"{i}.bin": b"no picture" for i in range(9)}), "others.zip")
    screen.says("No picture in 'others.zip' could be read")
    screen.button("data.close").click()
    expect(screen.page.get_by_role("dialog")).to_have_count(0)
    expect(screen.canvas("data.wall")).to_be_visible()
    assert not (gallery.home / "datasets" / "others").exists()


def test_data_the_camera_takes_a_class_while_its_button_is_held(gallery, screen):
    screen.open(gallery, "data", **{"data.view": "bring"})
    screen.page.get_by_role("tab", name="Camera").click()
    screen.page.get_by_role("button", name="Start the camera").click()
    hold = screen.page.get_by_role("button", name="Hold to take pictures")
    for label in ("cup", "plate"):
        screen.page.get_by_role("textbox", name="Class of the next pictures").fill(label)
        hold.hover()
        screen.page.mouse.down()
        screen.says("Taking pictures: 4")
        if label == "plate":  # the first ten reach the server while the button is held
            held = screen.page.get_by_role("button", name="Taking pictures")
            held.evaluate("""it => {
                const said = it.closest(".box").querySelector("output");
                window.drawn = [];
                const note = () => window.drawn.push([it.textContent, said.textContent]);
                new MutationObserver(note).observe(said, { childList: true });
            }""")
            expect(screen.page.get_by_text(re.compile("plate [1-9][0-9]"))).to_be_visible()
            screen.says(f"Taking pictures: {int(held.inner_text().split()[-1]) + 2}")
            drawn = screen.page.evaluate("window.drawn")
            counts = [[int(each.split()[-1]) for each in pair] for pair in drawn]
            assert all(taken == told for taken, told in counts), counts  # and stay counted
        screen.page.mouse.up()
        # understood by the server, before anything is kept
        expect(screen.page.get_by_text(re.compile(f"{label} ([4-9]|[1-9][0-9])"))).to_be_visible()
        screen.page.get_by_role("button", name="Next class").click()
    screen.button("data.import").click()
    screen.chosen("data", "camera")
    screen.says("colour images of 32×32 px, 2 classes")
    expect(screen.page.get_by_role("dialog")).to_have_count(0)


# --- Latent space -------------------------------------------------------------------------------


def test_latent_slider_by_keyboard(gallery, tiny_runs, screen):
    screen.open(gallery, "latent", run=tiny_runs.runs["gan"])
    grid, strip = screen.pixels("latent.grid"), screen.pixels("latent.strip")
    screen.key("latent.gan.truncation").get_by_role("slider").focus()
    for _ in range(5):
        screen.page.keyboard.press("ArrowLeft")
    screen.until(lambda: screen.pixels("latent.grid") != grid)
    screen.until(lambda: screen.pixels("latent.strip") != strip)
    screen.until(lambda: "latent.gan.truncation" in address(screen))


def test_latent_click_moves_a_and_the_link_opens_the_same(gallery, tiny_runs, screen, another):
    screen.open(gallery, "latent", run=tiny_runs.runs["gan"], **{"latent.seed": "2"})
    screen.canvas("latent.strip").wait_for()
    before = screen.pixels("latent.strip")
    press(screen, 23)
    screen.until(lambda: screen.pixels("latent.strip") != before)
    screen.until(lambda: address(screen).get("ends") == "23-1")
    middle = screen.pixels("latent.strip")
    press(screen, 47)
    screen.until(lambda: address(screen).get("ends") == "23-47")
    screen.until(lambda: screen.pixels("latent.strip") != middle)
    screen.ready()

    friend = another()
    friend.page.goto(screen.page.url)
    friend.ready()
    friend.canvas("latent.strip").wait_for()
    friend.until(lambda: friend.pixels("latent.strip") == screen.pixels("latent.strip"))
    screen.page.mouse.move(1, 1)  # the frame under the pointer is mine alone
    friend.until(lambda: friend.pixels("latent.grid") == screen.pixels("latent.grid"))


def test_latent_grid_is_downloaded_with_its_settings(gallery, tiny_runs, screen):
    screen.open(gallery, "latent", run=tiny_runs.runs["gan"], **{"latent.seed": "2"})
    screen.canvas("latent.grid").wait_for()
    with screen.page.expect_download() as got:
        screen.button("latent.save.grid").click()
    assert got.value.suggested_filename == f"{tiny_runs.runs['gan']}-seed2.png"
    facts = sheets.metadata(got.value.path().read_bytes())
    assert (facts["run"], facts["seed"], facts["count"]) == (tiny_runs.runs["gan"], 2, 60)


def test_latent_by_keyboard_alone(gallery, tiny_runs, screen):
    screen.open(gallery, "latent", run=tiny_runs.runs["vae"])
    screen.canvas("latent.grid").wait_for()
    for _ in range(80):
        screen.page.keyboard.press("Tab")
        if screen.canvas("latent.grid").evaluate(
            "canvas => canvas.getRootNode().activeElement === canvas"
        ):
            break
    else:
        pytest.fail("the grid cannot be reached with Tab")
    screen.page.keyboard.press("ArrowRight")
    screen.page.keyboard.press("ArrowRight")
    screen.page.keyboard.press("ArrowDown")
    screen.page.keyboard.press("Enter")
    columns = 8  # of a grid without classes
    screen.until(lambda: address(screen).get("ends") == f"{2 + columns}-1")


def test_latent_map_decodes_a_click_the_place_under_the_cross_and_a_lasso(
    gallery, tiny_runs, screen
):
    screen.open(gallery, "latent", run=tiny_runs.runs["vae"], **{"latent.tool": "Map"})
    screen.canvas("latent.map")
    over = screen.key("latent.map").locator("canvas.over")
    box = over.bounding_box()
    over.click(position={"x": box["width"] / 2, "y": box["height"] / 2})
    before = screen.pixels("latent.map.here")
    over.focus()
    for _ in range(15):
        screen.page.keyboard.press("ArrowRight")
    screen.page.keyboard.press("Enter")
    screen.until(lambda: screen.pixels("latent.map.here") != before)
    screen.ready()
    over.scroll_into_view_if_needed()
    box, mouse = over.bounding_box(), screen.page.mouse
    mouse.move(box["x"] + 5, box["y"] + 5)
    mouse.down()
    for x, y in ((0.98, 0.02), (0.98, 0.98), (0.02, 0.98)):
        mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y, steps=4)
    mouse.up()
    assert screen.colours("latent.map.ring") > 3
    expect(screen.key("latent.map").locator(".said")).to_contain_text("selected")


def press(screen, index, columns=10, rows=6):
    """Clicks an image of the grid."""
    box = screen.canvas("latent.grid").bounding_box()
    screen.canvas("latent.grid").click(
        position={
            "x": (index % columns + 0.5) * box["width"] / columns,
            "y": (index // columns + 0.5) * box["height"] / rows,
        }
    )


def address(screen):
    return {name: value[0] for name, value in parse_qs(urlsplit(screen.page.url).query).items()}
