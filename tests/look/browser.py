"""A real headless Chromium without a network, driven through its own protocol over a pipe: no library is needed."""

import json
import os
import shutil
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: Seconds for one answer or for something to come true on a page; a busy machine needs many.
PATIENCE = 30.0


def executable() -> str | None:
    """The path of Chromium: PYEXP_CHROMIUM, or the first that there is; None if there is none."""
    return os.environ.get("PYEXP_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Tab:
    """One page of the browser, and all that it has said."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._rest = b""
        self._number = 0
        self._session = ""
        #: Errors, warnings and exceptions, and the addresses that were asked for.
        self.said: list[str] = []
        self.asked: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
        self.call("Emulation.setDeviceMetricsOverride", width=1400, height=1000, deviceScaleFactor=1, mobile=False)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What the browser answers to a command."""
        self._number += 1
        asked = {"id": self._number, "method": method, "params": parameters}
        asked |= {"sessionId": self._session} if self._session else {}
        os.write(self._commands, json.dumps(asked).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return dict(answer["result"])
            self._hear(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._answers, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))

    def _hear(self, event: dict[str, Any]) -> None:
        told = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.said.append(json.dumps(told["exceptionDetails"])[:2000])
            case "Runtime.consoleAPICalled":
                self.said.append(f"{told['type']}: {json.dumps(told['args'])[:2000]}")
            case "Log.entryAdded":
                self.said.append(f"{told['entry']['level']}: {told['entry']['text']}")
            case "Network.requestWillBeSent":
                self.asked.append(told["request"]["url"])

    def open(self, path: Path) -> None:
        """Open a file."""
        self.call("Page.navigate", url=path.as_uri())

    def run(self, expression: str) -> Any:
        """The value of an expression of JavaScript, awaited."""
        made = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in made, made["exceptionDetails"]
        return made["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        last = time.monotonic() + PATIENCE
        while not self.run(f"Boolean({expression})"):
            assert time.monotonic() < last, f"never came true: {expression}; the page said {self.said}"
            time.sleep(0.05)

    def point(self, selector: str) -> tuple[float, float]:
        """The middle of an element, scrolled into view."""
        self.run(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        box = self.run(
            f"(() => {{const box = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]})()"
        )
        return box[0], box[1]

    def move(self, x: float, y: float) -> None:
        """Move the mouse."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, selector: str) -> None:
        """Click on an element with the mouse."""
        x, y = self.point(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, selector: str, text: str) -> None:
        """Type a text into an input, in the place of what is there."""
        self.click(selector)
        self.run(f"document.querySelector({json.dumps(selector)}).select()")
        self.call("Input.insertText", text=text)

    def picture(self, path: Path, whole: bool = True) -> None:
        """Save a screenshot."""
        path.write_bytes(b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]))


@contextmanager
def tab(folder: Path) -> Iterator[Tab]:
    """A tab of a browser of its own, with its profile in the folder; the browser ends with the block."""
    program = executable()
    assert program is not None
    commands, write = os.pipe()
    read, answers = os.pipe()

    # The browser reads from 3 and writes to 4.
    placed = f'exec "$@" 3<&{commands} 4>&{answers}'
    browser = subprocess.Popen(
        ["bash", "-c", placed, "bash", program, "--headless=new", "--remote-debugging-pipe", "--no-first-run",
         f"--user-data-dir={folder}", "--host-resolver-rules=MAP * ~NOTFOUND", "--disable-gpu",
         "--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])],
        pass_fds=(commands, answers), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        os.close(commands)
        os.close(answers)
        yield Tab(write, read)
    finally:
        browser.kill()
        browser.wait()
        os.close(write)
        os.close(read)
