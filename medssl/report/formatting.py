"""Numbers, lists and names as the pages and their figures write them."""

from collections.abc import Sequence

from medssl.evaluate import Range, ResultsDocument, Score, SummaryRow, TaskFacts
from medssl.evaluate.stats import ends

INITS = {
    "pretrained": "pretrained",
    "start": "weights before pretraining",
    "random": "random initialisation",
    "pixels": "raw pixels",
}
MODES = {"linear": "linear probe", "full": "full fine-tuning", "knn": "nearest neighbours"}
UNNAMED = "label"  # the column of class folders and of tables that call it so
_MINUS = "\N{MINUS SIGN}"


def format_score(value: float) -> str:
    """Three digits."""
    return f"{value:.3f}".replace("-", _MINUS)


def format_difference(value: float) -> str:
    """Three digits and a sign. Zero has no sign."""
    text = f"{value:+.3f}".replace("-", _MINUS)
    return text[1:] if float(text[1:]) == 0 else text


def format_interval(score: Score) -> str:
    """The interval of a score; a dash where there is none."""
    found = ends(score)
    return f"{format_score(found[0])} to {format_score(found[1])}" if found else "–"


def format_difference_interval(low: float | None, high: float | None) -> str:
    """The interval of a difference; a dash where there is none."""
    return "–" if low is None or high is None else f"{format_difference(low)} to {format_difference(high)}"


def format_p(p: float | None) -> str:
    """A dash where there is no p-value."""
    return "–" if p is None else "under 0.001" if p < 0.001 else f"{p:.3f}"


def format_count(number: int) -> str:
    """With a comma between thousands."""
    return f"{number:,}"


def format_range(counts: Range) -> str:
    """The smallest and the largest count; one number where they are equal."""
    return f"{counts.low:,}" if counts.low == counts.high else f"{counts.low:,} to {counts.high:,}"


def join_words(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def question_in_words(task: TaskFacts) -> str:
    """What a classifier predicts: "sex (f or m)", "the label (normal or sick)", "which of Effusion and Mass an image shows"."""
    names = [entry.name for entry in task.classes]
    if task.kind == "multilabel":
        return f"which of {join_words(names)} {an_image_or_volume(task)} shows"
    return f"{'the label' if task.column == UNNAMED else task.column} ({', '.join(names[:-1])} or {names[-1]})"


def an_image_or_volume(task: TaskFacts) -> str:
    """What has a label and a prediction, with its article."""
    return "an image" if task.counted == "images" else "a volume"


def data_and_label(document: ResultsDocument) -> str:
    """The names of the data set and of its label column: "nih (sex)"."""
    task = document.task
    label = f"{len(task.classes)} labels" if task.kind == "multilabel" else "" if task.column == UNNAMED else task.column
    name = document.data.name
    return f"{name} ({label})" if name and label else name or task.column


def short_amount(labels: str) -> str:
    """A fraction's name for axes and tables: "10pct" is "10%", "50shot" is "50 per class"."""
    return labels.replace("pct", "%").replace("shot", " per class")


def label_amounts(*labels: str) -> str:
    """Fractions for a sentence: "1% and 10% of the labels", "the labels of 50 patients per class"."""
    shots = [name.removesuffix("shot") for name in labels if name.endswith("shot")]
    shares = [short_amount(name) for name in labels if not name.endswith("shot")]
    parts = [f"the labels of {join_words(shots)} patients per class"] if shots else []
    return join_words(parts + ([f"{join_words(shares)} of the labels"] if shares else []))


def init_name(init: str) -> str:
    """An initialisation of results.json by name; one of unknown origin has its own."""
    return INITS.get(init, init)


def mode_name(mode: str) -> str:
    """A mode of fine-tuning by name."""
    return MODES.get(mode, mode)


def series_name(row: SummaryRow, summary: Sequence[SummaryRow]) -> str:
    """What a row of the summary shows: its initialisation, and its mode where the study has several."""
    several = len({other.mode for other in summary if other.init != "pixels"}) > 1
    name = init_name(row.init)
    return f"{name}, {mode_name(row.mode)}" if several and row.init != "pixels" else name
