"""A headless Chromium (Debian's) and a daemon it looks at."""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from detector.config import parse_config
from detector.core.records import Message
from detector.data.simulate import rows, simulate_rhythm
from detector.transport.broker import Publisher
from detector.transport.configured import make_broker
from tests.processes import RunningDaemon, wait_for, write_config

MODEL = Path(__file__).parents[2] / "docs" / "examples" / "model"
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
#: Names that would be markup, if anybody took them for it.
HOSTILE = (
    "<img src=x onerror=window.broken=1>",
    "<script>window.broken=1</script>",
    '"><svg/onload=window.broken=1>',
    "javascript:window.broken=1",
    "'-window.broken=1-'",
    "{{window.broken=1}}${window.broken=1}",
    "../../../etc/passwd?x=1#/alerts/x&series=y%00%2f",
    "</title><style>*{display:none}</style>",
    "right\u202eto left\u0000\n\t and  two  spaces",
    "größe 温度 \U0001f321",
)
QUIET = ("plant-1/furnace/temperature", "plant-1/furnace/pressure", "EURUSD")


def browser_unavailable_reason() -> str | None:
    for name in ("chromium", "chromedriver"):
        if shutil.which(name) is None:
            return f"no {name}: apt-get install chromium chromium-driver"
    return None


class Plant:
    """A daemon on the embedded broker, its series and what is published to it."""

    def __init__(self, daemon: RunningDaemon, publisher: Publisher, topic: str) -> None:
        self.daemon, self._publisher, self._topic = daemon, publisher, topic
        self.names = (*QUIET, *HOSTILE)
        simulated = simulate_rhythm(
            series=len(self.names), ticks_per_series=1500, faults_per_kind=0, seed=5,
            start_ns=time.time_ns() - 60 * 10**9,
        )  # fmt: skip
        known = dict(zip(simulated.names, self.names, strict=True))
        self._ticks: dict[str, list[dict[str, Any]]] = {name: [] for name in self.names}
        for row in rows(simulated):
            name = known[str(row["series"])]
            self._ticks[name].append(row | {"series": name})
        self.sent = 0

    def publish(self, names: Sequence[str], number: int, *, broken: bool = False) -> None:
        """The next ticks of each; broken: with leaps of the price."""
        messages = []
        for name in names:
            for n in range(number):
                tick = self._ticks[name].pop(0)
                if broken:
                    leap = 1.05 if n % 2 else 1.0
                    tick = tick | {"bid": tick["bid"] * leap, "ask": tick["ask"] * leap}
                messages.append(Message(name.encode(), json.dumps(tick).encode()))
        self._publisher.publish(self._topic, messages)
        self._publisher.flush()
        self.sent += len(messages)

    def alerts(self, state: str = "open") -> list[dict[str, Any]]:
        status, body = self.daemon.get(f"/api/v1/alerts?state={state}")
        assert status == 200, body
        found: list[dict[str, Any]] = json.loads(body)["alerts"]
        return found

    def open_alert_of(self, name: str) -> dict[str, Any]:
        wait_for(lambda: any(a["series"] == name for a in self.alerts()), f"an alert of {name!r}")
        return next(a for a in self.alerts() if a["series"] == name)


@contextmanager
def plant(directory: Path) -> Iterator[Plant]:
    tree = {
        "features": {
            "return": "log_return(mid(bid, ask))", "spread": "log(ratio(ask, bid))",
            "volume": "log(volume)", "interarrival": "interarrival()",
        },
        "embedded": {"path": str(directory / "broker.sqlite"), "synchronous": "normal"},
        "http": {"port": 0},
    }  # fmt: skip
    path = write_config(directory / "config.yaml", tree)
    config = parse_config(tree)
    with RunningDaemon(path, MODEL, cwd=directory) as daemon:
        daemon.wait_ready()
        publisher = make_broker(config).publisher()
        try:
            found = Plant(daemon, publisher, config.input.topic)
            found.publish(found.names, 300)
            daemon.wait_accounted(found.sent)
            yield found
        finally:
            publisher.close()
        assert daemon.terminate() == 0


class Browser:
    """One window. Everything the console said is kept."""

    def __init__(self, driver: webdriver.Chrome, address: str) -> None:
        self.driver, self._address = driver, address
        self.said: list[str] = []

    def open(self, route: str, *, ready: str = "main h1") -> None:
        self.driver.get("about:blank")  # or a change of the fragment alone would load nothing
        self.driver.get(f"{self._address}/{route}")
        self.wait(ready)

    def find(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """As they are, without what is not shown taken away."""
        script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
        found: list[str] = self.driver.execute_script(script, selector)
        return found

    def wait(self, selector: str) -> None:
        self.until(lambda: bool(self.find(selector)), f"{selector} is there")

    def until(self, condition: Callable[[], bool], what: str) -> None:
        def holds() -> bool:
            try:
                return condition()
            except StaleElementReferenceException:
                return False

        wait_for(holds, what)

    def press(self, *keys: str) -> None:
        """To whatever has the focus."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def focused(self) -> str:
        found: str = self.driver.execute_script("return document.activeElement.textContent")
        return found

    def tab_to(self, text: str, *, most: int = 60) -> None:
        """Press Tab until what has the focus says so."""
        for _ in range(most):
            self.press(Keys.TAB)
            if text in self.focused():
                return
        raise AssertionError(f"{text!r} is not reached by {most} tabs")

    def look_like(self, *, width: int, height: int, dark: bool = False) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        script = "return document.documentElement.scrollWidth - window.innerWidth"
        return max(0, int(self.driver.execute_script(script)))

    def screenshot(self, name: str) -> Path:
        """Of the whole page."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        script = "return [innerWidth, Math.min(document.documentElement.scrollHeight, 4000)]"
        width, height = self.driver.execute_script(script)
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = {"captureBeyondViewport": True, "clip": clip}
        taken = self.driver.execute_cdp_cmd("Page.captureScreenshot", shot)
        path = SCREENSHOTS / f"{name}.png"
        path.write_bytes(base64.b64decode(taken["data"]))
        return path

    def console(self) -> list[str]:
        """Warnings and errors since the beginning."""
        self.said += [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]  # selenium left it untyped
        return self.said


@contextmanager
def browser(address: str, profile: Path) -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
        "--disable-background-networking", "--no-first-run", f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver") or "", env=dict(os.environ))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.set_page_load_timeout(120)
        driver.set_script_timeout(120)
        found = Browser(driver, address)
        found.look_like(width=1280, height=900)
        yield found
    finally:
        driver.quit()
