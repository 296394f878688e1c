"""What holds for every plug-in of every kind: a file, its configuration, its builder, its test."""

import ast
import inspect
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from medssl import plugins
from medssl.config import PluginConfig
from medssl.errors import UserError

ROOT = Path(__file__).parents[2]
KINDS = ("backbones", "data.readers", "data.sources", "data.volume_readers", "methods", "views.recipes")
PLUGINS = [(kind, name) for kind in KINDS for name in plugins.names(kind)]
every_plugin = pytest.mark.parametrize(("kind", "name"), PLUGINS, ids=[f"{kind}.{name}" for kind, name in PLUGINS])


@every_plugin
def test_the_configuration_is_named_like_the_file_and_has_defaults_for_all_else(kind, name):
    config = plugins.find(kind, name).Config()
    assert isinstance(config, PluginConfig)
    assert config.name == name


@every_plugin
def test_the_configuration_is_frozen_and_refuses_what_it_does_not_know(kind, name):
    model = plugins.find(kind, name).Config
    with pytest.raises(ValidationError, match="extra_forbidden"):
        model(no_such_option=1)
    with pytest.raises(ValidationError, match="frozen"):
        model().name = "other"


@every_plugin
def test_the_configuration_survives_being_written_and_read(kind, name):
    model = plugins.find(kind, name).Config
    assert model(**model().model_dump(mode="json")) == model()


@every_plugin
def test_the_builder_says_what_it_takes_and_gives(kind, name):
    build = plugins.find(kind, name).build
    assert len(inspect.getdoc(build) or "") > 30
    signature = inspect.signature(build)
    assert next(iter(signature.parameters)) == "config"
    assert signature.return_annotation is not inspect.Signature.empty
    assert not [parameter.name for parameter in signature.parameters.values() if parameter.annotation is inspect.Parameter.empty]


@every_plugin
def test_the_file_opens_by_saying_what_it_is(kind, name):
    file = ROOT / "medssl" / Path(*kind.split(".")) / f"{name}.py"
    assert len(ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "") > 60


@every_plugin
def test_the_plugin_has_a_test_that_names_it(kind, name):
    tests = ROOT.joinpath("tests", *kind.split(".")).glob("test_*.py")
    assert any(re.search(rf"\b{name}\b", file.read_text("utf-8")) for file in tests)


@pytest.mark.parametrize("kind", KINDS)
def test_a_misspelt_name_is_answered_with_the_nearest_and_nothing_else_is_imported(kind):
    name = plugins.names(kind)[0]
    with pytest.raises(UserError, match=f"Did you mean '{name}'"):
        plugins.find(kind, name + "x")
    with pytest.raises(UserError, match="Known: "):
        plugins.find(kind, "../../etc/passwd")


@pytest.mark.parametrize("name", plugins.names("data.sources"))
@pytest.mark.parametrize("data", ["", "/no/such/folder", "a\0b", "medmnist:", "."])
def test_a_source_answers_whether_it_recognises_anything_without_raising(name, data):
    assert plugins.find("data.sources", name).recognises(data) in (True, False)


@pytest.mark.parametrize("name", plugins.names("data.readers"))
@pytest.mark.parametrize("head", [b"", b"\0" * 132, b"text, named .png", bytes(range(256))])
def test_a_reader_recognises_no_file_of_another_kind(name, head):
    assert plugins.find("data.readers", name).recognises(head) is False
