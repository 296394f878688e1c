"""`mlflow models serve` with a classifier or an encoder: a real server answers images and files over HTTP as `medssl predict` does."""

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from exporting import TINY, agree, make_encoder
from predicting import picture, table
from pydicom.data import get_testdata_file

from medssl.encoder.export import Options, export

pytestmark = pytest.mark.slow
PAGE = "docs/how_to/serve.md"


@contextmanager
def serving(model):
    """The address of a server with the model of that folder, once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, *f"-m mlflow models serve --env-manager local -p {port} -m".split(), str(model)]
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "NO_PROXY": "*"}  # uvicorn is found there
    log = model.parent / "log.txt"
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=model.parent, env=environment, stdout=file, stderr=file, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}/ping", process, log)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def address(written):
    """Of a server with the classifier."""
    with serving(written.parent / "classifier") as found:
        yield found


def _wait(address, process, log):
    limit = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < limit:
        try:
            return open_url(address).close()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise RuntimeError(f"the server did not come up: {log.read_text('utf-8', errors='replace')[-2000:]}")


def open_url(request):
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=100)


def ask(address, inputs):
    """The rows of the answer."""
    body = json.dumps({"inputs": inputs}).encode()
    with open_url(urllib.request.Request(address, body, {"Content-Type": "application/json"})) as answer:  # noqa: S310 - of this machine
        return json.load(answer)["predictions"]


def test_both_forms_are_answered_as_predict_answers(address, predict_command, model):
    images = np.stack([picture(Path(f"ward/{number}.png"), number) for number in range(2)])
    code, said = predict_command("--data", "ward")
    assert code == 0, said
    slice_of_ct = Path(str(get_testdata_file("CT_small.dcm", download=False))).read_bytes()  # predict does not take one, either
    contents = [*(Path(f"ward/{number}.png").read_bytes() for number in range(2)), slice_of_ct]
    rows = ask(address, {"image": [base64.b64encode(content).decode() for content in contents]})
    for row, expected in zip(rows, table(), strict=False):
        assert (row["prediction"], row["left_out"]) == (expected["prediction"], "")
        for name in ("prob_normal", "prob_sick", "confidence", "out_of_distribution"):
            assert row[name] == pytest.approx(float(expected[name]), abs=1e-5)
    assert (rows[2]["left_out"], rows[2]["prob_sick"]) == ("slice_of_a_volume", None)
    arrays = ask(address, (images / 255).tolist())
    np.testing.assert_allclose([[row["prob_normal"], row["prob_sick"]] for row in arrays], model.says(images), atol=1e-5)


def test_a_radiograph_in_dicom_is_answered_as_predict_answers(address, predict_command, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path / "cache"))
    code, said = predict_command("--data", "phantom", "--set", "data.source.patients=4", "--set", "data.source.size=64")
    assert code == 0, said
    expected = {row["file"]: row for row in table()}
    (folder,) = (tmp_path / "cache" / "phantoms").iterdir()
    names = list(expected)
    rows = ask(address, [{"image": base64.b64encode((folder / name).read_bytes()).decode()} for name in names])
    for name, row in zip(names, rows, strict=True):
        assert row["prob_sick"] == pytest.approx(float(expected[name]["prob_sick"]), abs=1e-5)


@pytest.mark.filterwarnings("ignore")  # of torch's exporters
def test_the_features_of_an_encoder_are_answered(tmp_path):
    encoder, card = make_encoder(tmp_path, TINY)
    export(encoder, card, "mlflow", tmp_path / "encoder", Options())
    images = torch.rand(3, 1, 16, 16)
    with serving(tmp_path / "encoder") as address:
        assert agree(torch.tensor(ask(address, images.tolist())), encoder, images)
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(address, images.squeeze(1).tolist())
        assert (refused.value.code, "shape" in refused.value.read().decode()) == (400, True)


def test_a_wrong_request_is_refused_in_a_sentence_and_the_server_lives_on(address, tmp_path):
    secret = tmp_path / "secret.png"
    picture(secret)
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(address, [[1, 2, 3]])
    answer = refused.value.read().decode()
    assert (refused.value.code, "shape [N, 1, 16, 16]" in answer, "Traceback" in answer) == (400, True, False)
    (row,) = ask(address, {"image": [str(secret)]})
    assert row["left_out"] == "not_base64"


def test_the_lines_of_the_documentation_run(written, address, tmp_path, repository, monkeypatch):
    """The block in Python with the folder of the model instead of its name, and the one for the shell against the server."""
    shell, python = (re.search(f"```{kind}\n(.*?)```", (repository / PAGE).read_text("utf-8"), re.DOTALL) for kind in ("bash", "python"))
    assert shell
    assert python
    if not shutil.which("curl"):
        pytest.skip("there is no curl here")
    monkeypatch.chdir(tmp_path)
    picture(Path("image.png"), 1)
    Path("image.png").rename("image.dcm")  # told by its content
    names = {}
    with warnings.catch_warnings(action="ignore"):  # of MLflow's own type hints
        exec(python[1].replace("models:/chest-classifier@newest", str(written)), names)  # noqa: S102 - a snippet of our own page
        expected = names["model"].predict({"image": [base64.b64encode(Path("image.dcm").read_bytes()).decode()]})
    monkeypatch.setenv("NO_PROXY", "*")
    lines = shell[1].replace("http://127.0.0.1:5001/invocations", address)
    said = subprocess.run(["bash", "-euc", lines], capture_output=True, text=True, check=True).stdout  # noqa: S607
    assert json.loads(said)["predictions"] == expected.to_dict("records")
