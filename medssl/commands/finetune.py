"""`medssl finetune`: from an encoder and few labels to a classifier, and to what the encoder gained over starting from nothing."""

import json
import math
import shlex
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from medssl import plugins
from medssl.config import Config, merge, parse_overrides
from medssl.data.loader import workers_here
from medssl.data.names import readable
from medssl.data.patients import PatientOrigin
from medssl.data.split import parse_labels, seen_counts, unsearchable
from medssl.data.volume_slices import samples_of
from medssl.errors import Interrupted
from medssl.evaluate.experiment import Experiment, run_experiment
from medssl.evaluate.label_draws import plan_draws
from medssl.evaluate.leakage import learnt_from_labels, refuse_leak, refuse_untestable
from medssl.evaluate.results import Results
from medssl.evaluate.schema import RESULTS, DataFacts, EncoderFacts, LeakCheck, ResultsDocument, RunDescription, RunFacts
from medssl.evaluate.stats import bracketed
from medssl.evaluate.task import label_columns
from medssl.finetuning.artifacts import CELLS, RESULT_FILES, write_results
from medssl.finetuning.initialisations import load_initialisations, load_start, random_initialisation
from medssl.finetuning.loading import list_labelled, load_and_configure
from medssl.finetuning.question import Question, ask
from medssl.finetuning.run_report import reason, write_run_report
from medssl.nn import Encoder
from medssl.report.formatting import question_in_words
from medssl.report.run_files import FIGURES, REPORT
from medssl.runs.command_line import command_line
from medssl.runs.dataset import PreparedDataset, data_name, data_tags, prepare_dataset, with_unseen_test
from medssl.runs.models_to_track import models_to_track
from medssl.runs.next_command import predict_after_finetune
from medssl.runs.resolve_config import settings_of_result
from medssl.runs.run_dir import CONFIG, RUNS, START, describe_run, load_config, newest_encoder, open_run
from medssl.runs.start import method_of
from medssl.runs.to_label import name_unseen
from medssl.tracking.tracker import Tracker
from medssl.train.busy_cores import tell_busy_cores
from medssl.train.loop import choose_device
from medssl.train.precision import choose_precision
from medssl.types import Reporter
from medssl.views import executors


def finetune(
    reporter: Reporter,
    *,
    label: str | None = None,
    labels: str | None = None,
    mode: str | None = None,
    encoder: str | None = None,
    data: str | None = None,
    out: Path | None = None,
    seed: int | None = None,
    device: str | None = None,
    overwrite: bool = False,
    sets: Sequence[str] = (),
    cells: Path | None = None,
) -> Path:
    """Compare the encoder with a random one at the label fractions, and return the run folder with results and report. `label`: the label
    column, or several with commas between; `labels`: the fractions.

    Default encoder: the newest finished pretraining in runs/; default data: what it was pretrained on. An `encoder` that medssl has not
    trained is one of `encoder.foreign`; then `data` must be named, and the preset is chosen by it. `cells`: a folder in which finished
    classifiers are kept, and found again; without it they are kept in the run folder until the run has ended.

    Stopped or killed, the same command with the run folder as `out` goes on. Raises UserError for wrong input, Interrupted after Ctrl-C.
    """
    origin = Path(encoder) if encoder else newest_encoder(RUNS)
    own = {key: value for key, value in {"labels": labels, "mode": mode}.items() if value is not None}
    flags: dict[str, Any] = {"finetune": own, **({"seed": seed} if seed is not None else {}), **({"device": device} if device else {})}
    choice = [f"data.label={json.dumps(label)}"] if label is not None else []
    network, card, config = load_and_configure(reporter, origin, data, values := merge(flags, parse_overrides([*sets, *choice])))
    given = {"label": label, "labels": labels, "mode": mode, "encoder": origin, "data": data, "seed": seed, "device": device}
    fractions = parse_labels(config.finetune.labels)
    source, config = list_labelled(reporter, config, card, is_chosen="label" in values.get("data", {}))
    name = config.finetune.labels.replace(",", "-")
    with open_run(out, "finetune", name, overwrite, reporter.warn, lambda folder: _may_continue(folder, config)) as folder:
        with describe_run(folder, config, "finetune"):
            dataset = prepare_dataset(source, config, reporter, card)
            columns = label_columns(dataset.store.table, config.data.label)
            dataset = with_unseen_test(dataset, columns, config.data, card)
            if config.data.leaks != "allow":
                refuse_untestable(card, dataset.store.table, columns, dataset.roles, lambda: name_unseen(dataset, source, card))
            question = ask(dataset, columns, config)
            plan_draws(question.task, fractions, config.finetune.draws, config.seed)  # refuses a fraction that cannot be drawn
            reporter.say(f"encoder   {origin}")
            question.report(reporter, dataset, source)
            test = dataset.store.table.iloc[np.flatnonzero(dataset.roles == "test")]
            counted, site = question.task.counted, dataset.store.card["site"]
            pictures = "slices" if counted == "volumes" else counted.removeprefix("whole ")
            leaks = _check_leaks(reporter, card, test, config, dataset.origin, site, pictures)
            # the report may leave this machine, so it has the last parts of paths only
            command = command_line(
                "finetune", {**given, "encoder": encoder and origin.name, "data": data and readable(Path(data).name)}, sets
            )
            description = _describe(card, dataset, config, source.kind, command, leaks)
            start = load_start(origin, card, reporter.warn)
            inits = load_initialisations(config, network, card, test, start, reporter.say, site)
            experiment = _experiment(reporter, config, dataset, question, card, inits, fractions, description, cells or folder / CELLS)
        tags = {"kind": "finetune", "mode": config.finetune.mode, "label": question.task.column, "labels": config.finetune.labels}
        tags |= data_tags(config, dataset)
        tracking = Tracker(folder, config, reporter.warn, step=-1, parent=_parent(origin), tags=tags)  # a run that goes on has no rows yet
        with _explain_stop(command_line("finetune", {**given, "out": folder}, sets)), tracking as tracker:
            result = run_experiment(experiment, lambda done, total: reporter.progress("finetune", done, total))
            write_results(folder, config, dataset, card, experiment, result)
            _publish(reporter, tracker, folder, config, result.results, experiment.device)
        reporter.say(f"next      {predict_after_finetune(folder, config, origin)}")
        shutil.rmtree(folder / CELLS, ignore_errors=True)  # all that they hold is in the results and the classifier by now
    return folder


