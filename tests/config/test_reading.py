from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from foveal.config.checking import check
from foveal.config.keys import common_keys, keys
from foveal.config.reading import read_model_section, read_recipe
from foveal.config.sections import Lora, Model, Recipe, Server, Training, dump_recipe
from foveal.errors import UserError
from foveal.tasks.capabilities import Generator
from foveal.tasks.classification.task import ClassificationData
from foveal.tasks.registry import find_task

SHIPPED = sorted((Path(__file__).parents[2] / "src/foveal/recipes").glob("*.yaml"))
BASE = "task: classification\ndata:\n  source: pictures\n"


@pytest.fixture
def read(tmp_path):
    def from_text(text: str, words: str = "") -> Recipe:
        path = tmp_path / "r.yaml"
        path.write_text(text)
        return read_recipe(path, shlex.split(words))

    return from_text


def refusal(read, text: str, words: str = "") -> str:
    with pytest.raises(UserError) as error:
        read(text, words)
    return str(error.value)


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_a_dumped_recipe_reads_back_equal(path, tmp_path):
    needs_folder = yaml.safe_load(path.read_text())["task"] in ("classification",)
    recipe = read_recipe(path, ["--data.source", "pictures"] if needs_folder else [])
    again = tmp_path / "again.yaml"
    again.write_text(dump_recipe(recipe))
    assert read_recipe(again) == recipe


def test_awkward_texts_survive_dumping_and_reading(tmp_path):
    awkward = [
        "no",
        "3",
        "1e5",
        "null",
        "[a]",
        "{a: b}",
        "a: b #c",
        " two\nlines ",
        "'\"",
        "日本語 ü",
        "",
        "--x",
        "2024-01-01",
    ]
    for text in awkward:
        data = ClassificationData(
            source="pictures", question=text, system=text, class_names=[text, "b"], descriptions={text: text}
        )
        recipe = Recipe(task="classification", data=data, model=Model(id=text, revision=text), name=text)
        path = tmp_path / "r.yaml"
        path.write_text(dump_recipe(recipe), encoding="utf-8")
        assert read_recipe(path) == recipe, text


def test_numbers_without_a_point_become_floats(read):
    # PyYAML itself reads 3e-4 as text, because YAML 1.1 asks for a point.
    recipe = read(BASE + "training: {learning_rate: 3e-4, epochs: 2}\nmodel: {learning_rates: {projector: 5e-4}}\n")
    assert recipe.training.learning_rate == 3e-4 and recipe.model.learning_rates == {"projector": 5e-4}
    assert recipe.training.epochs == 2.0 and isinstance(recipe.training.epochs, float)


def test_overrides_of_every_kind(read):
    words = "--training.epochs 2 --training.learning_rate=3e-4 --training.evaluate --model.lora.r 4 --seed 7 --name 007"
    words += " --data.class_names cat dog --model.freeze [vision,language] --model.revision 1e5"
    words += " --model.learning_rates '{projector: 5e-4, head: 1}' --data.question 'Which, [a] or {b}: x?'"
    recipe = read(BASE + "training: {epochs: 9, evaluate: false}\n", words)
    assert (recipe.training.epochs, recipe.training.learning_rate, recipe.training.evaluate) == (2.0, 3e-4, True)
    assert (recipe.seed, recipe.name, recipe.model.revision, recipe.model.lora) == (7, "007", "1e5", Lora(r=4))
    assert recipe.data.class_names == ["cat", "dog"] and recipe.model.freeze == ["vision", "language"]
    assert recipe.model.learning_rates == {"projector": 5e-4, "head": 1.0}
    assert recipe.data.question == "Which, [a] or {b}: x?"


def test_false_and_null_on_the_command_line(read):
    recipe = read(BASE + "model: {revision: main}\n", "--training.evaluate false --model.revision null")
    assert recipe.training.evaluate is False and recipe.model.revision is None
    assert read(BASE, "--training.max_grad_norm 0 --training.max_steps -1").training.max_steps == -1


