"""Sinks that send: each to a real server on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from starlette.responses import RedirectResponse, Response, StreamingResponse

from churn_radar.errors import Gone, RetryLater, SettingsError
from churn_radar.research.brief import Brief, BriefSections
from churn_radar.settings import Environment, IsolatedSettings
from churn_radar.sinks import apprise, slack, webhook
from churn_radar.sinks.addresses import Address, may_reach
from churn_radar.sinks.message import Link, Message
from churn_radar.sinks.protocol import Opens, Parts, Sink, SinkOptions, Speaker
from churn_radar.triage.consent import consent
from tests.support.briefs import a_brief
from tests.support.receivers import Mailbox, Receiver, mail_server, receiver
from tests.support.work import until

SECRET, NEWER = "whsec_" + "A" * 32, "whsec_" + "B" * 32
LOOPBACK = ("127.0.0.0/8", "::1/128")
PAGE = "https://radar.example/desk/briefs/1"


def options(*allowed: str, **told: Any) -> SinkOptions:
    settings = IsolatedSettings(environment=Environment.DEVELOPMENT, sinks_private_networks=allowed)
    secret = {key: SecretStr(value) for key, value in told.items()}
    return SinkOptions("desk", None, settings, secret, "CHURN_RADAR_SINKS_FILE: sink 'desk'")


async def links(brief: Brief) -> Sequence[Link]:
    return [Link("Open the brief", PAGE)]


@asynccontextmanager
async def opened(sink: Sink) -> AsyncIterator[Any]:
    assert isinstance(sink, Sink)
    assert isinstance(sink, Opens)
    await sink.open(Parts(links=links))
    yield sink
    await sink.aclose()


@pytest.fixture
async def desk() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


@pytest.fixture
async def mail() -> AsyncIterator[Mailbox]:
    async with mail_server() as made:
        yield made


def hook(desk: Receiver, *, secret: str = SECRET, allowed: Sequence[str] = LOOPBACK) -> webhook.WebhookSink:
    return webhook.create(options(*allowed, url=f"{desk.url}/hooks/churn", secret=secret))


# -- the outgoing webhook


async def test_the_reference_library_verifies_what_is_sent(desk: Receiver) -> None:
    async with opened(hook(desk)) as sink:
        await sink.deliver(a_brief())

    [request] = desk.requests
    told = Webhook(SECRET).verify(request.body, request.headers)
    assert (request.path, told["type"]) == ("/hooks/churn", "brief.ready")
    assert told["data"] == a_brief().as_record()
    with pytest.raises(WebhookVerificationError):
        Webhook(NEWER).verify(request.body, request.headers)


async def test_while_secrets_are_rotated_either_verifies(desk: Receiver) -> None:
    async with opened(hook(desk, secret=f"{NEWER} {SECRET}")) as sink:
        await sink.deliver(a_brief())

    for secret in (SECRET, NEWER):
        Webhook(secret).verify(desk.requests[0].body, desk.requests[0].headers)


async def test_a_repeated_attempt_has_the_same_id_and_a_time_of_its_own(desk: Receiver) -> None:
    sink = hook(desk)
    moments = iter(datetime(2026, 11, 24, 12, tzinfo=UTC) + timedelta(minutes=m) for m in range(3))
    sink.now = lambda: next(moments)
    async with opened(sink):
        await sink.deliver(a_brief())
        await sink.deliver(a_brief())
        await sink.deliver(a_brief(2))

    first, again, other = (request.headers for request in desk.requests)
    assert first["webhook-id"] == again["webhook-id"] != other["webhook-id"]
    assert int(again["webhook-timestamp"]) == int(first["webhook-timestamp"]) + 60
    assert webhook.message_id_of("brf_1", "desk") != webhook.message_id_of("brf_1", "other")


async def test_gone_stops_the_sink(desk: Receiver) -> None:
    desk.answers.append(Response(status_code=410))
    async with opened(hook(desk)) as sink:
        with pytest.raises(Gone, match=r"127\.0\.0\.1 answered 410"):
            await sink.deliver(a_brief())


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
async def test_every_other_answer_is_tried_again(desk: Receiver, status: int) -> None:
    desk.answers.append(Response("jane@acme.co is not welcome", status_code=status, headers={"Retry-After": "120"}))
    async with opened(hook(desk)) as sink:
        with pytest.raises(RetryLater) as caught:
            await sink.deliver(a_brief())

    assert not isinstance(caught.value, Gone)
    assert (str(caught.value), caught.value.status) == (f"127.0.0.1 answered {status}", status)
    assert caught.value.retry_after == timedelta(minutes=2)


async def test_a_redirect_is_not_followed(desk: Receiver) -> None:
    desk.answers.append(RedirectResponse(f"{desk.url}/elsewhere", 307))
    async with opened(hook(desk)) as sink:
        with pytest.raises(RetryLater, match="redirects are not followed"):
            await sink.deliver(a_brief())

    assert [request.path for request in desk.requests] == ["/hooks/churn"]


async def test_an_answer_without_end_is_read_no_further_than_needed(desk: Receiver) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536
            await asyncio.sleep(0)

    desk.answers.append(StreamingResponse(endless()))
    async with opened(hook(desk)) as sink:
        await asyncio.wait_for(sink.deliver(a_brief()), 5)


async def test_nobody_there_is_tried_again() -> None:
    sink = webhook.create(options(*LOOPBACK, url="http://127.0.0.1:9/x", secret=SECRET))
    async with opened(sink):
        with pytest.raises(RetryLater, match=r"no connection to 127\.0\.0\.1"):
            await sink.deliver(a_brief())


async def test_a_name_that_does_not_resolve_is_tried_again() -> None:
    async with opened(webhook.create(options(url="http://nowhere.invalid/x", secret=SECRET))) as sink:
        with pytest.raises(RetryLater, match=r"nowhere\.invalid does not resolve"):
            await sink.deliver(a_brief())


async def test_a_private_address_is_not_reached_unless_it_is_allowed(desk: Receiver) -> None:
    async with opened(hook(desk, allowed=())) as sink:
        with pytest.raises(RetryLater, match="is a private address: nothing was sent"):
            await sink.deliver(a_brief())

    assert desk.requests == []


async def test_the_connection_goes_to_the_address_that_was_looked_at(desk: Receiver) -> None:
    """A name that is resolved once more for the connection could mean something else by then."""
    port = desk.url.rpartition(":")[2]
    sink = webhook.create(options(*LOOPBACK, url=f"http://desk.example:{port}/x", secret=SECRET))
    asked: list[tuple[str, int]] = []

    async def lookup(host: str, at: int) -> list[Address]:
        asked.append((host, at))
        return [ip_address("10.0.0.1"), ip_address("127.0.0.2"), ip_address("127.0.0.1")]

    sink.lookup = lookup
    async with opened(sink):
        await sink.deliver(a_brief())

    [request] = desk.requests
    assert asked == [("desk.example", int(port))]
    # 127.0.0.2 took no connection: the receiver listens on 127.0.0.1 alone.
    assert request.headers["host"] == f"desk.example:{port}"


@pytest.mark.parametrize(
    "address",
    [
        *(
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "127.0.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *("255.255.255.255", "::1", "::", "fe80::1", "fd00::1", "ff02::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"),
        *("2002:7f00:1::", "::ffff:169.254.169.254", "::127.0.0.1", "::ffff:0:10.0.0.1"),
        *("fec0::1", "64:ff9b:1::a00:1", "5f00::1", "3fff::1", "168.63.129.16"),
    ],
)
def test_what_is_not_public_is_not_reached(address: str) -> None:
    assert not may_reach(ip_address(address))
    assert may_reach(ip_address(address), ["0.0.0.0/0", "::/0"])


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_what_is_public_is_reached(address: str) -> None:
    assert may_reach(ip_address(address))


def test_an_allowed_network_opens_no_other() -> None:
    assert may_reach(ip_address("10.1.0.7"), ["10.1.0.0/16"])
    assert may_reach(ip_address("::ffff:10.1.0.7"), ["10.1.0.0/16"])
    assert not may_reach(ip_address("10.2.0.7"), ["10.1.0.0/16"])


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"url": "https://a.example"}, "needs its secret"),
        ({"secret": SECRET}, "needs its url"),
        ({"url": "ftp://a.example", "secret": SECRET}, "not an http(s) address"),
        ({"url": "https://", "secret": SECRET}, "not an http(s) address"),
        ({"url": "https://a.example", "secret": "S3CRET"}, "has to be whsec_"),
        ({"url": "https://a.example", "secret": f"{SECRET} whsec_short"}, "has to be whsec_"),
        ({"url": "https://a.example", "secret": SECRET, "secrets": SECRET}, "there is no such key"),
    ],
)
def test_a_webhook_that_cannot_work_stops_the_start_with_one_line(told: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        webhook.create(options(**told))

    [line] = caught.value.problems
    assert said in line
    assert "S3CRET" not in line


def test_no_representation_shows_a_secret_or_an_address() -> None:
    shown = repr(webhook.create(options(url="https://a.example/T0KEN", secret=SECRET)))
    shown += repr(slack.create(options(url="https://hooks.slack.example/T0KEN")))
    shown += repr(apprise.create(options(url="mailto://user:T0KEN@example.com")))

    assert "T0KEN" not in shown
    assert "AAAA" not in shown


# -- Slack


async def test_slack_gets_blocks_with_a_button(desk: Receiver) -> None:
    async with opened(slack.create(options(url=f"{desk.url}/services/T0KEN"))) as sink:
        await sink.deliver(a_brief(consent=consent([("complained", "email")])))

    told = json.loads(desk.requests[0].body)
    kinds = [block["type"] for block in told["blocks"]]
    assert kinds == ["header", "section", "section", "section", "actions", "context"]
    header, facts, lines, caution, actions, context = told["blocks"]
    assert header["text"]["text"] == "Churn alert: unsubscribed, High-MRR Fintech (Pro plan)"
    assert facts["fields"][0] == {"type": "mrkdwn", "text": "*Customer*\njane@acme.co", "verbatim": True}
    assert lines["text"]["text"] == "*Why:* They do, for reasons."
    assert "Send no mail at all" in caution["text"]["text"]
    assert actions["elements"][0]["url"] == PAGE
    assert context["elements"][0]["text"] == a_brief().id


def test_slack_finds_no_mark_of_its_own_in_what_comes_from_outside() -> None:
    hostile = "<!channel> <https://evil.example|Open> & @here"
    header, *marked = slack.blocks(Message("id", hostile, (("Plan", hostile),), (("Why", hostile),), hostile))
    assert header["text"]["type"] == "plain_text"
    shown = json.dumps(marked)

    assert "<!channel>" not in shown
    assert "<https" not in shown
    assert "@here" not in shown


def test_blocks_keep_to_slacks_limits() -> None:
    long = "word " * 1000
    message = Message("id", long, (("Plan", long),) * 20, (("Why", long),) * 10, long, (Link(long, PAGE),) * 9)

    made = slack.blocks(message)

    assert len(made) <= 50
    assert len(made[0]["text"]["text"]) <= 150
    assert len(made[1]["fields"]) <= 10
    assert all(len(each["text"]) <= 2000 for each in made[1]["fields"])
    assert all(len(block["text"]["text"]) <= 3000 for block in made if "text" in block)
    assert [len(block["elements"]) for block in made if block["type"] == "actions"] == [5]


async def test_slack_says_what_was_wrong_with_a_message_in_a_word(desk: Receiver) -> None:
    desk.answers += [Response("invalid_blocks", 400), Response("no_service for jane@acme.co", 404)]
    async with opened(slack.create(options(url=f"{desk.url}/T0KEN"))) as sink:
        with pytest.raises(RetryLater, match=r"127\.0\.0\.1 answered 400: invalid_blocks"):
            await sink.deliver(a_brief())
        with pytest.raises(RetryLater) as caught:
            await sink.deliver(a_brief())

    assert str(caught.value) == "127.0.0.1 answered 404"


# -- Apprise: mail and the rest


def mailto(box: Mailbox) -> apprise.AppriseSink:
    return apprise.create(
        options(url=f"mailto://127.0.0.1:{box.port}?from=radar@a.example&to=desk@a.example&mode=insecure")
    )


async def test_mail_comes_as_text_and_as_html(mail: Mailbox) -> None:
    sections = BriefSections(churn_reasons="They were <b>mailed</b> & left.", offer="20 % off", timing="Day three")
    async with opened(mailto(mail)) as sink:
        await sink.deliver(a_brief(sections=sections))

    [letter] = mail.letters
    assert letter["Subject"] == "Churn alert: unsubscribed, High-MRR Fintech (Pro plan)"
    assert mail.recipients == [["desk@a.example"]]
    text, html = letter.get_body(("plain",)), letter.get_body(("html",))
    assert text is not None
    assert html is not None
    for part in (text.get_content(), html.get_content()):
        for said in ("jane@acme.co", "$850 a month", "20 % off", "Day three", "Send no marketing mail", PAGE):
            assert said in part
    assert "They were &lt;b&gt;mailed&lt;/b&gt; &amp; left." in html.get_content()


async def test_a_mail_server_that_refuses_is_tried_again(mail: Mailbox) -> None:
    mail.refuse = "550 jane@acme.co is unknown here"
    async with opened(mailto(mail)) as sink:
        with pytest.raises(RetryLater) as caught:
            await sink.deliver(a_brief())

    assert "jane" not in str(caught.value)


async def test_a_mail_server_that_is_away_is_tried_again() -> None:
    async with opened(mailto(Mailbox(port=9))) as sink:
        with pytest.raises(RetryLater, match="E-Mail did not take the message"):
            await sink.deliver(a_brief())


def chat(desk: Receiver, scheme: str = "json") -> apprise.AppriseSink:
    return apprise.create(options(url=f"{scheme}://{desk.url.removeprefix('http://')}/hook"))


async def test_a_chat_service_is_told_in_plain_text(desk: Receiver) -> None:
    async with opened(chat(desk)) as sink:
        await sink.deliver(a_brief())

    told = json.loads(desk.requests[0].body)
    assert told["title"] == "Churn alert: unsubscribed, High-MRR Fintech (Pro plan)"
    assert told["message"].startswith("Customer: jane@acme.co | MRR: $850 a month")
    assert told["message"].endswith(f"Open the brief: {PAGE}")


@pytest.mark.parametrize(("status", "error"), [(410, Gone), (404, RetryLater), (503, RetryLater), (302, RetryLater)])
async def test_a_chat_services_refusal_is_told_by_its_status(
    desk: Receiver, status: int, error: type[Exception]
) -> None:
    desk.answers.append(Response("jane@acme.co", status, {"Location": f"{desk.url}/elsewhere"}))
    async with opened(chat(desk)) as sink:
        with pytest.raises(error, match=f"^JSON answered {status}$"):
            await sink.deliver(a_brief())

    assert len(desk.requests) == 1


@pytest.mark.parametrize(
    ("url", "family", "most"),
    [
        ("discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js", apprise.Family.MARKDOWN, 2000),
        ("workflows://host/workflow/signature", apprise.Family.MARKDOWN, 1000),
        ("tgram://123456789:abcdefg_hijklmnop/12345", apprise.Family.TEXT, 4096),
        ("mailtos://user:pass@example.com", apprise.Family.MAIL, 32768),
        ("sendgrid://abcd:a@b.example/c@d.example", apprise.Family.MAIL, 20000),
    ],
)
def test_each_service_is_told_in_its_familys_words_within_its_size(url: str, family: apprise.Family, most: int) -> None:
    sink = apprise.create(options(url=url))
    sections = BriefSections(churn_reasons="word " * 900, offer="word " * 900, timing="word " * 900)

    said = apprise.body(
        Message("id", "title", (("Customer", "x" * 900),), (("Why", sections.offer or ""),) * 3, "caution"),
        sink.family,
        sink.service.body_maxlen,
    )

    assert sink.family is family
    assert len(said) <= min(most, sink.service.body_maxlen)


@pytest.mark.parametrize(
    "url", ["", "nonsense", "nosuch://x", "discord://", "json://a.example json://b.example", "x://y"]
)
def test_an_address_that_apprise_does_not_know_stops_the_start_with_one_line(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        apprise.create(options(url=url))

    [line] = caught.value.problems
    assert "not one address as Apprise knows them" in line


def test_chat_and_mail_take_any_message() -> None:
    assert isinstance(slack.create(options(url="https://a.example")), Speaker)
    assert isinstance(apprise.create(options(url="json://a.example")), Speaker)


async def test_the_event_loop_runs_on_while_a_chat_service_is_slow(desk: Receiver) -> None:
    desk.hold = asyncio.Event()
    async with opened(chat(desk)) as sink:
        sending = asyncio.create_task(sink.deliver(a_brief()))

        async def came() -> bool:
            return bool(desk.requests)

        await until(came, "the request")
        desk.hold.set()
        await sending
