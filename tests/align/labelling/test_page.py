"""The page in headless Chromium: keys alone, a killed server, two annotators, and what is to be seen."""

import io
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 120
"""Seconds until what should have happened counts as failed; a busy machine takes many for gradio alone."""


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    paths = [shutil.which("chromium"), shutil.which("chromedriver")]
    if None in paths:
        reason = "chromium or chromedriver is missing; install Debian's packages chromium and chromium-driver."
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = str(paths[0])
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(paths[1])))
    yield driver
    driver.quit()


class Server:
    """The page for ada and ben on a free port of this machine."""

    def __init__(self, candidates: Path, answers: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address, self.answers = f"http://127.0.0.1:{port}/", answers
        self.command = [sys.executable, "-m", "synthfair_hf.cli", "label", "--candidates", str(candidates)]
        self.command += ["--output_file", str(answers), "--annotator", "ada", "ben", "--port", str(port)]

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        while not (line := self.process.stdout.readline()).startswith("answers:"):
            assert line, "the server ended"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def told(self) -> list[tuple[str, str]]:
        return [(line["annotator"], line["answer"]) for line in map(json.loads, self.answers.read_text().splitlines())]


@pytest.fixture(scope="module")
def server(write_candidates, tmp_path_factory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("page")
    one = Server(write_candidates(directory / "candidates", side=32), directory / "answers.jsonl")
    one.start()
    yield one
    one.kill()


class Tab:
    """One annotator's tab, driven by keys alone."""

    def __init__(self, browser: webdriver.Chrome, server: Server, name: str) -> None:
        browser.switch_to.new_window("tab")
        self.browser, self.handle, self.address = (
            browser,
            browser.current_window_handle,
            f"{server.address}?annotator={name}",
        )
        self.open()

    def open(self) -> None:
        self.look()
        self.browser.get(self.address)
        self.wait(lambda: self.token())

    def look(self) -> None:
        self.browser.switch_to.window(self.handle)

    def wait(self, condition: Callable[[], object]) -> None:
        WebDriverWait(self.browser, PATIENCE, 0.1).until(lambda _: condition())

    def token(self) -> str:
        return self.browser.execute_script("return document.querySelector('#pair[data-token]')?.dataset.token ?? ''")

    def press(self, *keys: str) -> None:
        webdriver.ActionChains(self.browser).send_keys(*keys).perform()

    def say(self, *keys: str) -> None:
        """Press, and wait for what is shown then."""
        self.look()
        before = self.token()
        self.press(*keys)
        self.wait(lambda: self.token() not in ("", before))

    def text(self) -> str:
        self.look()
        return self.browser.find_element(By.ID, "pair").text

    def radiographs(self, width: int, height: int) -> list[np.ndarray]:
        """The window as it is seen, cut to the left radiograph and to the right one; the buttons must be seen, too."""
        self.browser.set_window_size(width, height)
        seen = Image.open(io.BytesIO(self.browser.get_screenshot_as_png())).convert("L")
        for key in ("left", "right", "tie", "reject", "undo"):
            box = self.browser.find_element(By.ID, f"key-{key}").rect
            assert box["y"] + box["height"] <= seen.height
        boxes = [self.browser.find_element(By.ID, f"radiograph-{side}").rect for side in ("left", "right")]
        sides = {round(box[name]) for box in boxes for name in ("width", "height")}
        assert len(sides) == 1, "both are squares of one size"
        assert min(sides) > 0.4 * min(width, height)
        return [
            np.array(seen.crop((box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"])))
            for box in boxes
        ]


def test_names_are_offered_as_links_for_the_keyboard(browser, server):
    browser.get(server.address)
    WebDriverWait(browser, PATIENCE).until(lambda _: browser.find_elements(By.CSS_SELECTOR, "#pair.who a"))
    webdriver.ActionChains(browser).send_keys(Keys.TAB, Keys.ENTER).perform()
    WebDriverWait(browser, PATIENCE).until(lambda _: browser.find_elements(By.CSS_SELECTOR, "#pair.open"))
    assert "annotator=ada" in browser.current_url


def test_keys_alone_label_pairs_through_a_crash_and_two_tabs_do_not_mix(browser, server):
    ada = Tab(browser, server, "ada")
    for size in ((1280, 800), (800, 1000)):
        radiographs = ada.radiographs(*size)
        assert all(radiograph.std() > 1 for radiograph in radiographs)
        assert (
            min(radiograph.mean() for radiograph in radiographs)
            < 110
            < 140
            < max(radiograph.mean() for radiograph in radiographs)
        )
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
    assert loaded
    assert all(name.startswith((server.address, "data:", "blob:")) for name in loaded)
    # every `first` is dark and every `second` light, so what is seen tells what the key means
    expected = []
    for key in "12":
        left, right = ada.radiographs(1280, 800)
        first = (left if key == "1" else right).mean() < (right if key == "1" else left).mean()
        expected.append(("ada", "first" if first else "second"))
        ada.say(key)
    ada.say("t")
    expected.append(("ada", "tie"))
    assert server.told() == expected
    assert "3 of 6 answered" in ada.text()

    server.kill()
    server.start()
    ada.open()
    assert "3 of 6 answered" in ada.text()
    ben = Tab(browser, server, "ben")
    assert "0 of 6 answered" in ben.text()
    ben.say("r")
    ada.say("r")
    ada.say("u")
    ben.say("u")
    assert server.told() == [*expected, ("ben", "reject"), ("ada", "reject"), ("ada", "undo"), ("ben", "undo")]
    ada.say("c", "1 2 turned", Keys.ESCAPE, "t")
    told = json.loads(server.answers.read_text().splitlines()[-1])
    assert (told["annotator"], told["answer"], told["comment"]) == ("ada", "tie", "1 2 turned")
    assert 0 <= told["seconds"] < PATIENCE
    assert "4 of 6 answered" in ada.text()
    assert "0 of 6 answered" in ben.text()
    ada.say("t")
    ada.say("t")
    assert "All 6 pairs are answered" in ada.text()
