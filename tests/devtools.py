"""A headless Chromium driven over its DevTools pipe: real mouse and keys, pages from file://."""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from browser import FLAGS, PATIENCE

BUTTON_LEFT = {"button": "left", "buttons": 1, "clickCount": 1}


AS_3_AND_4 = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for number, end in zip((3, 4), ends):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Starts Chromium with its commands on descriptor 3 and its answers on 4, where it wants them."""


class PageFault(AssertionError):
    """The page threw, logged an error or asked for what it could not get."""


class Tab:
    """One page; as a context manager around its use. ``faults`` gathers what went wrong in it."""

    def __init__(self, browser: str, profile: Path, width: int = 1280, height: int = 900) -> None:
        to_child, self._write = os.pipe()
        self._read, from_child = os.pipe()
        command = [browser, *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", AS_3_AND_4, str(to_child), str(from_child), *command],
            pass_fds=(to_child, from_child),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_child)
        os.close(from_child)
        self._buffer = b""
        self._count = 0
        self._events: list[dict[str, Any]] = []
        self.faults: list[str] = []
        self._session: str | None = None
        try:
            self._attach(width, height)
        except BaseException:
            self.close()
            raise

    def _attach(self, width: int, height: int) -> None:
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.resize(width, height)

    def __enter__(self) -> Tab:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End Chromium."""
        os.close(self._write)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (reply := self._receive()).get("id") != self._count:
            self._note(reply)
        if "error" in reply:
            raise PageFault(f"{method}: {reply['error']}")
        result: dict[str, Any] = reply["result"]
        return result

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0, end - time.monotonic()))
            block = os.read(self._read, 1 << 20) if ready else b""
            if not block:
                raise PageFault("Chromium does not answer")
            self._buffer += block
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _note(self, event: dict[str, Any]) -> None:
        method, values = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.faults.append(json.dumps(values["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and values["type"] in ("error", "warning"):
            self.faults.append(json.dumps(values["args"]))
        elif method == "Log.entryAdded" and values["entry"]["level"] == "error":
            self.faults.append(values["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            url = values["request"]["url"]
            if not url.startswith(("file:", "blob:", "data:", "about:")):
                self.faults.append(f"asks the network for {url}")
        elif method == "Page.loadEventFired":
            self._events.append(event)

    def open(self, path: Path) -> None:
        """Load a page from its file."""
        self.send("Page.navigate", url=path.absolute().as_uri())
        while not self._events:
            self._note(self._receive())
        self._events.clear()

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression, which may be a promise."""
        reply = self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in reply:
            raise PageFault(json.dumps(reply["exceptionDetails"]))
        return reply["result"].get("value")

    def wait(self, expression: str, seconds: float = 30) -> None:
        """Until the expression is true."""
        end = time.monotonic() + seconds
        while not self.ask(expression):
            if time.monotonic() > end:
                raise PageFault(f"never came true: {expression}; {self.faults}")
            time.sleep(0.05)

    def box(self, selector: str) -> dict[str, float]:
        """Where an element is in the window, after scrolling to it."""
        found: dict[str, float] = self.ask(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            "return {x: b.x, y: b.y, width: b.width, height: b.height}; })()"
        )
        return found

    def mouse(self, kind: str, x: float, y: float, **options: Any) -> None:
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **options)

    def hover(self, selector: str) -> None:
        box = self.box(selector)
        self.mouse("mouseMoved", box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    def click(self, selector: str, across: float = 0.5, down: float = 0.5) -> None:
        """At a share of an element's width and height."""
        box = self.box(selector)
        x, y = box["x"] + across * box["width"], box["y"] + down * box["height"]
        self.mouse("mousePressed", x, y, **BUTTON_LEFT)
        self.mouse("mouseReleased", x, y, **BUTTON_LEFT)

    def drag(self, selector: str, start: float, end: float) -> None:
        """Across an element, at half its height."""
        box = self.box(selector)
        y = box["y"] + box["height"] / 2
        places = [box["x"] + share * box["width"] for share in (start, (start + end) / 2, end)]
        self.mouse("mousePressed", places[0], y, **BUTTON_LEFT)
        for x in places[1:]:
            self.mouse("mouseMoved", x, y, **BUTTON_LEFT)
        self.mouse("mouseReleased", places[-1], y, **BUTTON_LEFT)

    def key(self, name: str) -> None:
        text = {"text": name} if len(name) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=name, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=name)

    def resize(self, width: int, height: int) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def dark(self, on: bool) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if on else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """A PNG of the window, or of the whole page."""
        data = self.send("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))
