"""The command line: what reaches `medssl.commands`, and how a command ends."""

import os
import re
import resource
import subprocess
import sys
import types
from pathlib import Path

import pytest

import medssl
from medssl import cli
from medssl.errors import Interrupted, UserError

HEAVY = {
    "torch",
    "numpy",
    "pandas",
    "pydantic",
    "rich",
    "mlflow",
    "monai",
    "timm",
    "sklearn",
    "albumentations",
    "matplotlib",
    "pydicom",
    "yaml",
}


def start(*args, **environment):
    """The command as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(medssl.__file__).parent.parent), **environment}
    return subprocess.run([sys.executable, *args], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def calls(monkeypatch):
    """Replaces the commands by functions that only write down how they were called; `calls.raises` is what they then raise."""
    record = types.SimpleNamespace(made=[], raises=None)

    def command(name):
        def called(reporter, **arguments):
            record.made.append((name, {key: value for key, value in arguments.items() if value not in (None, False, ())}))
            if record.raises is not None:
                raise record.raises
            return ()

        return called

    for name in ("prepare", "pretrain", "finetune", "predict", "export", "report", "study", "demo", "settings"):
        module = types.ModuleType(name)
        setattr(module, name, command(name))
        monkeypatch.setitem(sys.modules, f"medssl.commands.{name}", module)
    return record


def ended(*args):
    """The exit code of the command in this process."""
    with pytest.raises(SystemExit) as end:
        cli.app(args)
    return end.value.code


@pytest.mark.parametrize(
    ("line", "name", "arguments"),
    [
        ("prepare", "prepare", {}),
        (
            "prepare --data x --preset p --out o --shard 3/16 --set data.size=64",
            "prepare",
            {"data": "x", "preset": "p", "out": Path("o"), "shard": "3/16", "sets": ["data.size=64"]},
        ),
        ("pretrain", "pretrain", {}),
        (
            "pretrain --data x --method nnclr --preset p --out o --epochs 5 --seed 3 --device cpu --overwrite --set a=1 --set seed=2",
            "pretrain",
            {
                "data": "x",
                "method": "nnclr",
                "preset": "p",
                "out": Path("o"),
                "seed": 3,
                "device": "cpu",
                "overwrite": True,
                "sets": ("a=1", "seed=2", "train.epochs=5"),
            },
        ),
        ("pretrain --resume r", "pretrain", {"resume": Path("r")}),
        (
            "finetune --label sex --labels 1pct,10pct --mode full --encoder e --data d --out o --seed 5 --device cpu --overwrite --set a=b",
            "finetune",
            {
                "label": "sex",
                "labels": "1pct,10pct",
                "mode": "full",
                "encoder": "e",
                "data": "d",
                "out": Path("o"),
                "seed": 5,
                "device": "cpu",
                "overwrite": True,
                "sets": ["a=b"],
            },
        ),
        ("predict --data d", "predict", {"data": "d", "out": Path("predictions.csv")}),
        (
            "predict --data d --model m --out o --abstain-below 0.8 --device cpu --overwrite --set a=b",
            "predict",
            {
                "data": "d",
                "model": "m",
                "out": Path("o"),
                "abstain_below": 0.8,
                "device": "cpu",
                "overwrite": True,
                "sets": ["a=b"],
            },
        ),
        ("export --format timm --out o", "export", {"name": "timm", "out": Path("o")}),
        (
            "export --encoder e --format onnx --out o --with-preparation --with-hashes --licence L --sign k --overwrite",
            "export",
            {
                "encoder": "e",
                "name": "onnx",
                "out": Path("o"),
                "with_preparation": True,
                "with_hashes": True,
                "licence": "L",
                "key": Path("k"),
                "overwrite": True,
            },
        ),
        ("report a b --out o --overwrite", "report", {"runs": [Path("a"), Path("b")], "out": Path("o"), "overwrite": True}),
        ("study f.yaml --dry-run --jobs 2", "study", {"file": Path("f.yaml"), "dry_run": True, "jobs": 2}),
        ("demo --out o --overwrite", "demo", {"out": Path("o"), "overwrite": True}),
        ("settings epoch --markdown", "settings", {"word": "epoch", "markdown": True}),
    ],
)
def test_every_flag_reaches_the_run(calls, line, name, arguments):
    assert ended(*line.split()) == 0
    assert calls.made == [(name, arguments)]


def test_wrong_input_ends_with_2_and_one_message(calls, capsys):
    calls.raises = UserError("The folder x does not exist. Check --data.")
    assert ended("pretrain") == 2
    assert tuple(capsys.readouterr()) == ("", "error: The folder x does not exist. Check --data.\n")


def test_a_stop_with_a_checkpoint_ends_with_3_and_says_how_to_go_on(calls, capsys):
    calls.raises = Interrupted("Stopped at step 3. Continue with: medssl pretrain --resume runs/a")
    assert ended("pretrain") == 3
    assert capsys.readouterr().err == "warning: Stopped at step 3. Continue with: medssl pretrain --resume runs/a\n"


def test_a_stop_without_a_checkpoint_ends_with_130_and_one_line(calls, capsys):
    calls.raises = KeyboardInterrupt()
    assert ended("finetune") == 130
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_file_name_cannot_forge_a_line_of_the_log(calls, capsys):
    calls.raises = UserError("a\x1b[2K\nerror: forged.png is no image")
    assert ended("pretrain") == 2
    assert capsys.readouterr().err == "error: a\\x1b[2K\n  error: forged.png is no image\n"


def test_a_label_fraction_that_is_none_is_refused_before_anything_is_loaded(calls, capsys):
    assert ended("finetune", "--labels", "10percent") == 2
    assert "10percent" in capsys.readouterr().err
    assert calls.made == []


@pytest.mark.parametrize("line", ["pretrain --bogus", "pretrain --seed x", "pretrain --seed -1", "bogus", "finetune extra"])
def test_a_command_line_that_is_wrong_ends_with_2(calls, capsys, line):
    assert ended(*line.split()) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert calls.made == []


@pytest.mark.parametrize("command", ["pretrain", "finetune", "export", "demo", "doctor", "settings"])
def test_a_command_has_at_most_ten_flags_and_an_example(command, capsys):
    assert ended(command, "--help") == 0
    text = capsys.readouterr().out
    flags = set(re.findall(r"^  (--[a-z]+)", text, re.MULTILINE)) - {"--help"}
    assert len(flags) <= 10
    assert f"Example: medssl {command}" in text


def test_help_answers_within_half_a_second_and_imports_nothing_heavy():
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert "pretrain" in start("-m", "medssl", "--help").stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    process = start("-X", "importtime", "-m", "medssl", "--help")
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in process.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & HEAVY
    assert min(spent) < 0.5  # of processor time: the other work of a busy machine does not count


def test_the_module_is_the_command_too():
    assert start("-m", "medssl", "--version").stdout == f"medssl {medssl.__version__}\n"


STUB = "import sys, types; from medssl import cli; run = sys.modules['medssl.commands.demo'] = types.ModuleType('demo')\n"


def test_a_fault_of_medssl_shows_its_traceback_and_ends_with_1():
    process = start("-c", STUB + "run.demo = lambda *a, **k: 1 / 0\nsys.argv = ['medssl', 'demo']; cli.main()")
    assert process.returncode == 1
    assert process.stderr.startswith("Traceback")
    assert process.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_what_a_run_writes_is_for_its_user_alone(tmp_path):
    code = "import os; os.umask(0o022)\nrun.demo = lambda *a, out, **k: (out.mkdir(), (out / 'f').touch())\n"
    process = start("-c", STUB + code + f"sys.argv = ['medssl', 'demo', '--out', {str(tmp_path / 'o')!r}]; cli.main()")
    assert process.returncode == 0
    assert [oct(path.stat().st_mode & 0o777) for path in (tmp_path / "o", tmp_path / "o" / "f")] == ["0o700", "0o600"]


def test_a_variable_that_lets_model_files_run_code_is_removed_and_told():
    code = "import os; run.demo = lambda *a, **k: print(os.environ.get('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'))\n"
    process = start("-c", STUB + code + "sys.argv = ['medssl', 'demo']; cli.main()", TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1")
    assert process.stdout == "None\n"
    assert process.stderr.startswith("warning: TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")


def test_names_that_the_terminal_cannot_show_are_escaped_not_fatal():
    code = "run.demo = lambda reporter, **k: reporter.say('R\u00f6ntgen')\nsys.argv = ['medssl', 'demo']; cli.main()"
    process = start("-c", STUB + code, PYTHONIOENCODING="ascii")
    assert (process.returncode, process.stdout) == (0, "R\\xf6ntgen\n")
