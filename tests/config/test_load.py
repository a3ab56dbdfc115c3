"""Configurations: every mistake at once, with its line; nothing but data."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from medkd.config.keys import keys_text
from medkd.config.load import dump_settings, fill_run_dir, find_config, load_settings
from medkd.data.archive_cases import ArchiveData
from medkd.errors import SettingsError
from medkd.settings import Settings


class Hint(Settings):
    kind: Literal["hint"] = "hint"
    weight: float = Field(1.0, ge=0, description="Weight.")


class Soft(Settings):
    kind: Literal["soft"] = "soft"
    temperature: float = Field(2.0, gt=0)


class Training(Settings):
    epochs: int = Field(3, ge=1)
    learning_rate: float = 0.1


class Run(Settings):
    name: str
    out: str = "x"
    training: Training = Training()
    terms: tuple[Annotated[Hint | Soft, Field(discriminator="kind")], ...] = ()


def write(tmp_path: Path, text: str, name: str = "run.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def reasons_of(path: Path, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as refused:
        load_settings(path, Run, overrides=overrides)
    return refused.value.reasons


def test_three_mistakes_are_reported_at_once_each_with_its_line(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "# purpose\nname: a\ntraining:\n  epochs: 0\n  learning_rat: .1\n"
        "terms:\n  - kind: hint\n    weight: -1\n",
    )
    reasons = reasons_of(path)
    assert len(reasons) == 3
    assert any("run.yaml:4: training.epochs" in r and "got 0" in r for r in reasons)
    assert any("run.yaml:5: training.learning_rat" in r and "learning_rate" in r for r in reasons)
    assert any("run.yaml:8: terms.0.weight" in r for r in reasons)


def test_an_unknown_kind_names_its_line(tmp_path: Path) -> None:
    (reason,) = reasons_of(write(tmp_path, "name: a\nterms:\n  - kind: magic\n"))
    assert reason.startswith("run.yaml:3: terms.0")
    assert "hint" in reason


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    (reason,) = reasons_of(write(tmp_path, "out: y\n"))
    assert "name: missing" in reason


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (reason,) = reasons_of(write(tmp_path, "name: a\nname: b\n"))
    assert reason == "run.yaml:2: the key 'name' occurs twice"


def test_a_python_tag_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    (reason,) = reasons_of(write(tmp_path, "name: !!python/object/apply:os.getcwd []\n"))
    assert "plain data" in reason


def test_overrides_win_and_keep_types(tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\nterms: [{kind: hint}]\n")
    run = load_settings(path, Run, overrides=["training.epochs=9", "terms.0.weight=0.5"])
    assert run.training.epochs == 9
    assert run.terms[0] == Hint(weight=0.5)


def test_a_bad_override_is_named_as_such(tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\n")
    assert "--set training.epochs" in reasons_of(path, "training.epochs=none")[0]
    assert "expected key=value" in reasons_of(path, "training")[0]
    assert "there is no terms.4" in reasons_of(path, "terms.4.weight=1")[0]


def test_a_base_is_merged_below_the_file(tmp_path: Path) -> None:
    write(tmp_path, "name: base\ntraining: {epochs: 7, learning_rate: 0.5}\n", "base.yaml")
    run = load_settings(write(tmp_path, "base: base.yaml\ntraining: {epochs: 2}\n"), Run)
    assert (run.name, run.training.epochs, run.training.learning_rate) == ("base", 2, 0.5)


def test_a_mistake_in_the_base_names_the_base(tmp_path: Path) -> None:
    write(tmp_path, "name: base\nout: [1]\n", "base.yaml")
    (reason,) = reasons_of(write(tmp_path, "base: base.yaml\n"))
    assert reason.startswith("base.yaml:2: out")


def test_dumped_settings_read_back_equal(tmp_path: Path) -> None:
    run = Run(name="a", terms=(Soft(temperature=3.0),))
    assert load_settings(write(tmp_path, dump_settings(run)), Run) == run


def test_run_dir_is_the_only_interpolation(tmp_path: Path) -> None:
    run = fill_run_dir(Run(name="${HOME}", out="${run_dir}/data"), tmp_path)
    assert run.out == f"{tmp_path}/data"
    assert run.name == "${HOME}"


def test_an_unknown_name_lists_the_closest_shipped() -> None:
    with pytest.raises(SettingsError) as refused:
        find_config("demo/phantm")
    assert "demo/phantom" in refused.value.reasons[0]


def test_keys_are_explained_once_a_section_with_type_default_and_meaning() -> None:
    text = keys_text({"medkd run": Run})
    assert text.count("## Hint (`kind: hint`)") == 1
    assert "| `weight` | float | `1.0` | Weight. |" in text
    assert "| **`name`** | text |  |  |" in text
    assert "| `terms` | list of Hint or Soft | `[]` |  |" in text


class Lists(Settings):
    names: tuple[str, ...] = ()
    kinds: tuple[Literal["solid", "part"], ...] | None = None
    codes: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    numbers: tuple[int, ...] = ()


def test_a_text_is_a_list_of_one_where_a_list_of_texts_goes(tmp_path: Path) -> None:
    path = write(tmp_path, "names: Nodule\nkinds: solid\n")
    lists = load_settings(path, Lists, overrides=["codes=slice_thickness"])
    assert lists.names == ("Nodule",)
    assert (lists.kinds, lists.codes) == (("solid",), ("slice_thickness",))
    assert load_settings(path, Lists, overrides=["names=[a, b]"]).names == ("a", "b")


def test_a_number_is_no_list_and_a_text_is_no_list_of_numbers(tmp_path: Path) -> None:
    for text in ("names: 3\n", "numbers: many\n"):
        with pytest.raises(SettingsError):
            load_settings(write(tmp_path, text), Lists)


def test_one_positive_label_may_be_given_without_brackets() -> None:
    assert ArchiveData.model_validate(
        {"index": "work/index.csv", "cases": "images", "positive": "Nodule"}
    ).positive == ("Nodule",)
