"""The examples of how to run it: they parse, name what exists, and keep to what the service needs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from typer.main import get_command

from churn_radar import serving
from churn_radar.cli import app
from churn_radar.intake.door import PATH
from churn_radar.settings import Settings, variable_name
from churn_radar.store import line_postgres, postgres_driver
from churn_radar.work import engine_postgres, feeder, sweep

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
UNIT = ROOT / "deploy/systemd/churn-radar.service"
COMPOSE = (ROOT / "compose.yaml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "churn-radar"}

SETTINGS = {variable_name(field) for field in Settings.model_fields}
COMMANDS = set(get_command(app).commands)  # type: ignore[attr-defined]
# What a stop takes at most beside the work's own grace, while Postgres does not answer: the server's answers under way,
# the last batch from a buffer, what feeds the work, the engine twice, the record's line and the engine's connections.
CLOSING_SECONDS = (
    serving.GRACE_SECONDS
    + Settings.model_fields["commit_timeout_seconds"].default
    + max(sweep.STOP_SECONDS, feeder.STOP_SECONDS)
    + 2 * engine_postgres.STOP_SECONDS
    + line_postgres.CLOSE_SECONDS
    + postgres_driver.CLOSE_SECONDS
)
GRACE_SECONDS = Settings.model_fields["shutdown_grace_seconds"].default
USER = int(re.findall(r"USER (\d+):", (ROOT / "Dockerfile").read_text())[0])


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((KUBERNETES / name).read_text()))


FILES = sorted(path.name for path in KUBERNETES.glob("*.yaml"))
DEPLOYMENTS = [document for name in FILES for document in documents(name) if document["kind"] == "Deployment"]


def named_in(text: str) -> set[str]:
    return set(re.findall(r"\b(?:CHURN_RADAR_[A-Z_]+|CIO_[A-Z_]+|MAVERA_[A-Z_]+)\b", text))


@pytest.mark.parametrize(
    "path",
    [ROOT / "compose.yaml", ROOT / "deploy/Caddyfile", UNIT, *sorted(KUBERNETES.glob("*"))],
    ids=lambda p: p.name,
)
def test_every_variable_that_an_example_names_is_a_setting(path: Path) -> None:
    assert named_in(path.read_text()) <= SETTINGS


def test_without_a_profile_one_container_starts_that_needs_nothing_else() -> None:
    alone = {name: service for name, service in SERVICES.items() if "profiles" not in service}
    assert alone.keys() == {"churn-radar"}
    assert "depends_on" not in alone["churn-radar"]
    assert ":?" not in COMPOSE, "a variable that only one profile needs must not stop the other one"


def test_the_scaled_profile_has_two_doors_two_workers_and_what_they_stand_on() -> None:
    scaled = {name for name, service in SERVICES.items() if service.get("profiles") == ["scaled"]}
    assert scaled == {"second", "worker", "migrate", "postgres", "redis", "caddy"}
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    for name in ("second", "worker"):
        assert SERVICES[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert "--appendfsync always --maxmemory-policy noeviction" in " ".join(SERVICES["redis"]["command"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_names_only_what_there_is(name: str) -> None:
    whole = yaml.safe_load(COMPOSE)
    service = SERVICES[name]
    assert set(service.get("depends_on", ())) <= SERVICES.keys()
    assert set(service["networks"]) <= whole["networks"].keys()
    for volume in service.get("volumes", ()):
        source = volume.split(":")[0]
        assert source in whole["volumes"] or (ROOT / source).exists(), volume
    assert name in OURS or re.search(r":\d+\.\d+", service["image"]), "an image is pinned by its version"


@pytest.mark.parametrize("name", OURS)
def test_our_containers_have_no_rights_and_are_given_time_to_end(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert int(service["stop_grace_period"].removesuffix("s")) >= GRACE_SECONDS + CLOSING_SECONDS
    assert set(service.get("command", ["serve"])[:1]) <= COMMANDS


def test_the_proxy_passes_on_the_webhooks_path_alone_and_never_answers_502() -> None:
    text = (ROOT / "deploy/Caddyfile").read_text()
    assert re.findall(r"handle (/\S+) ", text) == [PATH]
    [upstreams] = re.findall(r"reverse_proxy (.*) \{", text)
    doors = {name for name, service in OURS.items() if service.get("command", ["serve"])[0] == "serve"}
    assert {upstream.removesuffix(":8080") for upstream in upstreams.split()} == doors
    assert re.search(r"handle_errors \{[^}]*respond 503", text)
    assert "read_header" in text


@pytest.mark.parametrize("name", FILES)
def test_a_manifest_parses_and_says_what_it_is(name: str) -> None:
    for document in documents(name):
        assert {"apiVersion", "kind"} <= document.keys()


def test_the_kustomization_names_the_manifests_that_are_there() -> None:
    [kustomization] = documents("kustomization.yaml")
    assert set(kustomization["resources"]) == set(FILES) - {"kustomization.yaml", "ingress.yaml", "secret.example.yaml"}


def test_the_manifests_build() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl")
    built = subprocess.run(["kubectl", "kustomize", KUBERNETES], capture_output=True, text=True, check=True).stdout
    kinds = [document["kind"] for document in yaml.safe_load_all(built)]
    assert sorted(kinds) == [
        *("ConfigMap", "Deployment", "Deployment", "PodDisruptionBudget", "PodDisruptionBudget", "Service"),
    ]


def test_the_example_of_a_secret_holds_no_value() -> None:
    [secret] = documents("secret.example.yaml")
    assert set(secret["stringData"].values()) == {""}
    assert {"CIO_APP_KEY", "CIO_WEBHOOK_SECRET", "MAVERA_API_KEY", "CHURN_RADAR_API_KEYS"} <= secret[
        "stringData"
    ].keys()


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda found: found["metadata"]["name"])
def test_pods_have_no_rights_take_over_before_others_go_and_are_given_time_to_end(deployment: dict[str, Any]) -> None:
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == USER
    assert pod["securityContext"]["runAsNonRoot"] is True
    waits = 5 if "lifecycle" in pod["containers"][0] else 0
    [config] = documents("config.yaml")
    grace = int(config["data"]["CHURN_RADAR_SHUTDOWN_GRACE_SECONDS"])
    assert pod["terminationGracePeriodSeconds"] >= waits + grace + CLOSING_SECONDS
    for container in (*pod["initContainers"], *pod["containers"]):
        granted = container["securityContext"]
        assert granted["readOnlyRootFilesystem"] is True
        assert granted["allowPrivilegeEscalation"] is False
        assert granted["capabilities"] == {"drop": ["ALL"]}
        assert container["args"][0] in COMMANDS


@pytest.mark.parametrize(
    ("name", "port"), [("serve.yaml", "CHURN_RADAR_PORT"), ("worker.yaml", "CHURN_RADAR_WORKER_PORT")]
)
def test_a_pod_is_killed_for_silence_and_passed_over_when_not_ready(name: str, port: str) -> None:
    [deployment] = documents(name)
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    [config] = documents("config.yaml")
    [opened] = container["ports"]
    assert opened["containerPort"] == int(config["data"][port])
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == opened["name"]
    assert container["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_budget_and_service_mean_pods_that_there_are() -> None:
    pods = [deployment["spec"]["template"]["metadata"]["labels"] for deployment in DEPLOYMENTS]
    selectors = [budget["spec"]["selector"]["matchLabels"] for budget in documents("disruption.yaml")]
    selectors += [service["spec"]["selector"] for service in documents("service.yaml")]
    assert all(any(selector.items() <= labels.items() for labels in pods) for selector in selectors)


def test_the_unit_for_systemd_is_one(tmp_path: Path) -> None:
    text = UNIT.read_text()
    [seconds] = re.findall(r"TimeoutStopSec=(\d+)", text)
    assert int(seconds) >= GRACE_SECONDS + CLOSING_SECONDS
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace("/opt/churn_radar/.venv/bin/churn-radar serve", "/bin/true"))
    told = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (0, "")
