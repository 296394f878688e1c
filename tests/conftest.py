"""What every test gets: shapes checked at run time, a cache of its own, no tracking server, one thread."""

import importlib.util
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from jaxtyping import install_import_hook

# Before anything imports torch, and for all processes that tests start: threads that wait for each other by turning in circles
# (OpenMP's default) take the cores from the other tests. One file needed 60 seconds with them, 4.5 without.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
assert "torch" not in sys.modules or os.environ.items() >= _ONE_THREAD.items(), "torch was imported before its threads were counted"
os.environ |= _ONE_THREAD
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell's background jobs have it, and all that they start
    signal.signal(signal.SIGINT, signal.default_int_handler)
install_import_hook(["medssl.nn", "medssl.methods"], "beartype.beartype")

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "pipelines")]  # small.py, reliability.py; differences.py
pytest_plugins = ["small_runs"]
# The files that take the longest, for the tests of every change and for the slow ones. They come first: one that is the last to start
# would leave the other process without work.
LONG = (
    *("test_planted_faults", "commands/test_labels_of_every_kind", "pretraining/test_fit_to_images", "commands/test_prepare"),
    *("pretraining/test_resume", "pretraining/test_processes", "studies/test_executor", "contracts/test_many_devices"),
    *("test_pipelines", "runs/test_run_dir", "pretraining/test_batch_size", "test_contributing", "test_examples"),
    *("commands/test_next_command", "doctor/test_benchmark", "commands/test_pretrain_finetune", "report/test_visuals"),
    *("commands/test_bad_input", "commands/test_track", "report/test_page"),
)
_outcomes: defaultdict[str, list[str]] = defaultdict(list)
_properties: defaultdict[str, dict[str, object]] = defaultdict(dict)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-docs", action="store_true", help="write the pages reliability.md and dicom_files.md in docs from the tests")
    parser.addoption("--write-methods", action="store_true", help="write docs/methods.md from the tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {ROOT / f"tests/{name}.py": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        _outcomes[report.nodeid].append(report.outcome)
        _properties[report.nodeid].update(report.user_properties)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):  # one of two processes: the one that started them gets all outcomes
        return
    if session.config.getoption("--write-docs"):
        import reliability

        functions: defaultdict[str, list[str]] = defaultdict(list)
        for node, outcomes in _outcomes.items():
            functions[node.partition("[")[0]] += outcomes
        reliability.PAGE.write_text(reliability.page(functions), "utf-8")
    if session.config.getoption("--write-methods"):
        import methods_page

        methods_page.PAGE.write_text(methods_page.page(_outcomes, _properties), "utf-8")


@pytest.fixture(scope="session", autouse=True)
def _surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDSSL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("MEDSSL_KEY_FILE", raising=False)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images beside the repository. Not part of it: without them the tests that use them are skipped."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real images in ../shared/data, which are not part of the repository")
    return folder


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """script("benchmarks/fuzz.py"): a file of the checkout as a module."""

    def load(path: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder of the checkout."""
    return ROOT