def test_an_empty_section_has_its_defaults(read):
    assert read(BASE + "training:\nmodel: {}\n") == read(BASE)


def test_dotted_keys_are_read_like_nested_ones(read):
    assert read("task: classification\ndata.source: pictures\nmodel.lora: {r: 4}\n") == read(BASE, "--model.lora.r 4")


def test_a_byte_order_mark_and_windows_line_ends_do_not_matter(tmp_path, read):
    path = tmp_path / "w.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + BASE.replace("\n", "\r\n").encode())
    assert read_recipe(path) == read(BASE)


def test_a_recipe_can_come_from_the_command_line_alone():
    recipe = read_recipe(None, ["--task=classification", "--data.source", "pictures"])
    assert recipe == Recipe(task="classification", data=ClassificationData(source="pictures"))


def test_keys_of_a_task_are_the_common_ones_and_its_own():
    assert set(keys("classification")) - set(common_keys()) == {
        f"data.{name}" for name in ClassificationData.__dataclass_fields__
    }
    assert {"model.lora.r", "training.epochs", "evaluation.method", "seed"} <= set(common_keys())


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("lines", "near"),
    [
        ("training: {epoch: 3}", "'training.epoch'; did you mean 'training.epochs'?"),
        ("training: {batch-size: 3}", "'training.batch-size'; did you mean 'training.batch_size'?"),
        ("traning: {epochs: 3}", "'traning'; did you mean 'training'?"),
        ("epochs: 3", "'epochs'; did you mean 'training.epochs'?"),
        ("learning_rate: 3e-4", "'learning_rate'; did you mean 'training.learning_rate'?"),
        ("model: {lora: {rank: 3}}", "'model.lora.rank'; did you mean 'model.lora.r'?"),
        ("zzz: 3", "'zzz'; `--help` lists all keys."),
        ("3: 4", "'3'; `--help` lists all keys."),
    ],
)
def test_unknown_key_in_a_file_names_file_and_nearest(read, tmp_path, lines, near):
    assert refusal(read, BASE + lines + "\n") == f"{tmp_path / 'r.yaml'}: there is no key {near}"


