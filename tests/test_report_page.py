"""The page of ``hfsv compare`` in a real browser, from its file: pictures, curves, keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import browser
import numpy as np
import pytest
from devtools import Tab

import nervcodec
from nervcodec.cli.main import cli
from nervcodec.config import ModelConfig, TrainConfig
from nervcodec.metrics import psnr
from tests.synthetic import SMALLEST, write_clip

FRAMES, WIDTH, HEIGHT = 20, 80, 66
NEAR = 6
"""How far mean colours may be apart after H.264 and the browser's conversion."""

ONE_FRAME = 8
"""How far the mean colours of neighbouring frames are apart."""

PIXELS = """
(() => {
  const canvas = document.getElementById("picture");
  const [from, to] = [FROM, TO];
  const left = Math.round(from * canvas.width), width = Math.round((to - from) * canvas.width);
  const samples = canvas.getContext("2d").getImageData(left, 0, width, canvas.height).data;
  const sum = [0, 0, 0];
  samples.forEach((value, index) => { if (index % 4 < 3) sum[index % 4] += value; });
  return sum.map(value => 4 * value / samples.length);
})()
"""


def brightening(count: int) -> np.ndarray:
    """Frames that can be told from each other by their mean, with some texture."""
    grain = np.random.default_rng(1).integers(-20, 21, (HEIGHT, WIDTH, 3))
    levels = [(40 + ONE_FRAME * t, 200 - 7 * t, 90 + 4 * t) for t in range(count)]
    return np.stack([np.clip(level + grain, 0, 255) for level in levels]).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on two files with four points of each anchor."""
    folder = tmp_path_factory.mktemp("page")
    source = write_clip(folder / "clip.mp4", brightening(FRAMES))
    train = TrainConfig(epochs=40, batch=2, hfs_weight=0)
    given = []
    for params in (4000, 8000):
        model = ModelConfig(params=params, hfscm=False, msfrp=False)
        path = folder / f"ours-{params}.hfsv"
        nervcodec.encode(source, path, replace(SMALLEST, train=train, model=model))
        given += ["--hfsv", str(path)]
    quick = ["--presets", "ultrafast", "--crfs", "22,30,38,46"]
    arguments = ["compare", str(source), *given, *quick, "-o", str(folder / "report"), "-q"]
    cli.main(arguments, standalone_mode=False)
    return folder


@pytest.fixture(scope="module")
def chromium() -> str:
    found = browser.find()
    if found is None:
        pytest.skip("no Chromium on the PATH, and HFSV_CHROMIUM names none")
    return found


@pytest.fixture(scope="module")
def browser_tab(chromium: str, folder: Path) -> Iterator[Tab]:
    with Tab(chromium, folder / "profile") as tab:
        yield tab


@pytest.fixture
def tab(browser_tab: Tab, folder: Path) -> Iterator[Tab]:
    """The page freshly loaded, its first picture drawn; whatever goes wrong in it is a failure."""
    browser_tab.faults.clear()
    browser_tab.open(folder / "report" / "index.html")
    wait_for_picture(browser_tab)
    yield browser_tab
    assert browser_tab.ask("1 + 1") == 2
    assert browser_tab.faults == []


def wait_for_picture(tab: Tab) -> None:
    tab.wait("player.video.readyState >= 2 && !player.video.seeking && !player.pending")
    tab.wait("player.presented === player.frame")
    tab.ask("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")


def shown(tab: Tab, start: float, end: float) -> np.ndarray:
    """The mean colour of a part of the picture."""
    return np.array(tab.ask(PIXELS.replace("FROM", str(start)).replace("TO", str(end))))


def source_mean(frame: int, start: float, end: float) -> np.ndarray:
    part = slice(round(start * WIDTH), round(end * WIDTH))
    return brightening(FRAMES)[frame][:, part].mean(axis=(0, 1))


def ours_mean(folder: Path, frame: int, start: float, end: float) -> np.ndarray:
    part = slice(round(start * WIDTH), round(end * WIDTH))
    with nervcodec.open(folder / "ours-8000.hfsv") as clip:
        return clip[frame][:, part].mean(axis=(0, 1))


def test_a_click_on_the_curve_goes_to_that_frame(tab: Tab, folder: Path) -> None:
    for share in (0.3, 0.8):
        tab.click("#frames svg", across=share)
        wait_for_picture(tab)
        frame = tab.ask("player.frame")
        # The axis begins at 62 of 960 units and ends 16 before the right edge.
        assert frame == round((share * 960 - 62) / (960 - 62 - 16) * (FRAMES - 1))
        assert tab.ask("document.getElementById('frame-text').textContent").startswith(f"{frame} ")
        assert np.abs(shown(tab, 0, 0.45) - source_mean(frame, 0, 0.45)).max() < NEAR
        assert np.abs(shown(tab, 0.55, 1) - ours_mean(folder, frame, 0.55, 1)).max() < NEAR


def test_every_frame_is_the_one_that_is_named(tab: Tab) -> None:
    tab.ask("player.show({wipe: 1})")
    for frame in (0, 1, 7, 18, 19, 3):
        tab.ask(f"player.seek({frame})")
        wait_for_picture(tab)
        assert np.abs(shown(tab, 0, 1) - source_mean(frame, 0, 1)).max() < ONE_FRAME / 2


def test_the_wipe_is_dragged(tab: Tab) -> None:
    tab.drag("#picture", 0.5, 0.9)
    assert tab.ask("player.wipe") == pytest.approx(0.9, abs=0.02)
    assert tab.ask("document.getElementById('wipe').value") == str(
        round(1000 * tab.ask("player.wipe"))
    )
    tab.ask("document.getElementById('right').value = 3; 0")
    tab.ask("document.getElementById('right').dispatchEvent(new Event('change'))")
    assert "x265" in tab.ask("document.getElementById('right-tag').textContent")
    tab.click("#wipe", across=0.25)
    assert tab.ask("player.wipe") == pytest.approx(0.25, abs=0.05)


def test_the_difference_of_equals_is_black(tab: Tab) -> None:
    tab.ask("player.show({view: 'difference', left: 0, right: 0})")
    assert shown(tab, 0, 1).max() == 0
    tab.ask("player.show({right: 1})")
    wait_for_picture(tab)
    assert shown(tab, 0, 1).max() > 3
    assert tab.ask("document.getElementById('wipe-label').offsetParent") is None


def test_side_by_side(tab: Tab, folder: Path) -> None:
    tab.ask("player.show({view: 'beside'})")
    tab.ask("player.seek(9)")
    wait_for_picture(tab)
    assert tab.ask("document.getElementById('picture').width") == 2 * WIDTH
    assert np.abs(shown(tab, 0, 0.5) - source_mean(9, 0, 1)).max() < NEAR
    assert np.abs(shown(tab, 0.5, 1) - ours_mean(folder, 9, 0, 1)).max() < NEAR


def test_the_keyboard_is_enough(tab: Tab) -> None:
    tab.ask("document.getElementById('picture').focus()")
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        tab.key(key)
        wait_for_picture(tab)
    assert tab.ask("player.frame") == 1
    wipe = tab.ask("player.wipe")
    tab.key("]")
    assert tab.ask("player.wipe") == pytest.approx(wipe + 0.05)
    tab.key("d")
    assert tab.ask("document.getElementById('view').value") == "difference"
    tab.key("d")
    tab.key(" ")
    tab.wait("player.frame >= 5")
    tab.wait("!player.playing")
    assert tab.ask("player.frame") == FRAMES - 1
    assert tab.ask("document.getElementById('play').textContent") == "Play"
    tab.ask("document.querySelector('[data-point]').focus()")
    assert not tab.ask("document.getElementById('tip').hidden")
    tab.key("Escape")
    assert tab.ask("document.getElementById('tip').hidden")


def test_hovering_tells_the_values(tab: Tab, folder: Path) -> None:
    index = tab.ask("data.points.findIndex(p => p.setting === 'ours-8000.hfsv')")
    tab.hover(f"[data-point='{index}'] .point")
    tab.wait("!document.getElementById('tip').hidden")
    told = tab.ask("document.getElementById('tip').textContent")
    size = (folder / "ours-8000.hfsv").stat().st_size
    assert told.startswith("hfsv hnerv ours-8000.hfsv")
    assert f"{size / 1000:.1f} kB" in told
    with nervcodec.open(folder / "ours-8000.hfsv") as clip:
        source = Path(folder / "clip.mp4")
        expected = nervcodec.verify(clip.path, source=source).psnr
    assert f"RGB PSNR (dB): {expected:.2f}" in told


def test_another_measure_and_another_file(tab: Tab) -> None:
    before = tab.ask("document.querySelector('#rd svg').outerHTML")
    tab.ask("document.getElementById('measure').value = 'ssim'; drawRates()")
    assert tab.ask("document.querySelector('#rd svg').outerHTML") != before
    chosen = "document.getElementById('player')"
    tab.ask(f"{chosen}.value = 0; {chosen}.dispatchEvent(new Event('change'))")
    wait_for_picture(tab)
    assert "ours-4000" in tab.ask("document.getElementById('right-tag').textContent")


def test_the_tables_hold_the_figures(tab: Tab, folder: Path) -> None:
    rows = tab.ask("[...document.querySelectorAll('#points tr')].map(r => r.children[1].innerText)")
    assert len(rows) == 1 + 2 * (1 + 2) + 8
    assert str((folder / "ours-4000.hfsv").stat().st_size) in rows
    total = tab.ask("[...document.querySelectorAll('#bytes-table tr')].pop().innerText")
    assert str((folder / "ours-8000.hfsv").stat().st_size) in total
    deltas = tab.ask("document.getElementById('bd').innerText")
    assert "2 of the 4 points" in deltas
    card = tab.ask("document.getElementById('card').innerText")
    for word in ("x264 - core", "matrix", "keyframe", "Seconds", "Machine", "PyAV"):
        assert word.lower() in tab.ask("document.getElementById('card').textContent").lower(), card


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_no_width_needs_scrolling_sideways(tab: Tab, width: int) -> None:
    tab.resize(width, 800)
    tab.wait(f"innerWidth === {width}")
    assert tab.ask("document.documentElement.scrollWidth") <= width
    tab.resize(1280, 900)


def test_light_and_dark(tab: Tab) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.body).color"
    tab.dark(False)
    light = tab.ask(paper), tab.ask(ink)
    tab.dark(True)
    dark = tab.ask(paper), tab.ask(ink)
    tab.dark(False)
    assert light[0] == "rgb(255, 255, 255)"
    assert sum(map(int, dark[0][4:-1].split(","))) < 150
    assert sum(map(int, dark[1][4:-1].split(","))) > 600


def test_a_page_of_anchors_alone(browser_tab: Tab, folder: Path) -> None:
    quick = ["--presets", "ultrafast", "--crfs", "22,46", "--codecs", "x264", "--frames", "3"]
    output = folder / "anchors"
    arguments = ["compare", str(folder / "clip.mp4"), *quick, "-o", str(output), "-q"]
    cli.main(arguments, standalone_mode=False)
    browser_tab.faults.clear()
    browser_tab.open(output / "index.html")
    assert browser_tab.ask("document.querySelectorAll('[data-point]').length") == 2
    for name in ("pictures", "bytes", "equal"):
        assert browser_tab.ask(f"document.getElementById('{name}').hidden")
    assert browser_tab.faults == []


def test_faults_are_noticed(browser_tab: Tab, tmp_path: Path) -> None:
    """Or every test above would pass on nothing."""
    page = tmp_path / "broken.html"
    page.write_text("<script>console.error('so'); undefinedThing()</script><img src=missing.png>")
    browser_tab.faults.clear()
    browser_tab.open(page)
    browser_tab.ask("1")
    assert len(browser_tab.faults) >= 3
    browser_tab.faults.clear()


def test_the_clip_is_learnt_well_enough_to_tell_frames_apart(folder: Path) -> None:
    with nervcodec.open(folder / "ours-8000.hfsv") as clip:
        assert psnr(brightening(FRAMES)[9], clip[9]) > 18
