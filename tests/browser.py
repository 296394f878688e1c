"""A headless Chromium for tests of pages, driven over its DevTools pipe: what the page asks for, what its console says, how wide it is."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]


def chromium() -> str | None:
    """Where Chromium is, if it is."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@dataclass
class Seen:
    """What happened while a page was open. `requests`: every address but data: URIs. `console`: errors, warnings and exceptions."""

    requests: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


class Browser:
    """A context: the process lives as long as it."""

    def __init__(self, program: str) -> None:
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        there, self._write = os.pipe()
        self._read, back = os.pipe()
        # Chromium reads commands from descriptor 3 and answers on 4
        command = [
            "bash",
            "-c",
            f'exec "$0" "$@" 3<&{there} 4>&{back}',
            program,
            *FLAGS,
            f"--user-data-dir={self.folder.name}",
            "about:blank",
        ]
        self._process = subprocess.Popen(command, pass_fds=(there, back), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(there)
        os.close(back)
        self._rest, self._number, self.events = b"", 0, []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None:
                self.ask("Browser.close")
        finally:
            os.close(self._write)
            os.close(self._read)
            self._process.terminate()
            self._process.wait(10)
            self.folder.cleanup()

    def ask(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """The answer to a command of the DevTools protocol; events on the way are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (heard := self._next()).get("id") != self._number:
            self.events.append(heard)
        assert "error" not in heard, f"{method}: {heard['error']}"
        return heard["result"]

    def wait_for(self, method: str) -> None:
        """Until that event has been heard."""
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._read, 1 << 20)
            assert part, "Chromium has ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def search(self, page: Path, word: str) -> list[str]:
        """The addresses that the search of the documentation's site finds for a word, best first; none after ten seconds."""
        target = self.ask("Target.createTarget", url=f"{page.as_uri()}?q={word}")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        asked = "[...document.querySelectorAll('a.md-search-result__link')].map(link => link.href)"
        deadline = time.monotonic() + 10
        found: list[str] = []
        while not found and time.monotonic() < deadline:
            time.sleep(0.1)
            found = self.ask("Runtime.evaluate", session, expression=asked, returnByValue=True)["result"]["value"]
        self.ask("Target.closeTarget", targetId=target)
        return found

    def visit(
        self, page: Path, *, width: int, height: int = 900, dark: bool = False, picture: Path | None = None, paper: Path | None = None
    ) -> Seen:
        """Open a file at a width in CSS pixels; keep a screenshot of the whole page, or a PDF of it, where asked."""
        self.events.clear()
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable", session)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.ask("Emulation.setDeviceMetricsOverride", session, **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", session, features=[scheme])
        self.ask("Page.navigate", session, url=page.as_uri())
        self.wait_for("Page.loadEventFired")
        asked = (
            "({wide: document.documentElement.scrollWidth, inner: document.documentElement.clientWidth,"
            "height: document.documentElement.scrollHeight, ran: window.ran === undefined ? 'no' : 'yes',"
            "broken: [...document.images].filter(i => !i.naturalWidth).length, images: document.images.length,"
            "cut: [...document.querySelectorAll('table')].filter(t => t.offsetWidth > t.parentElement.clientWidth).map(t => t.innerText),"
            "paper: getComputedStyle(document.body).backgroundColor})"
        )
        facts = self.ask("Runtime.evaluate", session, expression=asked, returnByValue=True)["result"]["value"]
        if picture:
            clip = {"x": 0, "y": 0, "width": width, "height": facts["height"], "scale": 1}
            shot = self.ask("Page.captureScreenshot", session, captureBeyondViewport=True, clip=clip)
            picture.write_bytes(base64.b64decode(shot["data"]))
        if paper:
            paper.write_bytes(base64.b64decode(self.ask("Page.printToPDF", session, preferCSSPageSize=True)["data"]))
        self.ask("Target.closeTarget", targetId=target)
        return Seen(list(_requests(self.events)), list(_said(self.events)), facts)


def _requests(events: list[dict[str, Any]]) -> Iterator[str]:
    for event in events:
        if event.get("method") == "Network.requestWillBeSent" and not (url := event["params"]["request"]["url"]).startswith("data:"):
            yield url


def _said(events: list[dict[str, Any]]) -> Iterator[str]:
    for event in events:
        params = event.get("params", {})
        if event.get("method") == "Log.entryAdded":
            yield f"{params['entry']['level']}: {params['entry']['text']}"
        elif event.get("method") == "Runtime.consoleAPICalled":
            yield f"{params['type']}: {params['args']}"
        elif event.get("method") == "Runtime.exceptionThrown":
            yield f"exception: {params['exceptionDetails']['text']}"