@pytest.mark.parametrize(
    ("words", "near"),
    [
        ("--training.epoch 3", "There is no key --training.epoch; did you mean --training.epochs?"),
        ("--modle.id x", "There is no key --modle.id; did you mean --model.id?"),
        ("--batch-size 3", "There is no key --batch-size; did you mean --training.batch_size?"),
        ("--no-training.evaluate", "There is no key --no-training.evaluate; did you mean --training.evaluate?"),
        ("--model x", "--model: is a section with keys of its own, e.g. model.id."),
        ("--model.learning_rates.vision 1", "There is no key --model.learning_rates.vision; give --model.learning_rates "
         "whole, e.g. --model.learning_rates '{name: value}'."),
    ],
)  # fmt: skip
def test_unknown_key_on_the_command_line_names_the_nearest_and_no_file(read, words, near):
    assert refusal(read, BASE, words) == near


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ("training: {epochs: three}", "training.epochs: must be a number, not 'three'."),
        ("training: {epochs: null}", "training.epochs: must be a number, not null."),
        ("training: {epochs: true}", "training.epochs: must be a number, not true."),
        ("training: {epochs: .nan}", "training.epochs: must be a number, not nan."),
        ("training: {batch_size: 3.5}", "training.batch_size: must be a whole number, not 3.5."),
        ("training: {evaluate: 'yes'}", "training.evaluate: must be true or false, not 'yes'."),
        ("training: {evaluate: 1}", "training.evaluate: must be true or false, not 1."),
        ("training: {schedule: cosin}", "training.schedule: 'cosin' is not possible; did you mean 'cosine'?"),
        ("training: {schedule: x}", "training.schedule: 'x' is not possible; choose from cosine, linear, constant, plateau."),
        ("model: {freeze: [visin]}", "model.freeze: 'visin' is not possible; did you mean 'vision'?"),
        ("model: {freeze: vision}", "model.freeze: must be a list, each entry one of vision, projector, language, head, "
         "not 'vision'."),
        ("model: {learning_rates: {vision: x}}", "model.learning_rates: must be a mapping of names to values, each a number, "
         "not {'vision': 'x'}."),
        ("model: {learning_rates: [1]}", "model.learning_rates: must be a mapping of names to values, each a number, not [1]."),
        ("model: {revision: 1.5}", "model.revision: must be a text or null, not 1.5; put it in quotes."),
        ("name: 2024-01-01", "name: must be a text or null, not 2024-01-01; put it in quotes."),
        ("seed: 1.5", "seed: must be a whole number, not 1.5."),
        ("training: 3", "training: is a section with keys of its own, e.g. training.epochs, not 3."),
        ("training: [a]", "training: is a section with keys of its own, e.g. training.epochs, not ['a']."),
        ("model: {lora: 3}", "model.lora: is a section with keys of its own, e.g. model.lora.r, not 3."),
        ("training: {epochs: 1}\ntraining.epochs: 2", "training.epochs: is given twice; remove one."),
    ],
)  # fmt: skip
def test_wrong_values_in_a_file(read, tmp_path, lines, what):
    assert refusal(read, BASE + lines + "\n") == f"{tmp_path / 'r.yaml'}: {what}"


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ("question: no", "data.question: must be a text, not false; put it in quotes."),
        ("class_names: red", "data.class_names: must be a list, each entry a text, not 'red'."),
        ("class_names: [1, 2]", "data.class_names: must be a list, each entry a text, not [1, 2]."),
        (
            "descriptions: {no: a}",
            "data.descriptions: must be a mapping of names to values, each a text, not {False: 'a'}.",
        ),
    ],
)
def test_wrong_values_in_the_tasks_own_section(read, lines, what):
    assert refusal(read, f"{BASE}  {lines}\n").endswith(what)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("--training.epochs three", "--training.epochs: must be a number, not 'three'."),
        ("--training.evaluate maybe", "--training.evaluate: must be true or false, not 'maybe'."),
        ("--training.batch_size 1.0", "--training.batch_size: must be a whole number, not '1.0'."),
        ("--training.learning_rate nan", "--training.learning_rate: must be a number, not 'nan'."),
        ("--training.epochs", "--training.epochs needs a value."),
        ("--data.class_names", "--data.class_names needs a value ([] for none)."),
        ("--training.epochs 1 2", "--training.epochs takes one value, not 2 (1 2); quote a value with spaces."),
        ("--model.freeze [vision", "--model.freeze: '[vision' is not possible; did you mean 'vision'?"),
        ("--objective lable", "--objective: 'lable' is not possible; did you mean 'label'?"),
        ("stray", "'stray' is not expected here; settings are written --key value."),
        ("--", "'--' is not expected here; settings are written --key value."),
    ],
)
def test_wrong_values_on_the_command_line(read, words, what):
    assert refusal(read, BASE, words) == what


