"""Chromium without a window, driven by its own protocol: what a page shows, asks for and complains of."""

import base64
import json
import os
import shutil
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
REASON = (
    "there is no Chromium: no page is opened"
    if CHROMIUM is None
    else "websocket-client is not installed: no page is opened"
)
USABLE = CHROMIUM is not None and find_spec("websocket") is not None
AXE = next(
    (
        Path(found.submodule_search_locations[0], script)
        for package, script in (
            ("axe_playwright_python", "axe.min.js"),
            ("axe_selenium_python", "node_modules/axe-core/axe.min.js"),
        )
        if (found := find_spec(package)) is not None
    ),
    None,
)
"""axe-core, as a package brings it; None without one."""
SECONDS = 240
"""For the browser to start, and for each answer: other programs run too."""
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-extensions", "--disable-sync",
    "--disable-renderer-backgrounding", "--force-color-profile=srgb", "--remote-allow-origins=*",
)  # fmt: skip


class Browser:
    """One window. `requests` are the addresses that its pages asked for, `complaints` what went to the console."""

    def __init__(self, folder):
        import websocket

        self.process = subprocess.Popen(
            [CHROMIUM, *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(folder)},
        )
        self.number, self.requests, self.complaints, self.events = 0, [], [], []
        try:
            port, path = self.waited(Path(folder, "DevToolsActivePort"))
            self.socket = websocket.create_connection(f"ws://127.0.0.1:{port}{path}", timeout=SECONDS)
            self.session = None
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def waited(self, path):
        """What the browser writes to this file when it is ready."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            if path.exists() and len(lines := path.read_text().split()) == 2:
                return lines
            time.sleep(0.05)
        raise RuntimeError("Chromium did not start.")

    def call(self, method, **parameters):
        """Call a method of the protocol."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        self.socket.send(json.dumps({**message, "sessionId": self.session} if self.session else message))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self.note(answer)

    def note(self, event):
        """Keep what tells of requests and complaints."""
        given = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(given["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(given["exceptionDetails"])
            case "Log.entryAdded" if given["entry"]["level"] in ("error", "warning"):
                self.complaints.append(given["entry"])
            case "Runtime.consoleAPICalled" if given["type"] in ("error", "warning", "assert"):
                self.complaints.append(given)
            case name:
                self.events.append(name)

    def open(self, path):
        """Open a file, and wait until it is there."""
        self.events.clear()
        self.call("Page.navigate", url=Path(path).resolve().as_uri())
        while "Page.loadEventFired" not in self.events:
            self.note(json.loads(self.socket.recv()))

    def ask(self, expression):
        """The value of an expression of JavaScript, or of what it promises."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key, code=0, modifiers=0, text=""):
        """Press a key: "Tab" 9, "ArrowRight" 39, ..."""
        common = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def size(self, width, height=900, dark=False):
        """The window's size, in pixels, and whether the reader likes it dark."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def picture(self, top=0, height=None):
        """A PNG of the page, or of a band of it."""
        width, whole = self.ask("[document.documentElement.clientWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": top, "width": width, "height": min(height or whole, whole - top), "scale": 1}
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"])

    def axe(self):
        """What axe-core finds wrong."""
        script = AXE.read_text("utf-8")
        self.ask(f"{script};0")
        return self.ask(
            "axe.run().then(found => found.violations.map(each => [each.id, each.nodes.length, each.nodes[0].html, "
            "each.nodes[0].failureSummary]))"
        )

    def close(self):
        """End it."""
        if getattr(self, "socket", None):
            self.socket.close()
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
