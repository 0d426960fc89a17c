"""The page as a reader meets it, in a real browser: Debian's chromium, where it is installed."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from fcdistill.records import Prediction, Score
from fcdistill.reporting.html import render_html
from tests.reporting.reports import HOSTILE, case, report_of, score

BROWSER, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER.exists() and DRIVER.exists()), reason="needs chromium and chromedriver")

PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}


class Reader:
    """A browser that shows one page, and what it did to show it."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, page: Path, fragment: str = "") -> None:
        self.driver.get("about:blank")
        self.driver.get_log("performance")
        self.driver.get_log("browser")
        self.driver.get(page.as_uri() + fragment)

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def shown(self, selector: str) -> list[WebElement]:
        return [found for found in self.driver.find_elements(By.CSS_SELECTOR, selector) if found.is_displayed()]

    def ids(self) -> list[str | None]:
        # In one step: between two, the page may replace what the first has found.
        visible = "[...document.querySelectorAll('.case')].filter(found => found.checkVisibility())"
        found: list[str | None] = self.driver.execute_script(f"return {visible}.map(found => found.dataset.id)")
        return found

    def waits_for_ids(self, *ids: str) -> None:
        WebDriverWait(self.driver, 10).until(lambda _: self.ids() == list(ids), f"{self.ids()}, wanted {ids}")

    def waits_for(self, num_cases: int) -> None:
        WebDriverWait(self.driver, 10).until(lambda _: len(self.ids()) == num_cases, f"not {num_cases} cases")

    def background(self) -> str:
        return self.find("body").value_of_css_property("background-color")

    def requests(self) -> list[str]:
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = str(BROWSER)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.add_argument("--headless=new")
    for flag in ("dev-shm-usage", "background-networking", "component-update", "sync"):
        options.add_argument(f"--disable-{flag}")
    options.add_argument("--window-size=1280,900")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # chromium refuses to run as root with it
    driver = Chrome(options=options, service=Service(str(DRIVER)))
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "light"}]}
    )
    yield driver
    driver.quit()


@pytest.fixture
def reader(driver: Chrome) -> Reader:
    return Reader(driver)


