"""The demo in a real Chromium: with a mouse, with the keyboard, on a phone, with hostile files, without a network.

SCREENSHOTS=FOLDER keeps pictures of it.
"""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from served import served

import hybrid_vit
from hybrid_vit.deploy.measured import read_examples
from hybrid_vit.utils.paths import PUBLISHED, published

LABEL = "document.querySelector('[data-testid=label-output-value]').innerText.trim()"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
pytest.importorskip("gradio", reason="needs gradio: pip install -e '.[demo]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    command = ["-m", "hybrid_vit.demo", "model=fast_4m", "port=PORT"]
    with served(command, folder, XDG_CACHE_HOME=str(folder), GRADIO_TEMP_DIR=str(folder / "files")) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as library:
        browser = library.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[1280, 390])
def page(request: pytest.FixtureRequest, browser: Any, address: str) -> Iterator[Any]:
    """The page, at the width of a computer and of a phone; everything it asks for is of its own address."""
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    page.set_default_timeout(90_000)
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.get_by_label("Noise").first.wait_for()
    yield page
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert errors == []
    if folder := os.environ.get("SCREENSHOTS"):
        name = request.node.name.replace("[", "_").replace("]", "")
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)
    page.close()


def upload(page: Any, path: Path) -> None:
    page.locator("input[type=file]").first.set_input_files(str(path))


def answered(page: Any) -> str:
    """The most probable class, when the maps are there too."""
    page.locator(".figures figure").nth(2).wait_for()
    return page.locator("[data-testid=label-output-value]").inner_text().strip()


@pytest.fixture(scope="module")
def apple(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A test image of CIFAR-100."""
    path = tmp_path_factory.mktemp("apple") / "apple.png"
    read_examples(PUBLISHED / "fast_4m" / "examples.png", 100)[0].save(path)
    return path


def test_upload_click_read(page: Any, apple: Path) -> None:
    upload(page, apple)
    expected = hybrid_vit.load("fast_4m").predict(apple).label
    assert answered(page) == expected
    page.get_by_text("Attention rollout over 3 x 3 cells").wait_for()
    page.get_by_text("The images of cifar100 are not in data").first.wait_for()
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= page.viewport_size["width"]  # nothing to scroll to the right
    page.locator("#examples button").nth(8).click()
    page.wait_for_function(f"before => {LABEL} != before", arg=expected)


def test_an_example_that_is_chosen_before_the_page_is_whole(page: Any, address: str) -> None:
    page.goto(address, wait_until="commit")
    page.locator("#examples button").first.click()
    page.wait_for_function("document.querySelectorAll('.figures img').length >= 3")
    time.sleep(1)  # and it stays
    assert page.locator(".figures img").count() >= 3


def test_the_keyboard_is_enough(page: Any, apple: Path) -> None:
    upload(page, apple)
    answered(page)
    before = page.locator(".figures img").first.get_attribute("src")
    slider = page.get_by_role("slider", name="Fog").first
    slider.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("src => document.querySelector('.figures img').src != src", arg=before)
    page.keyboard.press("Home")
    page.get_by_label("Model", exact=True).focus()  # which opens the list
    for _ in range(1 + [run.name for run in published() if run.name != "fast_4m"].index("cifar110")):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.get_by_text("110 classes of cifar110").wait_for()
    example = page.locator("#examples button").nth(109)
    example.focus()
    page.keyboard.press("Enter")
    page.wait_for_function(f"{LABEL} == 'truck'")


def test_a_pasted_image(page: Any, apple: Path) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate(
        """async content => {
            const image = new Blob([new Uint8Array(content)], {type: "image/png"});
            await navigator.clipboard.write([new ClipboardItem({"image/png": image})]);
        }""",
        [*apple.read_bytes()],
    )
    page.get_by_role("button", name="Paste from clipboard").click()
    assert answered(page)


def test_hostile_files(page: Any, apple: Path, tmp_path: Path) -> None:
    (tmp_path / "noise.png").write_bytes(np.random.default_rng(0).bytes(10_000_000))
    shutil.make_archive(str(tmp_path / "packed"), "zip", apple.parent)
    (tmp_path / "packed.zip").rename(tmp_path / "packed.png")
    Image.new("RGB", (20_000, 20_000)).save(tmp_path / "bomb.png", compress_level=1)
    for name in ("noise.png", "bomb.png", "packed.png", "bomb.png"):
        upload(page, tmp_path / name)
        sentence = page.get_by_role("alert").filter(has_text=name)
        sentence.wait_for()
        assert "cannot be read as an image" in sentence.inner_text()
        assert "\n" not in sentence.inner_text().strip()
        page.locator("#picture .image-frame").wait_for(state="detached")  # no browser has to show it
    (tmp_path / "long.png").write_bytes(bytes(26 << 20))
    upload(page, tmp_path / "long.png")
    page.get_by_text("exceed the maximum allowed size").first.wait_for()
    time.sleep(1)
    upload(page, apple)
    assert answered(page)
    assert not page.get_by_role("alert").filter(has_text="cannot be read").count()
