"""The page in a real browser, over a real daemon."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import datetime
from urllib.parse import quote

import pytest
from axe_core_python.selenium import Axe
from selenium.webdriver.common.keys import Keys

from tests.processes import wait_for
from tests.web.browsing import (
    HOSTILE,
    QUIET,
    Browser,
    Plant,
    browser,
    browser_unavailable_reason,
    plant,
)

TEMPERATURE, PRESSURE, EURUSD = QUIET
#: What stands for a number that is not known.
NOT_YET = "\N{EN DASH}"


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    reason = browser_unavailable_reason()
    if reason is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with plant(tmp_path_factory.mktemp("plant")) as found:
        found.publish(HOSTILE, 6, broken=True)
        for name in HOSTILE:
            found.open_alert_of(name)
        yield found


@pytest.fixture(scope="module")
def window(works: Plant, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(works.daemon.address, tmp_path_factory.mktemp("profile")) as found:
        yield found


def alert_route(works: Plant, name: str) -> str:
    return f"#/alerts/{works.open_alert_of(name)['alert_id']}"


def series_route(name: str) -> str:
    return f"#/series/{quote(name, safe='')}"


def test_an_alert_appears_while_one_looks(works: Plant, window: Browser) -> None:
    """Within a second of its commit where nothing else is done; here the deadline is generous."""
    window.open("#/", ready="table.alerts")
    window.until(lambda: window.texts("#health") == ["Ready"], "it is ready")
    seen = "tr[data-alert] th a[href^='#/alerts/']"
    before = window.texts(seen)
    assert TEMPERATURE not in before
    # When it was drawn, told by the page itself.
    window.driver.execute_script(
        """window.drawnAt = null;
        new MutationObserver(() => {
          const there = [...document.querySelectorAll("table.alerts th a")];
          if (window.drawnAt === null && there.some((a) => a.textContent === arguments[0]))
            window.drawnAt = Date.now();
        }).observe(document.querySelector("main"), { childList: true, subtree: true });""".replace(
            "arguments[0]", repr(TEMPERATURE)
        )
    )
    works.publish([TEMPERATURE], 4, broken=True)
    window.until(lambda: TEMPERATURE in window.texts(seen), "the alert is on the page")
    drawn_s = window.driver.execute_script("return window.drawnAt") / 1000
    committed = works.open_alert_of(TEMPERATURE)["committed_time"]
    committed_s = datetime.fromisoformat(committed[:26] + "+00:00").timestamp()
    print(f"drawn {1000 * (drawn_s - committed_s):.0f} ms after the commit")  # noqa: T201 - with -s
    assert drawn_s >= committed_s - 0.1
    window.until(lambda: TEMPERATURE in "".join(window.texts("#announced")), "it is announced")
    window.until(lambda: window.driver.title.startswith("("), "the title counts it")


def test_an_alert_is_explained(works: Plant, window: Browser) -> None:
    works.publish([PRESSURE], 6, broken=True)
    window.open(alert_route(works, PRESSURE), ready=".feature canvas")
    assert window.texts("h1") == [PRESSURE]
    assert window.texts(".feature h3")[0] == "return"
    assert len(window.texts(".feature h3")) == 4
    assert "the score" in window.texts(".percent")[0]
    label = window.find(".feature [role=img]")[0].get_attribute("aria-label")
    assert label.startswith("return: the last tick was")
    window.wait("section[aria-label='Score against threshold'] canvas")
    assert "statistics" in window.texts(".views th[scope=row]")
    works.publish([PRESSURE], 200)
    window.until(lambda: "closed" in window.texts(".severity")[0], "it is seen to be resolved")
    window.until(lambda: len(window.find(".choice button")) == 2, "both windows can be seen")
    window.find(".choice button")[1].click()
    pressed = [b.get_attribute("aria-pressed") for b in window.find(".choice button")]
    assert pressed == ["false", "true"]


def test_a_series_is_found_and_watched_with_the_keyboard_alone(
    works: Plant, window: Browser
) -> None:
    window.open("#/", ready=".tiles .tile")
    window.press("/")
    window.press(*"eurusd")
    window.wait("#found a")
    window.press(Keys.ARROW_DOWN, Keys.ENTER)
    window.until(lambda: window.texts("h1") == [EURUSD], "its page is open")
    window.wait("section[aria-label='Observed and expected'] canvas")
    value, heard = ".tile .value", ".tile .value.small"
    window.until(lambda: window.texts(value)[0] != NOT_YET, "it has a score")
    before = window.texts(heard)
    works.publish([EURUSD], 20)
    window.until(lambda: window.texts(heard) != before, "its window moves")
    works.publish([EURUSD], 6, broken=True)
    window.until(lambda: bool(window.find(".tile[data-mood=bad]")), "its score is seen to rise")
    window.wait("a.button.bad")
    window.tab_to("An alert is open")
    window.press(Keys.ENTER)
    window.until(lambda: bool(window.find(".feature canvas")), "why it alerted")
    assert "alerts" in window.driver.current_url
    window.tab_to("Watch this series live")
    window.press(Keys.ENTER)
    window.until(lambda: "series" in window.driver.current_url, "and back")


def test_a_name_is_never_read_as_markup(works: Plant, window: Browser) -> None:
    window.open("#/", ready="table.alerts")
    listed = window.texts("table.alerts th a")
    assert set(HOSTILE) <= set(listed)
    for name in HOSTILE:
        window.open(series_route(name), ready=".tile .value")
        window.until(lambda: window.texts(".tile .value")[0] != NOT_YET, "its score is told")
        assert window.texts("h1") == [name]
        window.open(alert_route(works, name), ready=".feature canvas")
        assert window.texts("h1") == [name]
        wanted = name.split("\n")[-1]  # a field of one line has room for no more
        window.driver.execute_script(
            """const field = document.querySelector("#wanted");
            field.value = arguments[0];
            field.dispatchEvent(new Event("input"));""",
            wanted,
        )
        window.until(lambda: name in window.texts("#found a"), f"{name!r} is found")  # noqa: B023 - called at once
    script = """return [window.broken ?? null,
      document.querySelectorAll("main img, main script, main style, #found img").length]"""
    assert window.driver.execute_script(script) == [None, 0]


@pytest.mark.parametrize("route", ["#/", "alert", "series", "#/alerts/none", "#/series/nobody%00"])
def test_it_is_readable_light_dark_and_on_a_phone(
    works: Plant, window: Browser, route: str
) -> None:
    """axe finds nothing, nothing is wider than the window; screenshots are left in build/."""
    name = HOSTILE[0]
    path = {"alert": alert_route(works, name), "series": series_route(name)}.get(route, route)
    ready = {"#/": ".tile", "alert": ".views .bar", "series": ".plot canvas"}.get(route, "main h1")
    label = route.strip("#/").replace("/", "-").replace("%00", "") or "state"
    try:
        for looks, width, dark in (
            ("light", 1280, False),
            ("dark", 1280, True),
            ("phone", 375, False),
        ):
            window.look_like(width=width, height=800, dark=dark)
            window.open(path, ready=ready)
            window.until(lambda: window.texts("#health") == ["Ready"], "it is ready")
            assert window.overflow() == 0, (looks, window.screenshot(f"{label}-{looks}-too-wide"))
            found = Axe().run(window.driver)["violations"]
            assert [(v["id"], [n["html"][:200] for n in v["nodes"]]) for v in found] == []
            window.screenshot(f"{label}-{looks}")
    finally:
        window.look_like(width=1280, height=900)


@pytest.mark.parametrize("width", [320, 768, 1024, 1600])
def test_no_width_makes_it_scroll_sideways(window: Browser, width: int) -> None:
    try:
        window.look_like(width=width, height=800)
        window.open("#/", ready="table.alerts")
        assert window.overflow() == 0
    finally:
        window.look_like(width=1280, height=900)


def test_what_is_not_there_is_said(window: Browser) -> None:
    window.open("#/alerts/none")
    window.until(lambda: "not known" in window.texts("h1")[0], "an unknown alert")
    window.open("#/series/nobody")
    window.until(lambda: "No such series" in window.texts("main")[0], "an unknown series")


def test_the_console_said_nothing_but_of_what_was_not_there(window: Browser) -> None:
    """Last: of all that the others did."""
    said = [line for line in window.console() if "404" not in line]
    assert said == []


def test_the_first_view_is_drawn(works: Plant, window: Browser) -> None:
    window.open("#/", ready=".tile")
    timing = """const [page] = performance.getEntriesByType("navigation");
      return [page.domContentLoadedEventEnd, performance.now()]"""
    print("content and tiles after, in ms:", window.driver.execute_script(timing))  # noqa: T201 - with -s


def test_a_daemon_that_does_not_answer_is_told_until_it_does(works: Plant, window: Browser) -> None:
    window.open("#/", ready=".tile")
    works.daemon.signal(signal.SIGSTOP)
    try:
        window.until(lambda: "No connection" in window.texts("#health")[0], "it is said")
    finally:
        works.daemon.signal(signal.SIGCONT)
    window.until(lambda: window.texts("#health") == ["Ready"], "it is back")
    wait_for(lambda: works.daemon.metrics()[("detector_web_viewers", ())] >= 1, "it follows")
