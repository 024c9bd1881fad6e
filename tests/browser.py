"""A headless Chromium, driven through chromedriver by the W3C WebDriver protocol alone."""

import contextlib
import json
import shutil
import subprocess
import time
import urllib.request

import pytest

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key that the protocol gives to elements
_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


class Browser:
    """One session. Elements are named by CSS selectors."""

    def __init__(self, driver, profile):
        self._driver = driver
        options = {"args": [*_FLAGS, f"--user-data-dir={profile}"], "binary": _found("chromium")}
        logged = {"performance": "ALL", "browser": "ALL"}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": logged}
        session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._driver += f"/session/{session['sessionId']}"

    def open(self, url):
        self._call("POST", "/url", {"url": url})

    def run(self, script):
        """Returns what a script returns."""
        return self._call("POST", "/execute/sync", {"script": script, "args": []})

    def type(self, selector, text):
        """Types into an element; a file input takes a path."""
        self._call("POST", f"/element/{self._element(selector)}/value", {"text": text})

    def click(self, selector):
        self._call("POST", f"/element/{self._element(selector)}/click", {})

    def wait(self, script, seconds=60):
        """Waits until an expression is true, and returns it."""
        end = time.monotonic() + seconds
        while not (found := self.run(f"return {script}")):
            assert time.monotonic() < end, f"{script} did not come true; {self.messages()}"
            time.sleep(0.1)
        return found

    def send(self, command, **parameters):
        """Sends a command of the browser's own protocol."""
        found = {"cmd": command, "params": parameters}
        return self._call("POST", "/goog/cdp/execute", found)

    def messages(self):
        """Returns what the console said since it was last asked."""
        return [entry["message"] for entry in self._call("POST", "/se/log", {"type": "browser"})]

    def requests(self):
        """Returns the addresses that were asked for since this was last asked."""
        entries = self._call("POST", "/se/log", {"type": "performance"})
        events = [json.loads(entry["message"])["message"] for entry in entries]
        sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return [event["request"]["url"] for event in sent]

    def close(self):
        self._call("DELETE", "", None)

    def _element(self, selector):
        found = self._call("POST", "/element", {"using": "css selector", "value": selector})
        return found[_ELEMENT]

    def _call(self, method, path, body):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._driver + path, data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.loads(answer.read())["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path}: {error.read().decode()[:500]}") from error


def _found(program):
    names = {"chromium": ("chromium", "chromium-browser", "google-chrome")}.get(program, (program,))
    return next(filter(None, map(shutil.which, names)), None)


@contextlib.contextmanager
def browser(folder):
    """Yields a browser with a fresh profile below `folder`; skips the test without one."""
    for program in ("chromium", "chromedriver"):
        if not _found(program):
            pytest.skip(
                f"no headless browser: {program} is not installed (Debian: chromium-driver)"
            )
    driver = subprocess.Popen(
        [_found("chromedriver"), "--port=0"], stdout=subprocess.PIPE, text=True
    )
    try:
        # "ChromeDriver was started successfully on port 12345."
        port = next(
            line.rpartition(" ")[2].strip(".\n")
            for line in driver.stdout
            if "started successfully on port" in line
        )
        found = Browser(f"http://127.0.0.1:{port}", folder / "profile")
        try:
            yield found
        finally:
            found.close()
    finally:
        driver.terminate()
        driver.wait()
