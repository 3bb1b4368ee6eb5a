"""The page in a real browser, over a real server and a trained bundle: pick a user, click, watch the feed change."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from asterism.serving.http.page_files import PAGE_FOLDER
from command_line import asterism, environment
from serving.running import PATIENT_MS, wait_until

ONE_IMAGE_IS_DRAWN = "() => [...document.querySelectorAll('article.card img')].some((one) => one.naturalWidth > 0)"
PATIENCE_MS = 60_000
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
    pytest.mark.skipif(not (PAGE_FOLDER / "index.html").is_file(), reason="the page is not built: run `make page`"),
]

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture(scope="module")
def url(bundle: Path) -> Iterator[str]:
    """Where a server over the trained bundle listens, once its model is loaded."""
    state = bundle.parent / "state-page"
    patient = ("--deadline-ms", PATIENT_MS)  # on a busy machine too, it is the model that answers
    command = asterism("serve", "--bundle", bundle, "--state", state, "--port", "0", *patient)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as server:
        assert server.stdout is not None
        try:
            found = re.search(r"http://\S+", server.stdout.readline())
            assert found is not None
            assert "model is loaded" in server.stdout.readline()
            yield found[0]
        finally:
            server.send_signal(signal.SIGTERM)


def test_where_keys_are_asked_for_the_page_asks_for_one(bundle: Path) -> None:
    state = bundle.parent / "state-keys"
    scopes = [word for scope in ("recommend", "feedback", "profile") for word in ("--scope", scope)]
    made = subprocess.run(
        asterism("keys", "create", "--state", state, "--name", "page", *scopes),
        capture_output=True, text=True, check=True, env=environment(),
    )  # fmt: skip
    found = re.search(r"^ast_\S+$", made.stdout, re.MULTILINE)
    assert found is not None
    command = asterism("serve", "--bundle", bundle, "--state", state, "--port", "0", "--deadline-ms", PATIENT_MS)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as server:
        assert server.stdout is not None
        try:
            address = re.search(r"http://\S+", server.stdout.readline())
            assert address is not None
            with playwright.sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
                opened = browser.new_page(reduced_motion="reduce")
                opened.set_default_timeout(PATIENCE_MS)
                opened.goto(address[0])
                box = opened.get_by_label("API key")
                box.fill(found[0][:-1] + ("a" if found[0][-1] != "a" else "b"))
                box.press("Enter")
                opened.get_by_text("this API key is not known").wait_for()
                box.fill(found[0])
                box.press("Enter")
                opened.locator("article.card").first.wait_for()
                opened.wait_for_function(ONE_IMAGE_IS_DRAWN)
                browser.close()
        finally:
            server.send_signal(signal.SIGTERM)


@pytest.fixture
def page(url: str) -> Iterator[playwright.Page]:
    """The page, opened; fails the test at its end if the browser complained about anything."""
    complaints: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(reduced_motion="reduce")
        opened.set_default_timeout(PATIENCE_MS)
        opened.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.goto(url)
        opened.locator("article.card").first.wait_for()
        yield opened
        browser.close()
    assert complaints == []


def titles(page: playwright.Page) -> list[str]:
    return list(page.locator("article.card .title").all_inner_texts())


def test_another_user_sees_another_feed(page: playwright.Page) -> None:
    first = titles(page)
    picker = page.get_by_label("Look as")
    other = picker.locator("option").nth(3).get_attribute("value")
    assert other is not None
    picker.select_option(other)
    page.get_by_role("heading", name=f"For {other}").wait_for()
    page.locator("article.card").first.wait_for()
    wait_until(lambda: titles(page) not in (first, []))
    page.locator(".status .badge.model").wait_for()
    page.wait_for_function(ONE_IMAGE_IS_DRAWN)


@pytest.mark.parametrize("button", ["Like", "Not interested"])
def test_a_button_of_a_card_changes_the_feed(page: playwright.Page, button: str) -> None:
    page.get_by_role("button", name="Newcomer").click()
    page.get_by_text("Nothing is known yet").wait_for()
    page.locator("article.card").first.wait_for()
    if button == "Not interested":  # about whom something must be known, or there is no history to show
        page.get_by_role("button", name="Like: ").nth(3).click()
        page.locator(".summary", has_text="Liked").wait_for()
    before = titles(page)
    page.get_by_role("button", name=f"{button}: {before[0]}", exact=True).click()
    word = "Liked" if button == "Like" else "Not interested in"
    page.get_by_text(f"{word} “{before[0]}” →").wait_for()
    wait_until(lambda: titles(page) not in (before, []))
    assert before[0] not in titles(page)
    page.locator("article.card .mark").first.wait_for()  # what is new in the feed is marked
    history = page.get_by_label("What happened so far").locator("li")
    history.first.wait_for()
    assert history.count() == 1
    page.locator(".status .badge.model").wait_for()


def test_an_opened_item_shows_its_neighbours(page: playwright.Page) -> None:
    title = titles(page)[0]
    page.locator("article.card .open").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("heading", name=title, exact=True).wait_for()
    dialog.locator("li img, li svg").nth(2).wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    page.get_by_text(f"Opened “{title}” →").wait_for()
    wait_until(lambda: title not in titles(page))