def page_of(path: Path, scores: list[Score], predictions: dict[str, Prediction]) -> Path:
    cases = [case(item.id, f"please handle {item.id}") for item in scores]
    path.write_text(render_html(report_of(scores), scores, predictions, cases, title="run"), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three wrong cases: another room, a call of another tool, and an answer that attacks the page."""
    two = [
        {"code": "wrong_function", "path": "set_timer", "detail": "expected set_light, got set_timer"},
        {"code": "missing_required", "path": "set_timer.minutes", "detail": "argument 'minutes' is required"},
    ]
    scores = [
        score("right"),
        score("room", correct=False),
        score("other", correct=False, category="multiple", primary_error="wrong_function", errors=two),
        score(HOSTILE, correct=False, errors=[{"code": "wrong_value", "path": HOSTILE, "detail": HOSTILE}]),
    ]
    calls = {
        "room": {"name": "set_light", "arguments": {"room": "attic"}},
        "other": {"name": "set_timer", "arguments": {}},
        HOSTILE: {"name": HOSTILE, "arguments": {HOSTILE: HOSTILE}},
    }
    predictions = {
        name: Prediction.model_validate({"id": name, "text": f"raw {name}", "calls": [call]})
        for name, call in calls.items()
    }
    return page_of(tmp_path_factory.mktemp("page") / "report.html", scores, predictions)


def test_cases_are_searched_filtered_and_opened(reader: Reader, page: Path) -> None:
    reader.open(page)
    assert reader.find(".big").text == "25.0%"
    reader.waits_for_ids("room", "other", HOSTILE)
    reader.find("#search").send_keys("ATTIC room")
    reader.waits_for_ids("room")
    assert reader.find("#status").text == "1 of 3 wrong cases match"
    reader.find("#search").send_keys(" nowhere")
    reader.waits_for_ids()
    assert "No wrong case matches" in reader.find("#status").text
    reader.find("[type=reset]").click()
    reader.waits_for_ids("room", "other", HOSTILE)

    for kind, value in (("error", "missing_required"), ("tool", "set_timer"), ("category", "multiple")):
        Select(reader.find(f"#{kind}")).select_by_value(value)
        reader.waits_for_ids("other")
        Select(reader.find(f"#{kind}")).select_by_value("")
        reader.waits_for_ids("room", "other", HOSTILE)
    reader.find("[data-filter=category][data-value=multiple]").click()
    reader.waits_for_ids("other")

    reader.find(".case summary").click()
    WebDriverWait(reader.driver, 10).until(lambda _: reader.shown(".case .diff"))
    assert [line.text for line in reader.shown(".problems li")] == [
        "wrong function set_timer expected set_light, got set_timer",
        "missing required set_timer.minutes argument 'minutes' is required",
    ]
    assert [cell.text for cell in reader.shown(".diff thead tr.bad th")] == ["tool", "set_light", "set_timer"]
    assert [cell.text for cell in reader.shown(".diff tbody tr.bad td")] == ['"office"', "left out"]
    assert reader.find(".case pre").text == "raw other"


def test_differing_arguments_are_marked_and_a_case_can_be_linked(reader: Reader, page: Path) -> None:
    reader.open(page, "#case=room")
    WebDriverWait(reader.driver, 10).until(lambda _: reader.shown("[data-id=room] .diff"))
    (row,) = reader.shown("[data-id=room] .diff tbody tr")
    assert row.get_attribute("class") == "bad"
    left, right = row.find_elements(By.TAG_NAME, "td")
    assert (left.text, right.text) == ('"office"', '"attic"')
    assert left.value_of_css_property("background-color") != right.value_of_css_property("background-color")


def test_the_keyboard_alone_is_enough(reader: Reader, page: Path) -> None:
    reader.open(page)
    reader.find("body").send_keys("/")
    assert reader.driver.switch_to.active_element.get_attribute("id") == "search"
    reader.driver.switch_to.active_element.send_keys("attic")
    reader.waits_for_ids("room")
    for _ in range(5):  # error, tool, category, clear, the case
        reader.driver.switch_to.active_element.send_keys(Keys.TAB)
    assert reader.driver.switch_to.active_element.tag_name == "summary"
    reader.driver.switch_to.active_element.send_keys(Keys.ENTER)
    WebDriverWait(reader.driver, 10).until(lambda _: reader.shown(".case[open] .diff"))


def test_the_theme_follows_the_system_and_the_button(reader: Reader, page: Path) -> None:
    reader.open(page)
    light = reader.background()
    button = reader.find("#theme")
    assert button.text == "Dark theme"
    button.click()
    dark = reader.background()
    assert dark != light and button.text == "Light theme"
    button.click()
    assert reader.background() == light
    reader.driver.execute_script("localStorage.clear()")
    media = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    reader.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    reader.open(page)
    assert reader.background() == dark and reader.find("#theme").text == "Light theme"
    media["features"][0]["value"] = "light"
    reader.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)


def test_nothing_is_loaded_run_or_complained_about(reader: Reader, page: Path) -> None:
    reader.open(page)
    cards = reader.shown(".case")
    for card in cards:
        card.find_element(By.TAG_NAME, "summary").click()
    WebDriverWait(reader.driver, 10).until(lambda _: len(reader.shown(".diff")) >= len(cards))
    assert HOSTILE in reader.find(".case:last-child .problems").text
    assert reader.driver.execute_script("return window.hacked") is None
    assert not reader.driver.find_elements(By.TAG_NAME, "img")
    assert reader.driver.get_log("browser") == []
    assert [url for url in reader.requests() if not url.startswith("data:")] == [page.as_uri()]


def test_a_phone_needs_no_sideways_scrolling(reader: Reader, page: Path) -> None:
    reader.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    try:
        reader.open(page)
        for card in reader.shown(".case summary"):
            card.click()
        WebDriverWait(reader.driver, 10).until(lambda _: len(reader.shown(".case[open] .diff")) >= 3)
        assert reader.driver.execute_script("return document.documentElement.scrollWidth") == PHONE["width"]
    finally:
        reader.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_thousands_of_wrong_cases_are_shown_a_page_at_a_time(reader: Reader, tmp_path: Path) -> None:
    scores = [score(f"case-{number}", correct=False) for number in range(5000)]
    predictions = {item.id: Prediction(id=item.id, text=f"answer {item.id}") for item in scores}
    reader.open(page_of(tmp_path / "report.html", scores, predictions))
    reader.waits_for(50)
    assert reader.find("#status").text == "5000 of 5000 wrong cases match, 50 shown"
    reader.find("#more").click()
    reader.waits_for(100)
    assert reader.driver.switch_to.active_element.find_element(By.XPATH, "..").get_attribute("data-id") == "case-50"
    reader.find("#search").send_keys("case-4999")
    reader.waits_for_ids("case-4999")
    assert not reader.shown("#more")