def _publish(reporter: Reporter, tracker: Tracker, folder: Path, config: Config, results: Results, device: torch.device) -> None:
    """Say the results, write the report, and send both and the classifier to the tracker."""
    tracker.log({"step": 0, **results.scores()})
    for file in RESULT_FILES:
        tracker.log_artifact(folder / file)
    _summary(reporter, results.document)
    _write_report(reporter, folder, results.document, device)
    for file in filter(Path.exists, (folder / REPORT, folder / FIGURES)):
        tracker.log_artifact(file)
    for model in models_to_track(folder, config):
        tracker.log_model(model)


def _may_continue(folder: Path, config: Config) -> bool:
    """Whether the folder holds a fine-tuning with these settings that was stopped."""
    described = folder / CONFIG
    if not described.is_file() or not described.read_text("utf-8").startswith("# medssl finetune\n"):
        return False
    unfinished = not (folder / RESULTS).is_file() or (folder / CELLS).is_dir()
    return unfinished and settings_of_result(load_config(folder)) == settings_of_result(config)


@contextmanager
def _explain_stop(command: str) -> Iterator[None]:
    """Turns Ctrl-C in the block into an Interrupted that says with which command to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"Stopped. The fitted classifiers are kept. Continue with: {command}", signal.SIGINT) from None


def _check_leaks(
    reporter: Reporter, card: dict[str, Any], test: pd.DataFrame, config: Config, origin: PatientOrigin, site: str, pictures: str
) -> LeakCheck | None:
    """How many test images were seen in pretraining; None where the card cannot tell. `pictures`: what they are called. Raises UserError
    where there are some, unless `data.leaks` allows them."""
    leaks = refuse_leak(card, test, site, allowed=config.data.leaks == "allow")
    if leaks is None:
        reporter.warn(f"{unsearchable(card, test, site)}: whether it has seen test images cannot be told")
    else:
        reporter.say(
            f"leaks     {leaks.leaked} of {leaks.images} test {pictures}, of {origin.people(leaks.patients)}, were seen in pretraining"
        )
    if learnt_from_labels(card):
        reporter.warn(
            "the encoder was pretrained with the labels of its images: its scores depend on all of them, not only on the drawn labels"
        )
    if PatientOrigin.by(card.get("data", {})).all_unknown and not origin.all_unknown:
        reporter.warn(
            "the encoder was pretrained without knowing patients: whether it has seen other images of the test patients cannot be told"
        )
    if leaks is not None and leaks.leaked:
        reporter.warn("leaks are allowed (data.leaks): the scores are too good, and the results say so")
    return leaks


def _experiment(
    reporter: Reporter,
    config: Config,
    dataset: PreparedDataset,
    question: Question,
    card: dict[str, Any],
    inits: dict[str, Encoder],
    fractions: Sequence[Any],
    description: RunDescription,
    cells: Path,
) -> Experiment:
    """What is to be fitted and tested. A training that other programs will slow down is told."""
    device = choose_device(config.device)
    if config.finetune.mode == "full" and (busy := tell_busy_cores(device)):
        reporter.warn(busy)
    batch_bytes = config.finetune.batch_size * math.prod(config.data.shape) * 4
    return Experiment(
        images=dataset.store.inputs,
        table=question.table,
        volumes=question.volumes,
        task=question.task,
        inits={name: encoder.to(device) for name, encoder in inits.items()},
        random=lambda draw: random_initialisation(card, config.seed, draw).to(device),
        fractions=fractions,
        settings=config.finetune,
        seed=config.seed,
        device=device,
        make_views=views_of(config),
        views=config.views.model_dump_json(),
        precision=choose_precision(config.train.precision, device, config.data.size),
        workers=workers_here(config.train.workers, batch_bytes)[0],
        cells=cells,
        description=description,
    )


def views_of(config: Config) -> executors.ViewMaker:
    """What makes the views of the mode full, one of an image or a volume at a time."""
    recipe = plugins.find("views.recipes", config.views.recipe.name).build(config.views.recipe)
    return executors.make(config.views.executor, recipe, config.data.size)


def _describe(
    card: dict[str, Any], dataset: PreparedDataset, config: Config, kind: str, command: str, leaks: LeakCheck | None
) -> RunDescription:
    """What results.json and the report say of data, encoder and run; no path but the command's own."""
    audit = dataset.store.path / "audit.json"
    pooling = {"pooling": config.finetune.pooling} if config.finetune.pooling == "attention" else {}
    return RunDescription(
        audit=json.loads(audit.read_text("utf-8")) if audit.is_file() else None,
        data=DataFacts(
            name=data_name(config, dataset),
            source=kind,
            patients=dataset.origin.to_dict(),
            **{key: dataset.store.card[key] for key in ("fingerprint", "content", "counts", "preparation")},
        ),
        encoder=EncoderFacts(
            backbone=card["backbone"],
            method=method_of(card),
            weights_sha256=card["weights_sha256"],
            facts=card["facts"],
            provenance=card["provenance"],
            pretraining=seen_counts(card),
            samples=samples_of(card),
            patients=card["data"].get("patients", {}),
            **({START: card[START]} if START in card else {}),
        ),
        run=RunFacts(preset=config.preset, seed=config.seed, command=command, **pooling),
        leak_check=leaks,
    )