def test_an_override_does_not_hide_what_is_wrong_in_the_file(read):
    assert "r.yaml: training.epochs" in refusal(read, BASE + "training: {epochs: x}\n", "--training.epochs 2")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is empty; a recipe is a mapping of keys and sections (task, data, model, ...)."),
        ("# nothing\n", "is empty; a recipe is a mapping of keys and sections (task, data, model, ...)."),
        ("- a\n", "is a list; a recipe is a mapping of keys and sections (task, data, model, ...)."),
        ("just text\n", "is only 'just text'; a recipe is a mapping of keys and sections (task, data, model, ...)."),
        (BASE + "\ttraining: 3\n", "is not valid YAML in line 4 (found character '\\t' that cannot start any token)."),
        (BASE + "data: {}\n", "is not valid YAML in line 4 (the key 'data' is there twice)."),
        (BASE + "model: {lora: {r: 1, r: 2}}\n", "is not valid YAML in line 4 (the key 'r' is there twice)."),
        (BASE + "[a, b]: c\n", "is not valid YAML in line 4 (found unhashable key)."),
        ("a: [\n", "is not valid YAML in line 2 (expected the node content, but found '<stream end>')."),
        (BASE + "---\ntask: x\n", "is not valid YAML in line 4 (but found another document)."),
        (BASE + "name: 2024-13-45\n", "is not valid YAML in line 4 (month must be in 1..12)."),
        (
            BASE + f"seed: {'9' * 5000}\n",
            "is not valid YAML in line 4 (Exceeds the limit (4300 digits) for integer string "
            "conversion: value has 5000 digits; use sys.set_int_max_str_digits() to increase the limit).",
        ),
        (BASE + f"seed: 1{'0' * 19}\n", f"seed: must be a whole number, not 1{'0' * 19}."),
        (BASE + 'name: "a\\ud800"\n', "the text 'a\\ud800' has half a character ('\\ud800'); correct it."),
        ("a: " + "[" * 5000 + "\n", "is nested too deeply; write it flatter."),
        ("task: 3\n", "task is required, e.g. `task: blindtest/lines`; `foveal tasks` lists them."),
        ("data: {source: x}\n", "task is required, e.g. `task: blindtest/lines`; `foveal tasks` lists them."),
        ("task: clasification\n", "There is no task 'clasification'; did you mean 'classification'?"),
        ("task: classification\ndata:\n", "data.source is required; set it in the recipe or with --data.source."),
        ("task: classification\na: &a {b: *a}\n", "there is no key 'a'; `--help` lists all keys."),
    ],
)
def test_files_that_are_no_recipes(read, tmp_path, text, what):
    assert refusal(read, text) == f"{tmp_path / 'r.yaml'}: {what}"


def test_a_pipe_is_no_recipe(tmp_path):
    os.mkfifo(tmp_path / "r.yaml")
    with pytest.raises(UserError, match=r"r\.yaml: is a pipe; give a file, e\.g\. a copy of what comes from it\."):
        read_recipe(tmp_path / "r.yaml")


def test_a_list_of_20000_names_is_read_entry_by_entry_and_not_all_for_each(read, monkeypatch):
    monkeypatch.setattr("foveal.config.values.ArgumentParser", None)  # which copies the list for each entry
    names = [f"name {i}" for i in range(20_000)]
    text = f"task: classification\ndata: {{source: x, class_names: [{', '.join(names)}]}}\n"
    assert read(text).data.class_names == names


