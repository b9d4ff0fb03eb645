from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
import pytest_asyncio
from pydantic import TypeAdapter

from churn_radar.intake.door import PATH
from churn_radar.intake.events import NotASignal, understand
from churn_radar.intake.payload import Event
from churn_radar.problems import Problem
from tests.support.work import Running, service

pytestmark = pytest.mark.asyncio(loop_scope="module")

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
OPEN = {PATH, "/healthz", "/readyz", "/metrics"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with service(tmp_path_factory.mktemp("openapi"), with_worker=False) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def spec(live: Running) -> dict[str, Any]:
    document: dict[str, Any] = (await live.stranger.get("/openapi.json")).json()
    return document


def operations(spec: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in spec["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


def needs_key(operation: dict[str, Any]) -> bool:
    """Whether an operation is closed without one; `{}` among the ways in stands for none at all."""
    ways: list[dict[str, Any]] = operation.get("security", [])
    return bool(ways) and {} not in ways


def resolved(spec: dict[str, Any], reference: str) -> Any:
    assert reference.startswith("#/")
    node: Any = spec
    for part in reference[2:].split("/"):
        assert part in node, f"{reference} leads nowhere"
        node = node[part]
    return node


async def test_the_document_has_the_structure_of_openapi_3_1(spec: dict[str, Any]) -> None:
    assert re.fullmatch(r"3\.1\.\d+", spec["openapi"])
    assert spec["info"]["title"] == "churn_radar"
    assert spec["info"]["version"]
    assert set(spec) <= {"openapi", "info", "paths", "components", "servers", "tags", "webhooks", "security"}
    ids = []
    for method, path, operation in operations(spec):
        assert path.startswith("/")
        assert method in METHODS
        assert operation["responses"]
        assert all(re.fullmatch(r"[1-5]\d\d|default", status) for status in operation["responses"])
        assert all(response["description"] for response in operation["responses"].values())
        ids.append(operation["operationId"])
        declared = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert declared == set(re.findall(r"{(\w+)", path))
        for parameter in operation.get("parameters", []):
            assert parameter["in"] in {"path", "query", "header", "cookie"}
            assert parameter["schema"]
            assert parameter["required"] or parameter["in"] != "path"
    assert len(ids) == len(set(ids))


async def test_every_reference_leads_somewhere(spec: dict[str, Any]) -> None:
    references = [node["$ref"] for node in walk(spec) if isinstance(node.get("$ref"), str)]

    assert len(references) > 20
    for reference in references:
        resolved(spec, reference)


async def test_every_route_has_a_summary_a_description_and_a_room(spec: dict[str, Any]) -> None:
    for method, path, operation in operations(spec):
        assert operation.get("summary"), (method, path)
        assert operation.get("description"), (method, path)
        assert operation.get("tags"), (method, path)
        for parameter in operation.get("parameters", []):
            assert parameter.get("description"), (method, path, parameter["name"])


async def test_the_routes_are_those_of_the_interface(spec: dict[str, Any]) -> None:
    assert {(method, path) for method, path, _ in operations(spec)} == {
        ("post", PATH),
        ("post", "/events"),
        ("get", "/briefs"),
        ("get", "/briefs/{customer_id}"),
        ("get", "/signals"),
        ("get", "/signals/{event_id}"),
        ("post", "/signals/replay"),
        ("post", "/signals/backfill"),
        ("post", "/signals/{event_id}/replay"),
        ("get", "/quarantine"),
        ("post", "/quarantine/drop"),
        ("post", "/quarantine/export"),
        ("post", "/quarantine/import"),
        ("get", "/outcomes/summary"),
        ("get", "/outcomes/{brief_id}"),
        ("post", "/outcomes/{brief_id}"),
        ("put", "/outcomes/{brief_id}/owner"),
        ("put", "/outcomes/{brief_id}/snooze"),
        ("get", "/sinks"),
        ("post", "/sinks/resume"),
        ("get", "/deliveries"),
        ("post", "/deliveries/replay"),
        ("get", "/customers/{customer_id}"),
        ("delete", "/customers/{customer_id}"),
        ("post", "/customers/{customer_id}/let-in"),
        ("get", "/audit"),
        ("get", "/healthz"),
        ("get", "/readyz"),
        ("get", "/metrics"),
    }


async def test_every_error_of_every_route_is_a_problem_with_an_example_that_is_one(spec: dict[str, Any]) -> None:
    for method, path, operation in operations(spec):
        for status, response in operation["responses"].items():
            if status[0] not in "45" or path == "/readyz":
                continue
            assert list(response["content"]) == ["application/problem+json"], (method, path, status)
            content = response["content"]["application/problem+json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            problem = Problem.model_validate(content["example"])
            assert problem.status == int(status)
            assert problem.detail
            assert "customer" not in problem.detail or "signals" not in path, (method, path, status)


async def test_the_reason_for_not_being_ready_is_shown_by_example(spec: dict[str, Any]) -> None:
    example = spec["paths"]["/readyz"]["get"]["responses"]["503"]["content"]["application/json"]["example"]

    assert example["status"] == "unavailable"
    assert example["reason"]


async def test_every_route_tells_what_it_answers_when_refused(spec: dict[str, Any]) -> None:
    for method, path, operation in operations(spec):
        told = set(operation["responses"])
        if path in OPEN:
            continue
        assert {"401", "422", "503"} <= told, (method, path)
        assert ("404" in told) == ("{" in path)
        assert ("413" in told) == ("requestBody" in operation)
    assert set(spec["paths"][PATH]["post"]["responses"]) == {"200", "401", "405", "408", "413", "415", "503"}


async def test_the_key_is_asked_for_where_it_is_needed_and_only_there(spec: dict[str, Any]) -> None:
    schemes = spec["components"]["securitySchemes"]
    assert {(s["type"], s.get("scheme") or s.get("name")) for s in schemes.values()} == {
        ("http", "bearer"),
        ("apiKey", "X-API-Key"),
    }
    for _, path, operation in operations(spec):
        assert needs_key(operation) == (path not in OPEN)
    # A key shows more there.
    assert len(spec["paths"]["/readyz"]["get"]["security"]) == 3


async def test_what_the_document_calls_open_is_open_and_the_rest_is_not(live: Running, spec: dict[str, Any]) -> None:
    for method, path, operation in operations(spec):
        answer = await live.stranger.request(method, re.sub(r"{\w+}", "x", path), json={})
        assert (answer.status_code == 401) == (needs_key(operation) or path == PATH), (method, path)


@pytest.mark.parametrize("path", [PATH, "/events"])
async def test_there_is_an_example_for_every_kind_of_churn_signal_and_for_an_ignored_one(
    spec: dict[str, Any], path: str
) -> None:
    body = spec["paths"][path]["post"]["requestBody"]["content"]["application/json"]

    kinds = set()
    for example in body["examples"].values():
        assert example["summary"]
        understood = understand(Event.model_validate(example["value"]), ("unsubscribed", "bounced", "complained"))
        kinds.add("ignored" if isinstance(understood, NotASignal) else understood.kind)
    assert kinds == {"unsubscribed", "bounced", "complained", "ignored"}
    assert resolved(spec, body["schema"]["$ref"])["title"] == "CustomerioEvent"


async def test_the_webhook_says_how_it_is_signed(spec: dict[str, Any]) -> None:
    webhook = spec["paths"][PATH]["post"]

    assert [(p["name"], p["in"]) for p in webhook["parameters"]] == [
        ("X-CIO-Signature", "header"),
        ("X-CIO-Timestamp", "header"),
    ]
    assert "HMAC-SHA256" in webhook["description"]


async def test_a_brief_is_documented_with_every_field_of_the_interface(spec: dict[str, Any]) -> None:
    brief = spec["components"]["schemas"]["Brief"]["properties"]

    assert {
        *("id", "customer_id", "event_type", "event_ids", "persona_type", "research_brief", "sources", "sections"),
        *("plan", "mrr", "currency", "confidence", "hallucination_risk", "unsupported_claims", "credits_used"),
        *("mave_thread_id", "attributes_source", "signal_received_at", "created_at"),
    } <= set(brief)


async def test_the_document_holds_no_secret_and_no_path_of_a_machine(live: Running) -> None:
    text = (await live.stranger.get("/openapi.json")).text

    for value in (*live.service.settings.api_keys, *live.service.settings.cio_webhook_secret):
        assert value.get_secret_value() not in text
    assert "/home/" not in text
    assert str(live.service.record.folder) not in text


async def test_the_document_is_the_same_at_every_reading(live: Running) -> None:
    first, second = [(await live.stranger.get("/openapi.json")).content for _ in range(2)]

    assert first == second


# -- the page


class Links(HTMLParser):
    """Everything that a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in {"src", "href"} and value]


async def test_the_page_is_served_without_any_foreign_host(live: Running) -> None:
    page = await live.stranger.get("/docs")
    links = Links()
    links.feed(page.text)

    assert page.status_code == 200
    assert len(links.found) >= 3
    assert re.findall(r"https?://[^\s\"']+", page.text) == []
    for link in links.found:
        assert link.startswith("/")
        asset = await live.stranger.get(link)
        assert asset.status_code == 200
        assert len(asset.content) > 100


async def test_the_page_reads_our_document_and_remembers_the_key(live: Running) -> None:
    page = (await live.stranger.get("/docs")).text

    assert "'/openapi.json'" in page
    assert re.search(r'"persistAuthorization":\s*true', page)


async def test_the_style_of_the_page_loads_nothing_from_elsewhere(live: Running) -> None:
    style = (await live.stranger.get("/static-offline-docs/swagger-ui.css")).text

    assert re.findall(r"url\(\s*[\"']?(?:https?:)?//", style) == []


async def test_an_answer_is_what_the_document_says(live: Running) -> None:
    """The schema of errors is not FastAPI's own: what is documented is what is sent."""
    answer = await live.http.get("/briefs", params={"limit": 0})

    problem = TypeAdapter(Problem).validate_json(answer.content)
    assert (problem.status, problem.type) == (422, "about:blank")
    assert problem.errors
