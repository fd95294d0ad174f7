"""The page in headless Chromium: keys alone, a killed server, two annotators, and what is to be seen."""

import io
import json
import socket
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
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from synthfair_hf.align.labelling.page import _Posted
from synthfair_hf.errors import reason

PATIENCE = 120
"""Seconds until what should have happened counts as failed; a busy machine takes many for gradio alone."""


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


@pytest.mark.parametrize("width", [390, 640, 1280])
def test_nothing_is_wider_than_the_window(browser, server, width):
    tab = Tab(browser, server, "ada")
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        tab.wait(lambda: browser.execute_script("return innerWidth") == width)
        beyond = (
            "return [...document.querySelectorAll('#pair, #pair *, #keys *, #comment, #research-only')]"
            ".filter(one => one.getBoundingClientRect().right > document.documentElement.clientWidth + 1)"
            ".map(one => one.outerHTML.slice(0, 60))"
        )
        assert browser.execute_script(beyond) == []
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


JSON = {"Content-Type": "application/json"}
JOIN = "/gradio_api/queue/join"


def ask(server: Server, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Status and body of a request of a program that is no browser, or that pretends to be one."""
    connection = HTTPConnection("127.0.0.1", int(server.address.rstrip("/").rpartition(":")[2]), timeout=PATIENCE)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1", ""]
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/config"), ("POST", JOIN)])
def test_a_name_that_another_server_gave_this_address_is_not_answered(server, host, method, path):
    status, body = ask(server, method, path, b"{}" if method == "POST" else None, Host=host, **JSON)
    assert status == 400
    assert b"radiograph" not in body


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "localhost:7860"])
def test_names_of_this_machine_are_answered(server, host):
    assert ask(server, "GET", "/", Host=host)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://127.0.0.1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_another_origin_can_neither_read_nor_answer(server, headers):
    before = server.answers.read_bytes() if server.answers.exists() else b""
    for method, path in (("POST", JOIN), ("GET", "/config"), ("GET", "/gradio_api/queue/data")):
        assert ask(server, method, path, b"{}" if method == "POST" else None, **JSON, **headers)[0] == 403
    assert (server.answers.read_bytes() if server.answers.exists() else b"") == before


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_what_a_form_elsewhere_could_send_is_not_read(server, kind):
    assert ask(server, "POST", JOIN, b"{}", Content_Type=kind)[0] == 415
    assert ask(server, "POST", JOIN, b"{}")[0] == 415


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/gradio_api/upload",
            "/upload",
            "/gradio_api/file=/etc/passwd",
            "/file=/etc/passwd",
            "/gradio_api/file_fetch",
        ),
        *("/gradio_api/upload_progress?upload_id=1", "/gradio_api/proxy=http://10.0.0.1/", "/openapi.json", "/docs"),
        *("/gradio_api/component_server", "/gradio_api/stream/a", "/login", "/gradio_api/deep_link", "/monitoring"),
        *("/assets/../../../etc/passwd", "/assets/%2e%2e/%2e%2e/etc/passwd", "/static/..%2f..%2fetc/passwd"),
        *("/gradio_api/run/predict", "/gradio_api/call/answer", "/gradio_api/api/predict", "//evil.example/"),
    ],
)
def test_nothing_is_uploaded_and_no_file_is_served(server, path):
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
        status, body = ask(server, method, path, b"{}" if method == "POST" else None, **JSON)
        assert status in (404, 405), (method, status)
        assert b"root:" not in body


@pytest.mark.parametrize("size", [2**16 + 1, 2**24])
def test_a_large_body_is_refused(server, size):
    try:
        status, _ = ask(server, "POST", JOIN, b" " * size, **JSON)
    except (BrokenPipeError, ConnectionResetError):
        return
    assert status == 413


@pytest.mark.parametrize(
    "body",
    [
        *(b'{"fn_index": %d, "data": [{}, ""], "session_hash": "a"}' % one for one in (99, -1)),
        b'{"fn_index": "0", "data": [], "session_hash": "a"}',
        b'{"fn_index": 0, "data": {}, "session_hash": "a"}',
        b'{"fn_index": 0, "data": [{}, "\\ud800"], "session_hash": "a"}',
        *(b"{}", b"[]", b"null", b"{", b"\xff", b"[" * 20_000),
    ],
)
def test_what_the_page_does_not_post_is_one_sentence(server, body):
    assert ask(server, "POST", JOIN, body, **JSON) == (422, b"not a request of this page")


@pytest.mark.parametrize("comment", [None, [], {}, 1, "x" * 3000])
@pytest.mark.parametrize("seconds", [1.5, "1", float("nan"), -1, None])
def test_an_answer_that_is_none_is_told_in_our_words(comment, seconds):
    with pytest.raises(ValueError, match="validation error") as raised:
        _Posted.model_validate({"annotator": "ada", "token": "t", "seconds": seconds, "comment": comment})
    told = reason(raised.value, "answer", _Posted.model_fields)
    assert told.startswith(("comment: ", "seconds: "))
    assert "Input should" not in told


def test_every_response_restricts_the_browser_to_this_server(server):
    connection = HTTPConnection("127.0.0.1", int(server.address.rstrip("/").rpartition(":")[2]), timeout=PATIENCE)
    for path in ("/", "/nowhere"):
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        assert "default-src 'self'" in response.headers["content-security-policy"]
        assert response.headers["access-control-allow-origin"] is None
    connection.close()
