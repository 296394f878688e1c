"""What medssl stands on: no package that comes with it is under the GPL or the AGPL, as the packages' own metadata tell."""

import re
from importlib import metadata

from medssl.doctor.packages import packages

_GPL = re.compile(r"(?<!L)GPL|GNU (Affero )?General Public", re.IGNORECASE)


def packages_under_the_gpl() -> list[str]:
    found = []
    for name in (name for name, package in packages().items() if package):
        about = metadata.metadata(name)
        stated = [text for key in ("License-Expression", "License", "Classifier") for text in about.get_all(key) or ()]
        if any(_GPL.search(text) for text in stated if len(text) < 200):  # a whole licence may name others
            found.append(name)
    return found


def test_no_package_that_medssl_brings_is_under_the_gpl():
    assert packages()["albumentations"], "the packages are those of medssl"
    assert packages_under_the_gpl() == []


def test_a_package_under_the_agpl_is_found(tmp_path, monkeypatch):
    folder = tmp_path / "rich-99.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.4\nName: rich\nVersion: 99.0\nLicense-Expression: AGPL-3.0-or-later\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert packages_under_the_gpl() == ["rich"]