def _parent(origin: Path) -> Path | None:
    run = origin if origin.is_dir() else origin.parent
    return run if (run / "mlflow.json").is_file() else None


def _write_report(reporter: Reporter, folder: Path, document: ResultsDocument, device: torch.device) -> None:
    """The report and its figures. What fails is a warning: the results are there already."""
    try:
        missing = write_run_report(folder, document, device, replace=True)
    except Exception as error:  # a full disk, or whatever matplotlib raises
        missing = f"{REPORT} and {FIGURES}: {reason(error)}"
    if missing:
        reporter.warn(f"{missing}\nThe results are complete. Write the report again with: medssl report {shlex.quote(str(folder))}")
    reporter.say(f"report    {folder / REPORT}")


def _summary(reporter: Reporter, document: ResultsDocument) -> None:
    """The table of AUROCs, a line for each fraction and initialisation; without intervals where the test has too few patients for them."""
    test, warning = document.task.test, document.interval.warning
    reporter.say(f"predicts  {question_in_words(document.task)}")
    counted = document.task.counted
    tested = document.data.origin.count(test.n_labels, test.n_patients, counted)
    unseen = f"; none of these {counted} was seen" if document.data.origin.all_unknown else ", never seen"
    known = document.leak_check is not None and not document.leak_check.leaked
    reporter.say(f"test      {tested}" + (f"{unseen} in pretraining or fitting" if known else ""))
    if warning:
        reporter.warn(warning)
    for row in document.summary:
        used, auroc = row.n_labels, row.auroc
        count = str(used.low) if used.low == used.high else f"{used.low}-{used.high}"
        interval = f"{auroc.mean:.3f}" + ("" if warning else bracketed(auroc))
        draws = f"{row.draws} draw" + ("s" if row.draws > 1 else "")
        reporter.say(f"  {row.labels:>7}  {count:>9} labels  {row.mode:6}  {row.init:10}  AUROC {interval}  {draws}")
