"""What checks the house style finds what is planted; and what a command imports before it needs it."""

import ast
import json
import subprocess
import sys

import house_style
import pytest


def test_statements_are_counted_as_by_hand():
    code = """
def f(x):
    "Doc."
    if x:
        y = 1
        for i in x:
            y += i
    def g():
        return 1
    return y
"""
    (function,) = ast.parse(code).body
    assert isinstance(function, ast.FunctionDef)
    assert house_style.statements(function) == 6  # if, assignment, for, addition, def, return


LONG = "def long():\n    x = 0\n" + "    x += 1\n" * 39
DEEP = "class _A: ...\nclass _B(_A): ...\nclass _C(_B): ...\n"
PLANTED = {
    "medssl/large.py": ('"""Doc."""\n' + "\n" * 299, "300 lines"),
    "benchmarks/long.py": (LONG, "long has 40 statements"),
    "medssl/bare.py": ("X = 1\n", "the module has no docstring"),
    "medssl/silent.py": ('"""Doc."""\n\n\ndef offered(): ...\n', "offered has no docstring"),
    "medssl/deep.py": (f'"""Doc."""\n\n{DEEP}', "_C inherits through _B"),
    "medssl/loose.py": ('"""Doc."""\n\nmodel.load_state_dict(state, strict=False)\n', "line 3 loads unsafely"),
    "medssl/pickled.py": ('"""Doc."""\n\ntorch.load(file, weights_only=False)\n', "line 3 loads unsafely"),
    "medssl/object.py": ('"""Doc."""\n\nnumpy.load(file, allow_pickle=True)\n', "line 3 loads unsafely"),
    "medssl/jar.py": ('"""Doc."""\n\npickle.load(file)\n', "line 3 loads unsafely"),
    "medssl/utils.py": ('"""Doc."""\n', "no file is called utils"),
    "tests/nowhere/test_x.py": ("", "no room nowhere"),
    "requirements.lock": ("torch==2.10.0\n", "torch==2.10.0 has no version or no hash"),
}
GOOD = {
    "medssl/good.py": '"""Doc."""\n\n\ndef offered():\n    """Doc."""\n\n\ndef _inner(): ...\n\n\nclass Config: ...\n',
    "tests/test_good.py": "def test_x(): ...\n" + "\n" * 298,
    "benchmarks/short.py": LONG.replace("    x += 1\n", "", 1),
    "requirements.lock": "torch==2.10.0 \\\n    --hash=sha256:00\n",
}


def checkout(folder, **files):
    for name, text in (GOOD | files).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    return list(house_style.offences(folder))


@pytest.mark.parametrize("name", PLANTED)
def test_an_offence_that_is_planted_is_the_only_one_found_and_its_file_is_named(name, tmp_path):
    text, expected = PLANTED[name]
    (found,) = checkout(tmp_path, **{name: text})
    assert found.startswith(f"{name}: ")
    assert expected in found


def test_a_checkout_without_offence_has_none(tmp_path):
    assert checkout(tmp_path) == []


def test_an_address_in_the_lock_is_found(tmp_path):
    lock = GOOD["requirements.lock"] + "torch @ https://host/torch==2.whl --hash=sha256:00\n"
    assert checkout(tmp_path, **{"requirements.lock": lock}) == ["requirements.lock: there is an address"]


def test_the_light_modules_import_nothing_heavy(repository):
    code = (
        "import sys, json, medssl.cli, medssl.console, medssl.errors, medssl.plugins, medssl.types; print(json.dumps(sorted(sys.modules)))"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in json.loads(process.stdout)}
    assert not loaded & {"torch", "monai", "mlflow", "albumentations", "sklearn", "matplotlib", "pandas", "numpy", "pydantic"}


@pytest.mark.slow
@pytest.mark.fault("R7")
def test_a_command_looks_at_its_folder_before_it_imports_what_needs_one_for_temporary_files(repository):
    """torchvision, which timm imports, brings in torch's compiler, whose import fails where no folder can be written."""
    commands = "pretrain, finetune, predict, embed, neighbours, report, demo, prepare, doctor, track"
    code = f"import sys, json, medssl.studies.plan; from medssl.commands import {commands}; print(json.dumps(sorted(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert not set(json.loads(process.stdout)) & {"timm", "torchvision", "torch._dynamo", "monai", "mlflow"}
