"""What can be said of the image without an engine: docker/verify.sh builds and runs it."""

import re
from itertools import pairwise

import pytest

BASE = ("${BASE_IMAGE}", "scratch")


@pytest.fixture
def stages(docker):
    """{stage: (what it is made from, [its instructions, each on one line])}, in the order of the file."""
    text = re.sub(r"^\s*#.*\n", "", (docker / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    found, name = {}, ""
    for line in filter(None, (line.strip() for line in text.splitlines())):
        if line.startswith("FROM "):
            _, source, _, name = line.split()
            found[name] = (source, [])
        elif found:
            found[name][1].append(re.sub(r"\s+", " ", line))
    return found


def test_a_build_fetches_no_front_end_and_no_image_but_the_base(docker, stages):
    assert not re.search(r"^#\s*syntax\s*=", (docker / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE | re.IGNORECASE)
    earlier = set(BASE)
    for name, (source, lines) in stages.items():
        assert source in earlier, f"{name} is made from {source}"
        copied = [word.removeprefix("--from=") for line in lines for word in line.split() if word.startswith("--from=")]
        assert set(copied) <= earlier
        earlier.add(name)


def test_no_file_of_the_folder_names_a_registry_or_an_address_outside(docker):
    for file in [file for file in docker.rglob("*") if file.is_file() and "secrets" not in file.parts and file.suffix != ".pyc"]:
        text = file.read_text("utf-8")
        hosts = re.findall(r"\w+://(?:[^@\s/'\"]*@)?([\w.-]*)", text)
        assert [host for host in hosts if host and not re.fullmatch(r"127\.0\.0\.1|mlflow|database", host)] == [], file
        assert not re.search(r"pypi\.org|pythonhosted|docker\.io/|ghcr\.io|quay\.io|nvcr\.io|debian\.org", text), file


@pytest.mark.parametrize("target", ["medssl", "mlflow", "database"])
def test_a_target_runs_as_a_number_that_is_not_root_below_tini_and_tells_its_health(stages, target):
    _, lines = stages[target]
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["1000:1000"]
    assert [line.split(",")[:2] for line in lines if line.startswith("ENTRYPOINT ")] == [['ENTRYPOINT ["tini"', ' "--"']]
    assert sum(line.startswith("HEALTHCHECK ") and "CMD" in line for line in lines) == 1


def test_the_default_target_is_medssl(stages):
    assert list(stages)[-1] == "medssl"


def test_each_package_of_python_comes_from_the_lock_by_its_hash(stages):
    runs = [line for _, lines in stages.values() for line in lines if line.startswith("RUN ")]
    installs = [words for line in runs for words in re.findall(r"pip (?:--python \S+ )?install [^;&]*", line)]
    assert len(installs) == 4
    for words in installs:
        assert "--no-index" in words
        assert "--require-hashes" in words or words.rstrip().endswith("/dist/*.whl"), words
    assert not [line for line in runs if "curl" in line or "wget" in line]


def test_the_program_lies_in_a_layer_above_its_dependencies(stages):
    copies = [line for line in stages["medssl"][1] if line.startswith("COPY --from=")]
    assert [line.split()[2] for line in copies] == ["/layers/cuda", "/layers/torch", "/layers/rest", "/program"]
    assert all(a != b for a, b in pairwise(copies))
    before_sources = [line for line in stages["tools"][1] if line.startswith("COPY")]
    assert not [line for line in before_sources if " medssl" in line or "configs" in line]


def test_the_sbom_names_what_is_there_and_not_what_was_taken_out(script, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    for name, left in (("A_b.C", True), ("triton", False)):
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        info.joinpath("METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0+cpu\nLicense-Expression: MIT\n")
        info.joinpath("RECORD").write_text(f"{name}/__init__.py,,\n{name}-1.0.dist-info/METADATA,,\n../program,,\n")
        if left:
            site.joinpath(name).mkdir()
            site.joinpath(name, "__init__.py").touch()
    site.joinpath("../program").touch()
    sbom = script("sbom.py")
    (component,) = map(sbom.python, filter(sbom.is_there, sbom.distributions(path=[str(site)])))
    assert component["purl"] == "pkg:pypi/a-b-c@1.0%2Bcpu"
    assert component["licenses"] == [{"expression": "MIT"}]
