"""Requirements of what is installed, with packages that are planted as pip would install them."""

import pytest

from medssl.doctor.checks import software


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(name, version, *headers): a package's metadata, found before any other of its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, version, *headers):
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *headers]) + "\n")

    return write


def test_a_version_that_does_not_fit_and_a_package_that_is_missing_are_errors(install):
    install("medssl", "0.1.0", "Requires-Python: >=3.11,<3.14", "Requires-Dist: rich>=9999", "Requires-Dist: not-there",
            "Requires-Dist: never-asked; extra == 'dev'")  # fmt: skip
    found = {finding.name: finding for finding in software.check()}
    assert found["packages"].level == "error"
    assert "medssl 0.1.0 requires rich>=9999, installed is" in found["packages"].seen
    assert "medssl 0.1.0 requires not-there, it is not installed" in found["packages"].seen
    assert "never-asked" not in found["packages"].seen
    assert "requirements.lock" in found["packages"].remedy
