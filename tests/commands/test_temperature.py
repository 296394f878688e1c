"""The temperature on its way from the fit to a prediction: results.json, classifier.json and predictions.csv agree."""

import json

import numpy as np
import pandas as pd
import pytest
from predicting import table
from scipy.special import softmax

from medssl.commands.finetune import finetune
from medssl.commands.predict import predict
from medssl.commands.pretrain import pretrain

FAULTS = {
    "classifier.json says 1": ("finetuning/artifacts.py", "task.multilabel, fit.temperature,", "task.multilabel, 1.0,"),
    "predict forgets the temperature": (
        "evaluate/models/classifier.py",
        "self.head.bias.double()) / self.temperature",
        "self.head.bias.double())",
    ),
}


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_predictions_of_the_test_images_are_those_of_the_study_divided_by_the_temperature(pictures, small, reporter, tmp_path, monkeypatch):
    sets = [*small, "tracking.mlflow=false", "train.steps=2", "finetune.draws=1"]
    encoder = pretrain(reporter(), data=str(pictures), out=tmp_path / "encoder", sets=sets)
    run = finetune(reporter(), labels="100pct", encoder=str(encoder), out=tmp_path / "run", sets=sets)
    results = json.loads((run / "results.json").read_text())
    (temperature,) = (cell["temperature"] for cell in results["cells"] if cell["init"] == "pretrained")
    card = json.loads((run / "classifier.json").read_text())
    assert card["temperature"] == temperature
    assert abs(temperature - 1) > 0.1, "a temperature of 1 shows nothing"
    monkeypatch.chdir(tmp_path)
    predict(reporter(), data=str(pictures), model=str(run))
    said = {round(float(row["prob_sick"]), 5) for row in table()}
    study = pd.read_parquet(run / "predictions.parquet").query("init == 'pretrained'")
    plain = study[["prob_normal", "prob_sick"]].to_numpy()
    expected = softmax(np.log(plain) / temperature, axis=1)[:, 1]
    assert len(expected) == 12
    assert all(min(abs(p - q) for q in said) < 1e-4 for p in expected.tolist())
    assert np.abs(expected - plain[:, 1]).max() > 0.01
