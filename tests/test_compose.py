"""docker-compose.yml, as far as that goes without an engine: what it refers to exists, and containers are closed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.core.management import load_command_class
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
ONE_SHOT = {"prepare", "demo"}

each_service = pytest.mark.parametrize("name", sorted(SERVICES))
each_of_ours = pytest.mark.parametrize("name", OURS)


def test_the_services_are_those_that_the_readme_promises() -> None:
    assert set(SERVICES) == {"web", "worker", "prompt", "beat", "prepare", "database", "broker", "lab", "demo"}
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["lab"]} == {"lab", "demo"}


@each_service
def test_everything_a_service_refers_to_exists(name: str) -> None:
    service = SERVICES[name]
    for other, condition in service.get("depends_on", {}).items():
        assert other in SERVICES
        if condition["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other]
        elif service.get("network_mode") == f"service:{other}":
            # Whose network it shares has to be there first, and no more.
            assert condition["condition"] == "service_started"
        else:
            assert condition["condition"] == "service_completed_successfully"
            assert other in ONE_SHOT
    assert set(service.get("networks", ())) <= set(COMPOSE["networks"])
    assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])
    for volume in service.get("volumes", ()):
        assert volume.split(":")[0] in COMPOSE["volumes"]
    for key, value in service.get("environment", {}).items():
        if key.endswith("_FILE"):
            assert value.removeprefix("/run/secrets/") in service["secrets"], key


@each_service
def test_a_service_is_closed_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert ("healthcheck" in service) is (name not in ONE_SHOT)
    assert (service["restart"] == "no") is (name in ONE_SHOT)


def test_only_the_web_is_reachable_from_outside_and_the_databases_have_no_way_out() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["web"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert all(SERVICES[name]["networks"] == ["inside"] for name in ("database", "broker"))


def test_no_container_of_ours_runs_as_root() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^USER (.+)$", dockerfile, re.MULTILINE) == ["10001:10001"]
    assert all(SERVICES[name]["user"] not in ("root", "0") for name in ("database", "broker"))


def test_no_secret_stands_in_the_file() -> None:
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|KEYS", key):
                assert key.endswith("_FILE"), f"{name}: {key}"
                assert value.startswith("/run/secrets/")
            assert not re.search(r"://[^/]*:[^/]*@", str(value)), f"{name}: {key} holds a password"


def test_the_secrets_are_those_that_the_script_makes(tmp_path: Path) -> None:
    made = re.findall(r"^make (\w+) ", (ROOT / "scripts/secrets.sh").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(made) == sorted(COMPOSE["secrets"])
    assert all(secret["file"] == f"./secrets/{name}" for name, secret in COMPOSE["secrets"].items())
    assert "/secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_the_variables_are_those_that_the_example_explains() -> None:
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", (ROOT / "docker-compose.yml").read_text(encoding="utf-8")))
    explained = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE))
    assert used == explained


@each_of_ours
def test_the_settings_are_ones_that_the_product_reads(name: str) -> None:
    sources = (ROOT / "console/settings.py").read_text(encoding="utf-8")
    for key in SERVICES[name].get("environment", {}):
        assert f'"{key.removesuffix("_FILE")}"' in sources, key


def test_commands_name_what_exists() -> None:
    assert SERVICES["prepare"]["command"][:2] == SERVICES["demo"]["command"][:2] == ["python", "manage.py"]
    for name in ONE_SHOT:
        load_command_class("console", SERVICES[name]["command"][2])
    assert SERVICES["lab"]["command"][:3] == ["python", "-m", "lab"]
    for name in ("worker", "beat"):
        assert SERVICES[name]["command"][:3] == ["celery", "--app=console", name]


def test_the_image_holds_what_its_dockerfile_copies() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    let_in = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE))
    for source in re.findall(r"^COPY (?!--from)(\S+) ", dockerfile, re.MULTILINE):
        assert (ROOT / source).exists(), source
        assert source.split("/")[0] in let_in, source
