"""The archive's installer on an archive of one small wheel."""

import hashlib
import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PYTHON = str(Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}"))


def record(bundle):
    """SHA256SUMS of what is there."""
    files = sorted(file for file in bundle.rglob("*") if file.is_file() and file.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(bundle)}\n" for file in files]
    bundle.joinpath("SHA256SUMS").write_text("".join(lines))


@pytest.fixture
def bundle(tmp_path, docker):
    """An archive, unpacked, whose medssl can say its version."""
    folder = tmp_path / "medssl-bundle"
    folder.joinpath("wheels").mkdir(parents=True)
    file = folder / "wheels" / "medssl-9.9-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("medssl_tiny.py", "def main():\n    print('medssl 9.9')\n")
        archive.writestr("medssl-9.9.dist-info/METADATA", "Metadata-Version: 2.1\nName: medssl\nVersion: 9.9\n")
        archive.writestr("medssl-9.9.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("medssl-9.9.dist-info/entry_points.txt", "[console_scripts]\nmedssl = medssl_tiny:main\n")
        archive.writestr("medssl-9.9.dist-info/RECORD", "")
    folder.joinpath("requirements.lock").write_text(f"medssl==9.9 --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n")
    folder.joinpath("python-version").write_text(f"{sys.version_info[0]}.{sys.version_info[1]}\n")
    script = folder / "install.sh"
    script.write_bytes((docker / "bundle" / "install.sh").read_bytes())
    script.chmod(0o755)
    record(folder)
    return folder


def install(bundle, **environment):
    return subprocess.run(
        [str(bundle / "install.sh"), "place"],
        cwd=bundle.parent,
        env={"PATH": os.environ["PATH"], "HOME": str(bundle.parent), "PYTHON": PYTHON, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.slow
@pytest.mark.skipif(not Path(PYTHON).exists() or importlib.util.find_spec("ensurepip") is None, reason="this Python makes no environments")
def test_an_archive_installs_with_its_checksums_and_nothing_else(bundle):
    done = install(bundle, PIP_INDEX_URL="http://127.0.0.1:9/nowhere")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("medssl 9.9\ninstalled in ")
    again = install(bundle)
    assert again.returncode == 2
    assert "is there already" in again.stderr


@pytest.mark.slow
@pytest.mark.skipif(not Path(PYTHON).exists() or importlib.util.find_spec("ensurepip") is None, reason="this Python makes no environments")
@pytest.mark.parametrize(
    ("line", "reason"),
    [(f"medssl==9.9 --hash=sha256:{'0' * 64}\n", "THESE PACKAGES DO NOT MATCH THE HASHES"), ("medssl==9.9\n", "Hashes are required")],
)
def test_a_wheel_that_the_lock_has_no_hash_of_is_not_installed_even_with_right_checksums(bundle, line, reason):
    bundle.joinpath("requirements.lock").write_text(line)
    record(bundle)
    done = install(bundle)
    assert done.returncode == 2
    assert reason in done.stderr
    assert not bundle.parent.joinpath("place", "bin", "medssl").exists()


def test_a_changed_or_missing_file_is_refused_before_anything_is_installed(bundle):
    wheel = bundle / "wheels" / "medssl-9.9-py3-none-any.whl"
    whole = wheel.read_bytes()
    wheel.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    changed = install(bundle)
    wheel.unlink()
    missing = install(bundle)
    for done in (changed, missing):
        assert done.returncode == 2
        assert "error: the archive is damaged or incomplete" in done.stderr
    assert not bundle.parent.joinpath("place").exists()


def test_another_python_than_the_wheels_are_for_is_named(bundle):
    bundle.joinpath("python-version").write_text("3.99\n")
    record(bundle)
    done = install(bundle)
    assert done.returncode == 2
    assert "the wheels here are for Python 3.99" in done.stderr
