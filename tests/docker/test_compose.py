"""The rules that docker/compose.yaml must keep. docker/verify.sh brings it up."""

import re
from pathlib import Path

import pytest
import yaml


@pytest.fixture
def stack(docker):
    return yaml.safe_load((docker / "compose.yaml").read_text("utf-8"))


@pytest.fixture
def services(stack):
    return stack["services"]


def test_ports_are_published_on_the_loopback_interface_only(services):
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert list(published) == ["mlflow"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert not [name for name, service in services.items() if service.get("network_mode") or service.get("privileged")]


def test_every_service_is_locked_down_and_pulls_nothing(services):
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["pull_policy"] == "never", name
        assert "cap_add" not in service, name
        assert str(service.get("user", "1000")) not in ("0", "root"), name


def test_secrets_come_from_files_and_from_nothing_else(docker, stack):
    assert all(set(secret) == {"file"} and secret["file"].startswith("secrets/") for secret in stack["secrets"].values())
    for name, service in stack["services"].items():
        for key in service.get("environment", {}):
            assert not re.search("PASSWORD|SECRET|TOKEN|KEY|CREDENTIAL", key), f"{name} has {key} in its environment"
    assert "docker/secrets/" in docker.parent.joinpath(".gitignore").read_text().splitlines()
    assert "docker/secrets" in (docker / "Dockerfile.dockerignore").read_text().splitlines()
    tracked = [file for file in docker.rglob("*") if file.is_file() and not {"secrets", "__pycache__"} & set(file.parts)]
    assert not [file for file in tracked if re.search(r"://\w+:\w+@", file.read_text("utf-8"))]


def test_trainings_reach_the_tracking_server_and_nothing_else(stack):
    services = stack["services"]
    assert services["medssl"]["networks"] == ["tracking"]
    assert services["database"]["networks"] == ["database"]
    assert stack["networks"]["tracking"] == {"internal": True}
    assert stack["networks"]["database"] == {"internal": True}
    assert [volume for volume in services["medssl"]["volumes"] if ":/data" in volume] == ["${DATA:-data}:/data:ro"]


def test_each_part_waits_for_the_one_below_it(services):
    order = {name: services[name].get("depends_on") for name in ("medssl", "accounts", "mlflow", "database")}
    assert order == {
        "medssl": {"accounts": {"condition": "service_completed_successfully"}},
        "accounts": {"mlflow": {"condition": "service_healthy"}},
        "mlflow": {"database": {"condition": "service_healthy"}},
        "database": None,
    }


def test_what_serves_is_started_again_and_what_is_a_job_is_not(services):
    assert {name: service.get("restart") for name, service in services.items()} == {
        "medssl": None,
        "accounts": None,
        "mlflow": "unless-stopped",
        "database": "unless-stopped",
    }


def test_secrets_are_made_once_readable_in_a_folder_of_the_operator_alone(docker, tmp_path, programs):
    (tmp_path / "tracking.sh").write_text((docker / "tracking.sh").read_text())
    programs("bash", str(tmp_path / "tracking.sh"), "secrets")
    folder = tmp_path / "secrets"
    first = {file.name: file.read_text() for file in folder.iterdir()}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(first) == 5
    passwords = [text.strip() for name, text in first.items() if name != "mlflow_credentials"]
    assert len(set(passwords)) == 4
    assert all(re.fullmatch(r"[\w-]{32}", password) for password in passwords)
    assert first["mlflow_password"].strip() in first["mlflow_credentials"]
    programs("bash", str(tmp_path / "tracking.sh"), "secrets")
    assert {file.name: file.read_text() for file in folder.iterdir()} == first


@pytest.mark.parametrize(
    "name", ["tracking.sh", "bundle.sh", "verify.sh", "healthy.sh", "mlflow/serve.sh", "postgres/serve.sh", "bundle/install.sh"]
)
def test_a_script_is_well_formed_and_can_be_started(docker, name, programs):
    file = Path(docker, name)
    assert file.stat().st_mode & 0o111
    shell = file.read_text("utf-8").splitlines()[0].removeprefix("#!/bin/")
    programs(shell, "-n", str(file))
