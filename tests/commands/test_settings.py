"""`medssl settings`, the page docs/settings.md, and the short names of settings."""

import pytest

from medssl.commands.settings import merge_equal, page
from medssl.commands.settings import settings as command
from medssl.config import list_settings, parse_overrides
from medssl.errors import UserError


def test_the_page_is_the_one_that_the_code_gives_today(repository):
    assert (repository / "docs" / "settings.md").read_text("utf-8").splitlines() == list(page(merge_equal(list_settings()))), (
        "run make settings-page"
    )


def test_a_word_finds_the_settings_with_it_in_their_name_meaning_or_plug_in(reporter):
    said = reporter()
    command(said, word="LABEL_SMOOTHING")
    assert said.said[0] == "method.label_smoothing of supervised: number, 0 or more, less than 1; default 0.0"
    command(said := reporter(), word="radians")
    assert [line.split()[0] for line in said.said[::2]] == ["method.noise", "method.noise"]
    command(said := reporter(), word="vicreg")
    assert {"method.invariance", "method.variance", "method.covariance"} <= {line.split()[0] for line in said.said}
    with pytest.raises(UserError, match="Did you mean 'epochs'"):
        command(reporter(), word="epohcs")


@pytest.mark.parametrize(
    ("short", "full"),
    [("epochs=5", {"train": {"epochs": 5}}), ("alpha=0.5", {"method": {"alpha": 0.5}}), ("seed=3", {"seed": 3}), ("frames=first", None)],
)
def test_the_last_part_of_a_name_is_enough_where_one_setting_has_it(short, full):
    assert parse_overrides([short]) == (full or {"data": {"source": {"frames": "first"}}})


def test_a_last_part_that_several_settings_have_is_answered_with_their_names():
    with pytest.raises(UserError, match=r"2 settings end like this. Write one of these: train\.lr, finetune\.lr\."):
        parse_overrides(["lr=1"])
    with pytest.raises(UserError, match=r"no such setting. Did you mean 'epochs'\?"):
        parse_overrides(["epohcs=1"])
