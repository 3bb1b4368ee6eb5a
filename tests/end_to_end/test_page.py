"""The page in a real browser, over a real server and a trained bundle: pick a user, click, watch the feed change."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from asterism.config.stores import StoresConfig
from asterism.serving.http.page_files import PAGE_FOLDER
from asterism.stores.api_keys import id_in, new_key
from asterism.stores.opening import open_keys
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
                another_key_is_asked_for_where_one_falls_short(opened, state, found[0])
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


def another_key_is_asked_for_where_one_falls_short(page: playwright.Page, state: Path, token: str) -> None:
    """A key that is revoked, lacks a scope or is none leads back to the form, and a better one goes on from there."""
    narrow = new_key("narrow", frozenset({"profile"}), time.time())
    whole = new_key("whole", frozenset({"recommend", "feedback", "profile"}), time.time())
    liked = titles(page)[0]
    with closing(open_keys(StoresConfig.embedded(state).catalogue)) as keys:
        keys.add(narrow.key)
        keys.add(whole.key)
        keys.revoke(id_in(token.encode()) or "", int(time.time()))
    wait_until(lambda: page.request.get(f"{page.url}api/v1/user/x/profile", headers=bearing(token)).status == 401)
    wait_until(lambda: page.request.get(f"{page.url}api/v1/users/sample", headers=bearing(whole.token)).ok)
    page.get_by_role("button", name=f"Like: {liked}", exact=True).click()
    page.get_by_text("this API key was revoked").wait_for()
    assert page.evaluate("sessionStorage.length") == 0, "a key that is refused is forgotten"
    box = page.get_by_label("API key")
    box.fill("ast_ü☃")
    box.press("Enter")
    page.get_by_text("A key holds no spaces, accents or symbols").wait_for()
    box.fill(whole.token)
    box.press("Enter")
    page.get_by_text(f"Liked “{liked}” →").wait_for()  # the step that was refused was sent with the new key
    page.evaluate("() => sessionStorage.clear()")
    page.reload()
    box.fill(narrow.token)
    box.press("Enter")
    page.get_by_text("lacks the scope 'recommend'").wait_for()
    box.fill(whole.token)
    box.press("Enter")
    page.locator("article.card").first.wait_for()


def bearing(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


# An error status would be among the browser's complaints; the page goes by the code alone.
UNAVAILABLE = {"code": 10005, "message": "the store cannot be reached", "data": None, "trace_id": "0" * 32}
TWO_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
NEXT_REQUEST_IS_IMPATIENT = """() => {
  const patient = AbortSignal.timeout
  AbortSignal.timeout = (ms) => {
    AbortSignal.timeout = patient
    return patient.call(AbortSignal, ms / 100)
  }
}"""


def settled_titles(page: playwright.Page) -> list[str]:
    """What the feed shows, once the cards that leave it have left."""
    page.wait_for_function("() => document.querySelector('.feed-leave-active') === null")
    return titles(page)


def test_a_step_that_failed_is_told_until_trying_again_sends_it(page: playwright.Page) -> None:
    sent: list[dict[str, Any]] = []

    def first_fails(route: playwright.Route) -> None:
        sent.append(route.request.post_data_json)
        if len(sent) == 1:
            route.fulfill(json=UNAVAILABLE)
        else:
            route.continue_()

    page.route("**/api/v1/feedback", first_fails)
    first, second = titles(page)[:2]
    page.get_by_role("button", name=f"Like: {first}", exact=True).click()
    page.get_by_role("button", name=f"Like: {second}", exact=True).click()
    page.get_by_text(f"Liked “{second}” →").wait_for()
    alert = page.get_by_role("alert")
    assert "the store cannot be reached" in alert.inner_text(), "a step that went well does not hide it"
    page.get_by_role("button", name="Try again").click()
    page.get_by_text(f"Liked “{first}” →").wait_for()
    alert.wait_for(state="detached")
    assert [one["event_id"] == sent[0]["event_id"] for one in sent] == [True, False, True]


def test_late_answers_do_not_replace_newer_ones(page: playwright.Page) -> None:
    late: list[tuple[playwright.Route, playwright.APIResponse]] = []
    asked: list[playwright.Route] = []

    def first_two_are_late(route: playwright.Route) -> None:
        asked.append(route)
        if len(asked) > 2:
            route.continue_()
        else:
            late.append((route, route.fetch()))

    page.route("**/api/v1/recommend", first_two_are_late)
    picker = page.get_by_label("Look as")
    ada, bea = (picker.locator("option").nth(place).get_attribute("value") for place in (2, 3))
    for user in (ada, bea, ada):
        picker.select_option(user)
    gone = page.locator("article.card .title").first.inner_text()
    page.get_by_role("button", name=f"Not interested: {gone}", exact=True).click()
    page.get_by_text(f"Not interested in “{gone}” →").wait_for()
    wait_until(lambda: len(late) == 2)
    shown = settled_titles(page)
    first, answer = next((route, got) for route, got in late if route is asked[0])
    assert gone in answer.text()
    with page.expect_response(f"**/user/{ada}/profile*"):
        first.fulfill(response=answer)
    with page.expect_event("requestfinished", lambda one: one == asked[1].request):
        asked[1].fulfill(json=UNAVAILABLE)
    page.evaluate(TWO_FRAMES)
    assert settled_titles(page) == shown
    assert page.get_by_role("alert").count() == 0


def test_a_request_that_hangs_and_an_answer_of_something_else_are_told_in_sentences(page: playwright.Page) -> None:
    held: list[playwright.Route] = []
    page.route("**/api/v1/feedback", lambda route: route.continue_() if held else held.append(route))
    first, second = titles(page)[:2]
    page.evaluate(NEXT_REQUEST_IS_IMPATIENT)
    page.get_by_role("button", name=f"Like: {first}", exact=True).click()
    page.get_by_role("button", name=f"Like: {second}", exact=True).click()
    page.get_by_text("The service did not answer within 15 seconds.").wait_for()
    page.get_by_text(f"Liked “{second}” →").wait_for()
    page.route("**/api/v1/recommend", lambda route: route.fulfill(content_type="text/html", body="<h1>Hello</h1>"))
    page.get_by_role("button", name="Try again").click()
    page.get_by_text("HTTP 200, but not from the service").wait_for()
    page.unroute("**/api/v1/recommend")
    page.get_by_role("button", name="Try again").click()
    page.get_by_role("alert").wait_for(state="detached")
    wait_until(lambda: first not in titles(page))


def test_a_card_whose_step_waits_in_line_is_not_bought_twice(page: playwright.Page) -> None:
    held: list[playwright.Route] = []
    sent: list[str] = []

    def first_waits(route: playwright.Route) -> None:
        sent.append(route.request.post_data_json["item_id"])
        if held:
            route.continue_()
        else:
            held.append(route)

    page.route("**/api/v1/feedback", first_waits)
    first, second, third = titles(page)[:3]
    page.get_by_role("button", name=f"Like: {first}", exact=True).click()
    buy = page.get_by_role("button", name=f"Buy: {second}", exact=True)
    buy.dispatch_event("click")
    page.locator("article.card.busy", has_text=second).wait_for()
    buy.dispatch_event("click")
    page.get_by_role("button", name=f"Like: {third}", exact=True).click()
    wait_until(lambda: len(held) == 1)
    held[0].continue_()
    page.get_by_text(f"Liked “{third}” →").wait_for()
    assert len(sent) == len(set(sent)) == 3


def test_only_what_was_done_to_a_card_of_the_feed_is_attributed_to_its_slate(page: playwright.Page) -> None:
    def step(button: playwright.Locator, told: str) -> tuple[str | None, str]:
        """Press a button: the slate that its step names, and the slate that is drawn then."""
        with page.expect_response("**/recommend") as drawn, page.expect_request("**/feedback") as sent:
            button.click()
        page.locator(".summary", has_text=told).wait_for()
        return sent.value.post_data_json.get("attribution_id"), drawn.value.json()["data"]["attribution_id"]

    dialog = page.get_by_role("dialog")
    past = page.get_by_label("What happened so far").get_by_role("button").first
    named, slate = step(past, f"Opened “{past.get_attribute('title')}”")
    assert named is None
    page.keyboard.press("Escape")
    named, _ = step(page.locator("article.card .open").first, f"Opened “{settled_titles(page)[0]}”")
    assert named == slate
    title = dialog.get_by_role("heading", level=2).inner_text()
    named, _ = step(dialog.get_by_role("button", name="Like: "), f"Liked “{title}”")
    assert named == slate, "it is the slate that it was opened from"
    page.locator("article.card .open").first.click()
    similar = dialog.locator("li button").first
    named, _ = step(similar, f"Opened “{similar.locator('.name').inner_text()}”")
    assert named is None


def test_the_keyboard_keeps_its_place_in_the_feed(page: playwright.Page) -> None:
    liked = titles(page)[1]
    page.get_by_role("button", name=f"Like: {liked}", exact=True).press("Enter")
    page.get_by_text(f"Liked “{liked}” →").wait_for()
    page.wait_for_function(
        "() => document.activeElement === document.querySelectorAll('article.card .buttons .favorite')[1]"
    )
    page.get_by_role("button", name=f"{liked}, liked", exact=True).wait_for()
    opened = settled_titles(page)[0]
    page.locator("article.card .open").first.press("Enter")
    page.get_by_text(f"Opened “{opened}” →").wait_for()
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.activeElement === document.querySelector('article.card .open')")
