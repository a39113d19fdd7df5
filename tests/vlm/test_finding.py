from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from foveal import hub
from foveal.config.sections import Model, Recipe
from foveal.errors import UserError
from foveal.vlm import finding
from foveal.vlm.finding import BUILTINS, builtin_folder, check_model_id, not_on_hub, resolve


def refusal(name: object, **model: object) -> str:
    with pytest.raises(UserError) as error:
        check_model_id(Model(id=str(name), **model))  # type: ignore[arg-type]
    return str(error.value)


def test_models_of_the_package_and_folders_are_there(tmp_path):
    for name in BUILTINS:
        assert check_model_id(Model(id=name)) == str(builtin_folder(name))
    (tmp_path / "config.json").touch()
    assert check_model_id(Model(id=str(tmp_path))) == str(tmp_path)


def test_folders_that_hold_no_model_are_named(tmp_path):
    assert refusal(tmp_path) == f"model.id: {tmp_path} is not a model in Hub layout (it has no config.json)."
    (tmp_path / "recipe.yaml").touch()
    assert "it has a run; use its checkpoints/best folder" in refusal(tmp_path)
    assert refusal(tmp_path / "no") == f"model.id: there is no model folder {str(tmp_path / 'no')!r}; check the path."


@pytest.mark.parametrize("name", ["nobody/nothing", "two words", "a/b@main", "-"])
def test_a_name_that_is_not_in_the_cache_is_refused_without_a_hub(name):
    assert refusal(name) == (
        f"model.id: {name!r} is no local folder, and the Hub does not have it or cannot be reached; "
        "check the spelling and the connection, or use builtin."
    )
    assert resolve(Model(id=name)) == name


def test_the_hub_is_asked_for_the_model_and_its_revision_with_a_limit(monkeypatch):
    asked = []
    monkeypatch.setattr(HfApi, "repo_info", lambda _, name, **how: asked.append((name, how)))
    assert check_model_id(Model(id="some/model", revision="v2")) == "some/model"
    how = {"repo_type": "model", "revision": "v2", "timeout": hub.SECONDS, "expand": "sha"}
    assert asked == [("some/model", how)]


def test_a_copy_in_the_cache_needs_no_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(finding, "try_to_load_from_cache", lambda *_, **__: str(tmp_path / "config.json"))
    monkeypatch.setattr(hub, "reach", lambda *_: pytest.fail("asked"))
    assert check_model_id(Model(id="some/model")) == "some/model"


@pytest.mark.parametrize(
    ("kind", "status", "permission"), [(GatedRepoError, 403, True), (RepositoryNotFoundError, 401, False)]
)
def test_permission_is_asked_for_where_it_helps(kind, status, permission):
    # The Hub's words for what it does not have speak of gated repositories too.
    response = SimpleNamespace(status_code=status, headers={}, request=None)
    error = kind("401 Client Error. Repository Not Found. If it is private or gated, log in.", response=response)
    assert ("hf auth login" in str(not_on_hub(Model(id="a/b"), error))) == permission
    assert "hf auth login" in str(not_on_hub(Model(id="a/b"), OSError("You are trying to access a gated repo.")))


def test_torch_is_not_imported():
    code = "import sys, foveal.vlm.finding, foveal.vlm.families, foveal.quiet as q; q.quiet(); print(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_path_of_a_models_folder_is_whole_in_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/x").mkdir(parents=True)
    (tmp_path / "models/x/config.json").write_text("{}")
    named = lambda name: finding.located(Recipe("classification", None, Model(id=name))).model.id  # noqa: E731
    assert named("models/x") == str(tmp_path / "models/x") == finding.resolve(Model(id="models/x"))
    assert [named(name) for name in ("builtin", "owner/name", "http://x/v1")] == [
        "builtin",
        "owner/name",
        "http://x/v1",
    ]