def test_yaml_cannot_run_code(read, tmp_path):
    assert "is not valid YAML" in refusal(read, f"task: !!python/object/apply:os.mkdir ['{tmp_path / 'made'}']\n")
    assert not (tmp_path / "made").exists()


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00")
    for name, what in {
        "mine.yaml": "is not a text file; give a recipe's YAML file.",
        "min.yaml": f"there is no such recipe; did you mean {tmp_path / 'mine.yaml'}?",
        "zzzzz.yaml": "there is no such recipe; check the path.",
        "": "is a folder; give a recipe's YAML file.",
        "x" * 300: "cannot be read (File name too long).",
    }.items():
        with pytest.raises(UserError) as error:
            read_recipe(tmp_path / name)
        assert str(error.value) == f"{tmp_path / name}: {what}"


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("--training.batch_size 0", "training.batch_size: must be at least 1, not 0."),
        ("--evaluation.batch_size 0", "evaluation.batch_size: must be at least 1, not 0."),
        ("--training.workers -1", "training.workers: must be at least 0, not -1."),
        ("--training.max_grad_norm -1", "training.max_grad_norm: must be at least 0, not -1.0."),
        ("--model.image_size 0", "model.image_size: must be at least 1, not 0."),
        ("--model.max_pixels 0", "model.max_pixels: must be at least 1, not 0."),
        ("--model.lora.r 0", "model.lora.r: must be at least 1, not 0."),
        ("--model.lora.alpha 0", "model.lora.alpha: must be at least 1, not 0."),
        ("--model.lora.alpha -8", "model.lora.alpha: must be at least 1, not -8."),
        ("--training.learning_rate 1e99", "training.learning_rate: must be at most 1e+06, not 1e+99."),
        ("--training.muon_learning_rate 1e99", "training.muon_learning_rate: must be at most 1e+06, not 1e+99."),
        ("--model.learning_rates '{vision: 1e99}'", "model.learning_rates: vision: must be at most 1e+06, not 1e+99."),
        ("--training.weight_decay 1e99", "training.weight_decay: must be at most 1e+06, not 1e+99."),
        ("--training.epochs 1e308", "training.epochs: must be at most 1e+12, not 1e+308."),
        ("--training.max_steps 9999999999999", "training.max_steps: must be at most 1e+12, not 1e+13."),
        (
            "--model.learning_rates '{vision: 1e-4}' --model.freeze [vision]",
            "model.learning_rates: vision is frozen and learns at no rate; leave it out, or take it out of model.freeze.",
        ),
        (
            "--model.learning_rates '{vision: 1e-4}' --model.adapter lora",
            "model.learning_rates: vision is frozen and learns at no rate; leave it out, or name it in model.lora.components.",
        ),
        ("--seed -1", "seed: must be at least 0, not -1."),
        ("--seed 4294967296", "seed: must be below 2**32, not 4294967296."),
        ("--training.epochs 0", "training.epochs: must be more than 0, not 0 (or set training.max_steps)."),
        ("--training.learning_rate -1", "training.learning_rate: must be more than 0, not -1."),
        ("--model.learning_rates '{projector: -1}'", "model.learning_rates: projector: must be more than 0, not -1."),
        ("--training.warmup 1.5", "training.warmup: must be a share from 0 to below 1 or a number of steps, not 1.5."),
        ("--training.warmup -1", "training.warmup: must be a share from 0 to below 1 or a number of steps, not -1."),
        ("--training.save_epochs 0", "training.save_epochs: must be at least 1, not 0."),
        ("--training.plateau_factor 2", "training.plateau_factor: must be a share from 0 to below 1, not 2."),
        ("--model.lora.dropout 1.5", "model.lora.dropout: must be a share from 0 to below 1, not 1.5."),
        ("--model.adapter lora --model.lora.components []", "model.lora.components: names no component; give one, or set "
         "model.adapter to none."),
        ("--training.evaluate false --training.schedule plateau", "training.evaluate: schedule plateau and early_stopping watch "
         "the validation metric; set it to true."),
    ],
)  # fmt: skip
def test_values_out_of_range(read, words, what):
    assert what in refusal(read, BASE, words)


def test_check_refuses_recipes_that_were_built_in_code():
    recipe = Recipe(task="classification", data=ClassificationData(source="x"))
    check(recipe)
    with pytest.raises(UserError, match="batch_size: must be at least 1"):
        check(replace(recipe, training=Training(batch_size=0)))
    with pytest.raises(UserError, match="projector: must be more than 0, not -1"):
        check(replace(recipe, model=Model(learning_rates={"projector": -1.0})))


def test_every_generator_has_options_with_help():
    task = find_task("blindtest/lines")
    assert issubclass(task, Generator)
    from foveal.config.keys import section_keys, section_parser

    text = section_parser(task.Make, "foveal data make", "").format_help()
    assert all(f"--{key}" in text for key in section_keys(task.Make))


def test_a_section_model_alone_needs_no_task():
    section = read_model_section(["--model.id", "http://host/v1", "--model.server.tries=3", "--model.freeze", "vision"])
    assert (section.id, section.server.tries, section.freeze) == ("http://host/v1", 3, ["vision"])
    assert section.server == Server(tries=3)
    for word, message in {
        "--model.dvice": "There is no key --model.dvice; did you mean --model.device?",
        "--task": "There is no key --task; ",
        "--model.server.tries": "--model.server.tries: must be a whole number, not 'x'.",
    }.items():
        with pytest.raises(UserError) as error:
            read_model_section([word, "x"])
        assert str(error.value).startswith(message)
