"""The report in a real browser: nothing fetched, nothing in the console, plots to be seen, narrow and wide."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepmemory.backends.base import Ranking
from deepmemory.data import LabelledQueries
from deepmemory.evaluation import Evaluation, evaluate_rankings
from deepmemory.report import save_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

HOSTILE = (
    '</title></style></svg><script>document.title="injected"</script><img src=http://127.0.0.1:9/x onerror=alert(1)>'
)
LONG = "unbroken" * 60


# The protocol fixes the numbers of the two descriptors: commands are read from 3, and replies are written to 4.
LAUNCH = """
import os, sys
os.dup2(int(sys.argv[1]), 20); os.dup2(int(sys.argv[2]), 21)
os.dup2(20, 3); os.dup2(21, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """A headless Chromium, spoken to in its DevTools protocol over a pair of pipes."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        commands, self._out = os.pipe()
        self._in, replies = os.pipe()
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        command = [CHROMIUM, *flags, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(commands), str(replies), *command],
            pass_fds=(commands, replies),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(replies)
        self._numbers = itertools.count(1)
        self._buffer = b""
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session: str | None = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    _session = None

    def send(self, method: str, **params: object) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (reply := self._receive()).get("id") != number:
            self.events.append(reply)
        assert "error" not in reply, reply
        return reply["result"]  # type: ignore[no-any-return]

    def open(self, page: Path, *, width: int, dark: bool) -> None:
        self.events.clear()
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = "dark" if dark else "light"
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.send("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def evaluate(self, expression: str) -> Any:
        return self.send("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def screenshot(self, path: Path) -> None:
        image = self.send("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(image))

    def requests(self) -> list[str]:
        sent = [event["params"] for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [params["request"]["url"] for params in sent]

    def complaints(self) -> list[dict[str, Any]]:
        loud = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening")
        return [event for event in self.events if event.get("method") in loud]

    def close(self) -> None:
        self._session = None
        os.write(self._out, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
        self._process.wait(timeout=30)
        os.close(self._out)
        os.close(self._in)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            read = os.read(self._in, 1 << 16)
            assert read, "Chromium ended"
            self._buffer += read
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def evaluation_of(n: int) -> Evaluation:
    """Queries whose right answer moves up for most and down for some, among 120 documents."""
    rng = np.random.default_rng(7)
    ids = [f"doc{number}" for number in range(120)]

    def rankings(shift: float) -> list[Ranking]:
        scores = rng.normal(size=(n, len(ids)))
        scores[np.arange(n), np.arange(n) % len(ids)] += shift * rng.random(n)
        order = np.argsort(-scores, axis=1)[:, :100]
        return [
            Ranking(tuple(ids[place] for place in row), np.sort(rng.random(100, np.float32))[::-1]) for row in order
        ]

    queries = [f"How is thing number {row} done?" for row in range(n)]
    queries[0], queries[-1] = f"{HOSTILE} {LONG}", HOSTILE
    return evaluate_rankings(
        LabelledQueries(tuple(queries), tuple({ids[row % len(ids)]: 1.0} for row in range(n))),
        rankings(2.5),
        rankings(6.0),
        seen_ids=ids[:50],
        training_queries=[queries[-1]],
        n_documents=len(ids),
        document_text=lambda wanted: {id_: f"{HOSTILE} What {id_} says. {LONG} " * 3 for id_ in wanted},
    )


VISIBLE = """
[...document.querySelectorAll('figure svg')]
  .filter(svg => getComputedStyle(svg.parentElement).display !== 'none')
  .map(svg => [svg.getBoundingClientRect(), svg.querySelectorAll('*').length])
  .map(([box, marks]) => [box.width, box.height, marks])
"""

CONTRAST = """
[...document.querySelectorAll('figure .line-with, figure .line-without, figure .dot-with')].map(mark => {
  const style = getComputedStyle(mark), paint = mark.matches('.dot-with') ? style.fill : style.stroke
  return [paint, getComputedStyle(mark.closest('section')).backgroundColor]
})
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_page_stands_alone_and_shows_its_plots(browser: Browser, tmp_path: Path, width: int, dark: bool) -> None:
    page = save_report(evaluation_of(300), tmp_path / "report.html", title=f"A title {HOSTILE}")
    browser.open(page, width=width, dark=dark)
    plots = browser.evaluate(VISIBLE)
    if shots := os.environ.get("DEEPMEMORY_SCREENSHOTS"):
        browser.screenshot(Path(shots) / f"report-{width}-{'dark' if dark else 'light'}.png")
    outside = [url for url in browser.requests() if url != page.as_uri() and not url.startswith("data:")]
    assert outside == []
    assert browser.complaints() == []
    assert len(plots) == 4
    assert all(shown > 200 and tall > 80 and marks > 10 for shown, tall, marks in plots), plots
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    assert browser.evaluate("document.title") == f"A title {HOSTILE}"
    assert browser.evaluate("document.querySelectorAll('script, img').length") == 0
    assert all(luminance_ratio(paint, ground) >= 3 for paint, ground in browser.evaluate(CONTRAST))


def luminance_ratio(one: str, other: str) -> float:
    """WCAG's contrast of two CSS colours, ``rgb(r, g, b)``."""

    def luminance(colour: str) -> float:
        channels = np.array([int(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)
