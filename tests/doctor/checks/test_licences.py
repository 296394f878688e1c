"""Licences and requirements of what is installed, with packages that are planted as pip would install them."""

import pytest

from medssl.doctor import packages
from medssl.doctor.checks import licences, software


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(name, version, *headers, plugs): a package's metadata, found before any other of its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, version, *headers, plugs=""):
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *headers]) + "\n")
        if plugs:
            (folder / "entry_points.txt").write_text(plugs)

    return write


def levels():
    return {finding.name: (finding.level, finding.seen) for finding in licences.check()}


def test_no_licence_of_what_medssl_brings_is_the_gpl():
    found = levels()
    assert found["licences"][0] == "ok"
    assert not {"GPL licence", "AGPL licence"} & set(found)
    said = {name: package.licence for name, package in packages.packages().items() if package}
    assert said["albumentations"] == "MIT License"
    assert said["certifi"] == "Mozilla Public License 2.0 (MPL 2.0)"
    assert packages.family(said["pydantic"]) == "MIT"
    assert "unknown licence" not in found, "each says it, in its metadata or in the text of its licence"


def test_a_licence_that_is_told_by_its_text_only_and_a_package_without_files(install, tmp_path):
    install("rich", "99.0", "License-File: LICENSE")
    (tmp_path / "rich-99.0.dist-info/LICENSE").write_text("Copyright (c) A. Body\n\nPermission is hereby granted, free of charge, to any")
    (tmp_path / "rich-99.0.dist-info/RECORD").write_text("rich/__init__.py,,\nrich-99.0.dist-info/LICENSE,,\n")
    install("typer", "99.0")
    (tmp_path / "typer-99.0.dist-info/RECORD").write_text("typer-99.0.dist-info/METADATA,,\n")
    said = packages.packages()
    assert [package and package.licence for package in (said["rich"], said["typer"])] == ["MIT", "no files"]


def test_a_gpl_decoder_that_was_added_to_pylibjpeg_is_told(install):
    install("gpl-decoder", "1.0", "License: GPL-3.0", plugs="[pylibjpeg.pixel_data_decoders]\n1.2.3 = gpl_decoder:decode\n")
    assert levels()["GPL licence"] == ("warning", "gpl-decoder")


def test_a_package_of_medssl_under_the_agpl_or_an_unknown_licence_is_told(install):
    install("rich", "99.0", "License-Expression: AGPL-3.0-or-later")
    install("typer", "99.0")
    found = levels()
    assert found["AGPL licence"] == ("warning", "rich")
    assert "typer" in found["unknown licence"][1]


@pytest.mark.parametrize(
    ("licence", "family"),
    [
        ("GPL-2.0-only OR MIT", "MIT"),
        ("GPL-3.0-only", "GPL"),
        ("GNU Lesser General Public License v3 (LGPLv3)", "LGPL"),
        ("GNU Affero General Public License v3", "AGPL"),
        ("GNU General Public License v2 (GPLv2)", "GPL"),
        ("LicenseRef-NVIDIA-Proprietary", "NVIDIA"),
        ("unknown", "unknown"),
    ],
)
def test_a_licence_is_known_by_any_of_its_names(licence, family):
    assert packages.family(licence) == family


def test_a_version_that_does_not_fit_and_a_package_that_is_missing_are_errors(install):
    install("medssl", "0.1.0", "Requires-Python: >=3.11,<3.14", "Requires-Dist: rich>=9999", "Requires-Dist: not-there",
            "Requires-Dist: never-asked; extra == 'dev'")  # fmt: skip
    found = {finding.name: finding for finding in software.check()}
    assert found["packages"].level == "error"
    assert "medssl 0.1.0 requires rich>=9999, installed is" in found["packages"].seen
    assert "medssl 0.1.0 requires not-there, it is not installed" in found["packages"].seen
    assert "never-asked" not in found["packages"].seen
    assert "requirements.lock" in found["packages"].remedy
