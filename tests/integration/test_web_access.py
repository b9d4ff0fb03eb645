"""Who may look at the pages, and who may change what."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from churn_radar.access import fingerprint
from churn_radar.throttle import FREE_FAILURES, Throttle
from churn_radar.web.headers import CONTENT_SECURITY_POLICY
from churn_radar.web.session import COOKIE as NAME
from churn_radar.web.site import ROOMS
from churn_radar.web.static_files import static_files
from tests.support.pages import READER_KEY, browsing, tags, token_of
from tests.support.work import KEY, Clock, Running, payload, service

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROXIED: dict[str, Any] = {
    "proxy_addresses": "127.0.0.1",
    "proxy_user_header": "X-Forwarded-User",
    "proxy_operators": "ann@example.com",
}
# As it is called over https, at the root of a host.
COOKIE = f"__Host-{NAME}"
# What everybody may ask for: the log-in and what it is made of, and links that are signed themselves.
OPEN = {"login", "log_in", "log_out", "static", "outcome_link", "use_outcome_link"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    folder = tmp_path_factory.mktemp("access")
    async with service(folder, with_worker=False, reader_api_keys=READER_KEY) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def unthrottled(live: Running) -> AsyncIterator[Running]:
    """The same, with no wrong key remembered, before and after."""
    live.service.throttle = Throttle()
    yield live
    live.service.throttle = Throttle()


def routes(method: str) -> dict[str, str]:
    """The paths of all pages by their names, with something in each gap."""
    return {
        str(route.name): re.sub(r"{[^}]+}", "x", str(route.path))
        for room in ROOMS
        for route in room.router.routes
        if method in (getattr(route, "methods", None) or ())
    }


def pages_with_an_end() -> dict[str, str]:
    """What a browser asks for; the stream of what changes never ends."""
    return {name: path for name, path in routes("GET").items() if name != "live"}


def key_of(key: str) -> str:
    return f"key {fingerprint(key.encode())}"


# -- who may look


async def test_nobody_sees_a_page_without_a_log_in(live: Running) -> None:
    for name, path in routes("GET").items():
        if name in OPEN:
            continue
        answer = await live.stranger.get(path)
        assert answer.status_code == 303, name
        assert answer.headers["location"].startswith("/desk/login"), name
        assert answer.text == ""


async def test_nobody_changes_anything_without_a_log_in(live: Running) -> None:
    for name, path in routes("POST").items():
        if name in OPEN:
            continue
        answer = await live.stranger.post(path, data={"csrf": "x"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/desk/login"), name


async def test_an_api_key_opens_the_pages_and_one_is_where_one_wanted_to_be(live: Running) -> None:
    async with browsing(live, None) as browser:
        asked = await browser.get("/desk/signals?status=dead")
        login = asked.headers["location"]
        form = await browser.get(login)
        assert 'value="/desk/signals?status=dead"' in form.text
        answer = await browser.log_in(next="/desk/signals?status=dead")
        assert (answer.status_code, answer.headers["location"]) == (303, "/desk/signals?status=dead")
        page = await browser.text("/desk/signals?status=dead")
    assert f"{key_of(KEY)} operator" in page


async def test_the_log_in_sends_nobody_elsewhere(live: Running) -> None:
    async with browsing(live, None) as browser:
        answer = await browser.log_in(next="//evil.example/desk")
        assert answer.headers["location"] == "/"
        assert (await browser.get("/desk/login?next=https://evil.example")).headers["location"] == "/"


async def test_the_cookie_is_for_this_site_and_no_script(live: Running) -> None:
    async with httpx.AsyncClient(base_url=live.url, trust_env=False) as http:
        form = await http.get("/desk/login")
        given = form.headers["set-cookie"]
        cookie = given.partition(";")[0]
        answer = await http.post(
            "/desk/login", data={"csrf": token_of(form.text), "key": KEY}, headers={"Cookie": cookie}
        )
    [session] = [line for line in answer.headers.get_list("set-cookie") if line.startswith(COOKIE)]
    for line in (given, session):
        words = {part.strip().lower() for part in line.split(";")}
        assert {"httponly", "secure", "samesite=lax", "path=/"} <= words
    assert KEY not in session


@pytest.mark.parametrize(
    ("told", "prefix", "path"),
    [
        ({"environment": "development"}, "", "/"),
        ({"public_url": "http://radar.example"}, "", "/"),
        ({"public_url": "https://radar.example"}, "__Host-", "/"),
        ({"public_url": "https://ops.example/churn"}, "__Secure-", "/churn"),
    ],
)
async def test_cookies_are_called_what_browsers_hold_them_to_and_go_over_http_where_there_is_nothing_else(
    tmp_path: Path, told: dict[str, Any], prefix: str, path: str
) -> None:
    async with service(tmp_path, with_worker=False, **told) as own:
        given = (await own.stranger.get("/desk/login")).headers["set-cookie"]
    assert given.startswith(f"{prefix}churn_radar_login=")
    assert f"; Path={path};" in given
    # Browsers refuse a prefixed cookie that is not Secure, or that names a Domain.
    assert ("; Secure" in given) is bool(prefix)
    assert "domain" not in given.lower()


async def test_a_browser_that_keeps_no_cookie_is_told_why_it_cannot_log_in(live: Running) -> None:
    form = await live.stranger.get("/desk/login")
    live.stranger.cookies.clear()
    answer = await live.stranger.post("/desk/login", data={"csrf": token_of(form.text), "key": KEY})
    live.stranger.cookies.clear()
    assert answer.status_code == 400
    assert "CHURN_RADAR_PUBLIC_URL" in answer.text


async def test_a_session_ends_when_it_is_idle_and_in_the_end(tmp_path: Path) -> None:
    clock = Clock()
    async with service(tmp_path, with_worker=False, session_idle_minutes=60, session_max_hours=3) as own:
        own.service.now = clock
        async with browsing(own) as browser:
            for _ in range(3):
                clock.forward(timedelta(minutes=50))
                assert (await browser.get("/desk/signals")).status_code == 200
            clock.forward(timedelta(minutes=50))
            assert (await browser.get("/desk/signals")).status_code == 303
            await browser.log_in()
            clock.forward(timedelta(minutes=61))
            assert (await browser.get("/desk/signals")).status_code == 303


async def test_logging_out_ends_the_session_wherever_its_cookie_is(everywhere: str, tmp_path: Path) -> None:
    async with service(tmp_path, with_worker=False, reader_api_keys=READER_KEY) as own:
        async with browsing(own, READER_KEY) as browser, browsing(own) as another:
            stolen = {"Cookie": f"{COOKIE}={browser.http.cookies[COOKIE]}"}
            assert (await own.stranger.get("/desk/signals", headers=stolen)).status_code == 200
            answer = await browser.post("/desk/logout")
            assert (answer.status_code, answer.headers["location"]) == (303, "/desk/login")
            assert (await browser.get("/desk/signals")).status_code == 303
            assert (await another.get("/desk/signals")).status_code == 200
        assert (await own.stranger.get("/desk/signals", headers=stolen)).status_code == 303


async def test_sessions_outlive_a_restart_and_end_with_their_key(everywhere: str, tmp_path: Path) -> None:
    async with service(tmp_path, with_worker=False, api_keys=f"{KEY},another-key-0123456") as own, browsing(own) as b:
        cookie = {"Cookie": f"{COOKIE}={b.http.cookies[COOKIE]}"}
    async with service(tmp_path, with_worker=False) as own:
        assert (await own.stranger.get("/desk/signals", headers=cookie)).status_code == 200
    async with service(tmp_path, with_worker=False, api_keys="another-key-0123456") as own:
        assert (await own.stranger.get("/desk/signals", headers=cookie)).status_code == 303
    async with service(tmp_path, with_worker=False, session_secret="s" * 32) as own:
        assert (await own.stranger.get("/desk/signals", headers=cookie)).status_code == 303


async def test_wrong_keys_cost_time_and_the_page_says_how_much(unthrottled: Running) -> None:
    async with browsing(unthrottled, None) as browser:
        statuses = [(await browser.log_in(f"not-one-of-ours-{n}")).status_code for n in range(FREE_FAILURES + 1)]
        answer = await browser.log_in(KEY)
    assert statuses == [403] * FREE_FAILURES + [429]
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) == 1
    assert "Wait 1 second" in answer.text
    assert "not-one-of-ours" not in answer.text


async def test_a_log_in_form_of_another_page_is_refused(unthrottled: Running) -> None:
    async with browsing(unthrottled, None) as browser:
        form = token_of((await browser.get("/desk/login")).text)
        for data, headers in (
            ({"csrf": "x"}, {}),
            ({}, {}),
            ({"csrf": form}, {"Origin": "https://evil.example"}),
            ({"csrf": form}, {"Sec-Fetch-Site": "cross-site"}),
        ):
            answer = await browser.http.post("/desk/login", data={"key": KEY, **data}, headers=headers)
            assert answer.status_code == 403, data
        assert (await browser.get("/desk/signals")).status_code == 303


async def test_what_a_stranger_sends_is_read_no_further_than_a_form_can_be(live: Running) -> None:
    answer = await live.stranger.post("/desk/login", data={"key": "x" * 400_000})
    assert answer.status_code == 413


async def test_without_keys_in_development_this_machine_needs_none(tmp_path: Path) -> None:
    async with service(tmp_path, with_worker=False, environment="development", api_keys="") as own:
        assert (await own.stranger.get("/desk/signals")).status_code == 200
        assert (await own.stranger.get("/desk/signals", headers={"Host": "evil.example"})).status_code == 403
        assert (await own.stranger.get("/desk/login")).status_code == 303


# -- the proxy's word


async def test_the_proxy_logs_its_users_in_and_says_who_may_change_things(tmp_path: Path) -> None:
    async with service(tmp_path, with_worker=False, **PROXIED) as own:
        ann = await own.stranger.get("/desk/audit", headers={"X-Forwarded-User": "ann@example.com"})
        bob = await own.stranger.get("/desk/signals", headers={"X-Forwarded-User": "bob@example.com"})
        denied = await own.stranger.get("/desk/audit", headers={"X-Forwarded-User": "bob@example.com"})
        nobody = await own.stranger.get("/desk/signals")
        csrf = {"csrf": token_of(ann.text)} if "csrf" in ann.text else {}
        assert csrf == {}, "there is no session to log out of"
        sent = await own.stranger.post(
            "/desk/welcome/sample",
            data={"csrf": await _token(own, "ann@example.com")},
            headers={"X-Forwarded-User": "ann@example.com"},
        )
        trail = (await own.http.get("/audit")).json()["items"]
    assert "user ann@example.com" in ann.text
    assert bob.status_code == 200
    assert (denied.status_code, nobody.status_code) == (403, 303)
    assert sent.status_code == 200
    assert (trail[0]["who"], trail[0]["action"], trail[0]["via"]) == ("user ann@example.com", "send sample", "page")


async def _token(own: Running, user: str) -> str:
    return token_of((await own.stranger.get("/desk/welcome", headers={"X-Forwarded-User": user})).text)


async def test_the_header_is_believed_of_nobody_but_the_proxy(tmp_path: Path) -> None:
    async with service(tmp_path, with_worker=False, **{**PROXIED, "proxy_addresses": "10.0.0.0/8"}) as own:
        answer = await own.stranger.get("/desk/signals", headers={"X-Forwarded-User": "ann@example.com"})
    assert answer.status_code == 303


async def test_behind_the_proxy_each_address_has_its_own_wrong_keys(tmp_path: Path) -> None:
    async with service(tmp_path, with_worker=False, proxy_addresses="127.0.0.1") as own:
        async with browsing(own, None, headers={"X-Forwarded-For": "203.0.113.1"}) as browser:
            for number in range(FREE_FAILURES + 1):
                last = await browser.log_in(f"not-one-of-ours-{number}")
            assert last.status_code == 429
        async with browsing(own, KEY, headers={"X-Forwarded-For": "203.0.113.2"}) as browser:
            assert (await browser.get("/desk/signals")).status_code == 200


# -- guessing at the API


def guess(number: int, **headers: str) -> dict[str, str]:
    return {"X-API-Key": f"not-one-of-ours-{number}", **headers}


async def test_wrong_keys_cost_time_at_the_api_too_and_a_key_in_use_goes_on_working(unthrottled: Running) -> None:
    reader = {"X-API-Key": READER_KEY}
    assert (await unthrottled.http.get("/signals")).status_code == 200
    answers = [await unthrottled.stranger.get("/signals", headers=guess(n)) for n in range(FREE_FAILURES + 1)]
    assert [answer.status_code for answer in answers] == [401] * FREE_FAILURES + [429]
    assert answers[-1].headers["content-type"] == "application/problem+json"
    assert int(answers[-1].headers["retry-after"]) == 1
    assert "not-one-of-ours" not in answers[-1].text
    # Neither header is a way around it, and a right guess is not told apart from a wrong one.
    bearer = {"Authorization": "Bearer not-one-of-ours-50"}
    assert (await unthrottled.stranger.get("/briefs", headers=bearer)).status_code == 429
    assert (await unthrottled.stranger.get("/signals", headers=reader)).status_code == 429
    # Whoever works from the same address with a key of ours does not notice.
    assert (await unthrottled.http.get("/signals")).status_code == 200
    async with browsing(unthrottled) as browser:
        assert (await browser.get("/desk/signals")).status_code == 200


async def test_a_wrong_key_and_none_at_all_are_told_apart(unthrottled: Running) -> None:
    none, wrong = [
        (await unthrottled.stranger.get("/signals", headers=headers)).json()["detail"] for headers in ({}, guess(1))
    ]
    assert none.startswith("an API key is needed: ")
    assert wrong.startswith("this API key is not one of CHURN_RADAR_API_KEYS ")


async def test_keys_guessed_at_the_api_count_at_the_log_in(unthrottled: Running) -> None:
    for number in range(FREE_FAILURES + 1):
        await unthrottled.stranger.get("/signals", headers=guess(number))
    async with browsing(unthrottled, None) as browser:
        assert (await browser.log_in(KEY)).status_code == 429


async def test_an_old_key_in_a_forgotten_client_locks_nobody_out(unthrottled: Running) -> None:
    for _ in range(2 * FREE_FAILURES):
        assert (await unthrottled.stranger.get("/signals", headers=guess(1))).status_code == 401
    assert (await unthrottled.http.get("/signals")).status_code == 200


async def test_a_probe_with_wrong_keys_is_no_reason_to_be_unready(unthrottled: Running) -> None:
    for number in range(FREE_FAILURES + 3):
        answer = await unthrottled.stranger.get("/readyz", headers=guess(number))
        assert (answer.status_code, answer.json()["credits"]) == (200, None)


async def test_behind_the_proxy_it_is_the_forwarded_address_that_has_to_wait(tmp_path: Path) -> None:
    async with service(tmp_path, with_worker=False, proxy_addresses="127.0.0.1") as own:
        for number in range(FREE_FAILURES + 1):
            last = await own.stranger.get("/signals", headers=guess(number, **{"X-Forwarded-For": "203.0.113.1"}))
        assert last.status_code == 429
        other = {"X-Forwarded-For": "203.0.113.2", "X-API-Key": KEY}
        assert (await own.stranger.get("/signals", headers=other)).status_code == 200


# -- what readers may not, and forms that are not ours


async def test_readers_look_and_change_nothing_on_any_page(live: Running) -> None:
    async with browsing(live, READER_KEY) as browser:
        assert f"{key_of(READER_KEY)} reader" in await browser.text("/desk/signals")
        assert (await browser.get("/desk/audit")).status_code == 403
        token = await browser.csrf()
        for name, path in routes("POST").items():
            if name in OPEN:
                continue
            answer = await browser.http.post(path, data={"csrf": token})
            assert answer.status_code == 403, name
            assert "only operators" in answer.text.lower(), name


async def test_readers_change_nothing_over_the_api_either(live: Running) -> None:
    spec = (await live.stranger.get("/openapi.json")).json()
    reader = {"X-API-Key": READER_KEY}
    changes = [
        (method, re.sub(r"{\w+}", "x", path))
        for path, item in spec["paths"].items()
        for method in item
        if method != "get" and path != "/webhooks/customerio"
    ]
    assert len(changes) > 8
    for method, path in changes:
        answer = await live.stranger.request(method, path, json={}, headers=reader)
        assert answer.status_code == 403, (method, path)
        assert answer.json()["detail"].startswith("this key may read")
    for path in ("/signals", "/briefs", "/quarantine"):
        assert (await live.stranger.get(path, headers=reader)).status_code == 200
    assert (await live.stranger.get("/audit", headers=reader)).status_code == 403


async def test_a_change_needs_the_token_of_this_log_in_from_a_page_of_ours(live: Running) -> None:
    async with browsing(live) as browser, browsing(live) as another:
        mine, foreign = await browser.csrf(), await another.csrf()
        for name, path in routes("POST").items():
            if name in OPEN - {"log_out"}:
                continue
            for data, headers in (
                ({}, {}),
                ({"csrf": foreign}, {}),
                ({"csrf": mine[:-1]}, {}),
                ({"csrf": mine}, {"Origin": "https://evil.example"}),
                ({"csrf": mine}, {"Sec-Fetch-Site": "same-site"}),
                ({}, {"X-CSRF-Token": foreign}),
            ):
                answer = await browser.http.post(path, data=data, headers=headers)
                assert answer.status_code == 403, (name, data, headers)
        answer = await browser.http.post("/desk/welcome/sample", headers={"X-CSRF-Token": mine})
        assert answer.status_code == 200
        assert (await browser.get("/desk/signals")).status_code == 200


async def test_a_part_of_a_page_whose_log_in_has_ended_asks_for_the_whole_window(live: Running) -> None:
    answer = await live.stranger.get("/desk/signals", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/desk/login")


# -- the audit trail


async def test_every_change_is_in_the_trail_with_who_and_how(everywhere: str, tmp_path: Path) -> None:
    async with service(tmp_path, with_worker=False) as own:
        event_id = await own.post(payload("cust_1001"))
        told = (await own.http.get(f"/signals/{event_id}")).json()
        await own.http.post(f"/signals/{event_id}/replay", headers={"User-Agent": "churn-radar"})
        await own.http.post("/signals/replay", json={"event_ids": [event_id], "dry_run": True})
        async with browsing(own) as browser:
            await browser.post("/desk/replay", {"signal_id": told["id"]})
            await browser.post("/desk/replay", {"signal_id": told["id"], "confirmed": "true"})
            page = await browser.text("/desk/audit")
        trail = (await own.http.get("/audit", params={"limit": 4})).json()
    lines = [(each["who"], each["via"], each["action"], each["subject"]) for each in trail["items"]]
    who = key_of(KEY)
    assert lines == [
        (who, "page", "replay", told["id"]),
        (who, "page", "log in", None),
        (who, "api", "replay", told["id"]),  # whatever it called itself
        (who, "api", "post event", event_id),
    ]
    assert trail["cursor"] is None
    assert who in page
    assert "cust_1001" not in str(trail)
    assert KEY not in str(trail)


# -- what every page says to the browser


async def test_every_page_forbids_what_it_does_not_need(live: Running) -> None:
    async with browsing(live) as browser:
        for name, path in pages_with_an_end().items():
            for answer in (await browser.get(path), await live.stranger.get(path)):
                headers = answer.headers
                assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY, name
                assert headers["x-content-type-options"] == "nosniff"
                assert headers["referrer-policy"] == "same-origin"
                assert headers["cache-control"] == "no-store", name
    for word in ("'unsafe", "*", "http:", "https:"):
        assert word not in CONTENT_SECURITY_POLICY
    for part in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"):
        assert part in CONTENT_SECURITY_POLICY


async def test_no_page_holds_a_script_a_style_or_anything_of_others(live: Running) -> None:
    async with browsing(live) as browser:
        for name, path in pages_with_an_end().items():
            answer = await browser.get(path)
            if not answer.headers.get("content-type", "").startswith("text/html"):
                continue
            for tag, attributes in tags(answer.text):
                assert tag != "style", name
                assert tag != "script" or attributes.get("src"), name
                assert not any(key == "style" or key.startswith(("on", "hx-on")) for key in attributes), (name, tag)
                for key in ("src", "href", "action", "formaction"):
                    assert re.match(r"(/(?!/)|#|$)", attributes.get(key) or ""), (name, tag, attributes)


async def test_static_files_are_kept_for_a_year_and_named_by_what_they_hold(live: Running) -> None:
    page = (await live.stranger.get("/desk/login")).text
    [sheet] = [str(found["href"]) for tag, found in tags(page) if tag == "link" and found.get("rel") == "stylesheet"]
    answer = await live.stranger.get(sheet, headers={"Accept-Encoding": "gzip"})
    plain = await live.stranger.get(sheet, headers={"Accept-Encoding": "identity"})
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.content == plain.content
    assert static_files()["desk.css"].digest in sheet
    for wrong in ("/desk/static/000000000000/desk.css", "/desk/static/x/..%2F..%2Fsettings.py", sheet + "x"):
        assert (await live.stranger.get(wrong)).status_code == 404


# -- below a prefix


@pytest.mark.parametrize("passed_on", [True, False])
async def test_everything_works_below_a_prefix_that_the_proxy_passes_on_or_takes_away(
    tmp_path: Path, passed_on: bool
) -> None:
    before = "/ops/churn" if passed_on else ""
    async with service(tmp_path, with_worker=False, public_url="https://ops.example/ops/churn/") as own:
        asked = await own.stranger.get(f"{before}/")
        assert asked.headers["location"] == "/ops/churn/desk/login"
        form = await own.stranger.get(f"{before}/desk/login")
        cookie = form.headers["set-cookie"]
        assert "Path=/ops/churn;" in cookie
        for tag, attributes in tags(form.text):
            for key in ("src", "href", "action"):
                target = attributes.get(key) or ""
                assert target.startswith(("/ops/churn/", "#")) or not target, (tag, target)
                if key != "action" and target.startswith("/"):
                    found = await own.stranger.get(before + target.removeprefix("/ops/churn"))
                    assert found.status_code == 200, target
        answer = await own.stranger.post(
            f"{before}/desk/login",
            data={"csrf": token_of(form.text), "key": KEY},
            headers={"Cookie": cookie.partition(";")[0]},
        )
        assert (answer.status_code, answer.headers["location"]) == (303, "/ops/churn/")
        assert (await own.http.get(f"{before}/signals")).status_code == 200
        assert (await own.stranger.post(f"{before}/webhooks/customerio", json={})).status_code == 401
        assert "/ops/churn/openapi.json" in (await own.stranger.get(f"{before}/docs")).text


async def test_a_prefix_may_be_told_by_the_proxy_and_by_nobody_else(tmp_path: Path, tmp_path_factory: Any) -> None:
    told = {"X-Forwarded-Prefix": "/churn"}
    async with service(tmp_path, with_worker=False, proxy_addresses="127.0.0.1") as own:
        assert (await own.stranger.get("/", headers=told)).headers["location"] == "/churn/desk/login"
        assert (await own.stranger.get("/churn/", headers=told)).headers["location"] == "/churn/desk/login"
        assert (await own.stranger.get("/")).headers["location"] == "/desk/login"
    async with service(tmp_path_factory.mktemp("direct"), with_worker=False) as own:
        assert (await own.stranger.get("/", headers=told)).headers["location"] == "/desk/login"
