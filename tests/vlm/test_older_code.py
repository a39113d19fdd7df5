from __future__ import annotations

import json
from pathlib import Path

import pytest

from foveal.config.sections import Model
from foveal.errors import UserError
from foveal.vlm.loading import load, load_config

CODE = (
    "from transformers import PretrainedConfig\n\n\nclass Phi3VConfig(PretrainedConfig):\n    model_type = 'phi3_v'\n"
)


def stand_in(folder: Path, auto_map: dict[str, str]) -> Path:
    folder.mkdir()
    (folder / "configuration_phi3_v.py").write_text(CODE)
    config = {"model_type": "phi3_v", "auto_map": auto_map, "architectures": ["Phi3VForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


CONFIG = {"AutoConfig": "configuration_phi3_v.Phi3VConfig"}
OLD = {**CONFIG, "AutoModelForCausalLM": "modeling_phi3_v.Phi3VForCausalLM"}


@pytest.mark.parametrize("trusted", [False, True])
def test_code_for_older_transformers_is_named_whether_it_is_trusted_or_not(tmp_path, trusted):
    folder = stand_in(tmp_path / "phi", OLD)
    with pytest.raises(UserError) as error:
        load(Model(id=str(folder), device="cpu", trust_remote_code=trusted))
    assert str(error.value) == (
        f"model.id: {folder} brings Python code of its own for AutoModelForCausalLM of an older transformers, which is not "
        "supported; choose e.g. HuggingFaceTB/SmolVLM-Instruct or Qwen/Qwen2-VL-2B-Instruct."
    )


def test_code_with_the_class_of_today_is_read_where_it_is_trusted(tmp_path):
    today = {**OLD, "AutoModelForImageTextToText": "modeling_phi3_v.Phi3VForCausalLM"}
    folder = stand_in(tmp_path / "phi", today)
    with pytest.raises(UserError, match="brings its own Python code; read it"):
        load_config(Model(id=str(folder)))
    assert load_config(Model(id=str(folder), trust_remote_code=True)).model_type == "phi3_v"


def test_a_known_family_may_bring_code_besides(tiny, tmp_path):
    folder = tmp_path / "qwen"
    folder.mkdir()
    config = json.loads((tiny("qwen2_vl") / "config.json").read_text())
    auto_map = {"AutoModelForCausalLM": "modeling.Theirs"}
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": auto_map}))
    assert load_config(Model(id=str(folder))).model_type == "qwen2_vl"
