"""The explorer in headless Chromium: answers, uploads, widths, and that nothing leaves this machine or stays on it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

pytest.importorskip("gradio")

PATIENCE = 120
"""Seconds until what should have happened counts as failed; a busy machine takes many for gradio alone."""

SIDE = 16

SERVER = f"""
import sys
import numpy as np
from pathlib import Path
from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.domains.source import read_image
from synthfair_hf.publish.explorer.figures import Leaderboard
from synthfair_hf.publish.explorer.page import Explored, explore
from synthfair_hf.publish.stored import StoredDataSet

class Inverting:
    '''A stand-in for a generator, which has no torch to import: what would have been is the negative.'''
    preset, may_lack = CHEST_XRAY, ("scanner",)
    def read(self, file):
        path = Path(sys.argv[3])
        path.write_bytes(file)
        try:
            return read_image(path, {SIDE}, own_size=True)
        finally:
            path.unlink()
    def drawn(self, covariates, do, seed):
        image = np.random.default_rng(seed).random(({SIDE}, {SIDE}))
        return image, *self.counterfactual(image, covariates, do, seed)
    def counterfactual(self, image, covariates, do, seed):
        return 1 - image, {{**covariates, **do}}

explored = Explored(Inverting(), None, StoredDataSet.read(Path(sys.argv[1])), Leaderboard(Path(sys.argv[2])))
explore(explored, lambda address: print(address, flush=True))
"""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    """Where the server's temporary files would be."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def address(store, scratch) -> Iterator[str]:
    board = Path(__file__).parents[2] / "docs" / "benchmark" / "chest_xray"
    command = [sys.executable, "-c", SERVER, str(store), str(board), str(scratch / "radiograph")]
    places = dict.fromkeys(("TMPDIR", "GRADIO_TEMP_DIR"), str(scratch))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **places}) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


@pytest.fixture
def page(browser, address) -> webdriver.Chrome:
    browser.get(address)
    wait(browser, lambda: pictures(browser))
    return browser


def wait(browser: webdriver.Chrome, condition: Callable[[], object]) -> None:
    WebDriverWait(browser, PATIENCE, 0.1).until(lambda _: condition())


def pictures(browser: webdriver.Chrome) -> list[str]:
    return browser.execute_script("return [...document.querySelectorAll('#answer img')].map(one => one.src)")


def ask(browser: webdriver.Chrome, file: Path) -> None:
    browser.find_element(By.ID, "upload").send_keys(str(file))
    browser.execute_script("document.getElementById('ask').click()")


def test_an_upload_is_answered_and_nothing_of_it_stays(page, scratch, tmp_path):
    first = pictures(page)
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "radiograph.png")
    ask(page, tmp_path / "radiograph.png")
    wait(page, lambda: "Uploaded radiograph" in page.find_element(By.ID, "answer").text)
    assert len(pictures(page)) == 3
    assert pictures(page) != first
    assert all(one.startswith("data:image/png;base64,") for one in pictures(page))
    assert [path for path in scratch.rglob("*") if path.is_file()] == []


def test_a_file_that_is_no_image_is_one_sentence(page, tmp_path):
    (tmp_path / "notes.png").write_bytes(b"no image")
    ask(page, tmp_path / "notes.png")
    wait(page, lambda: page.find_elements(By.CSS_SELECTOR, "#answer .wrong"))
    told = page.find_element(By.CSS_SELECTOR, "#answer .wrong").text
    assert "not a readable image" in told
    page.find_element(By.ID, "remove").click()
    page.execute_script("document.getElementById('ask').click()")
    wait(page, lambda: "Drawn image" in page.find_element(By.ID, "answer").text)


@pytest.mark.parametrize("width", [390, 1280])
def test_no_tab_is_wider_than_the_window_and_nothing_is_asked_of_others(page, address, width):
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for tab in page.find_elements(By.CSS_SELECTOR, "button[role=tab]"):
            wait(page, lambda tab=tab: tab.is_displayed())
            page.execute_script("arguments[0].click()", tab)
            wait(page, lambda tab=tab: tab.get_attribute("aria-selected") == "true")
            assert page.execute_script("return document.documentElement.scrollWidth") <= width
        loaded = page.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
        assert loaded
        assert all(name.startswith((address, "data:", "blob:")) for name in loaded)
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/file=/etc/passwd", "/gradio_api/run/predict"])
def test_nothing_is_stored_or_served(address, path):
    connection = HTTPConnection("127.0.0.1", int(address.rstrip("/").rpartition(":")[2]), timeout=PATIENCE)
    for method in ("GET", "POST"):
        connection.request(method, path, b"{}" if method == "POST" else None, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        assert response.status in (404, 405)
    connection.close()
