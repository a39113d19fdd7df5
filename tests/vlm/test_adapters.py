from __future__ import annotations

from foveal.config.sections import Model
from foveal.vlm.adapters import load_adapter, make_trainable
from foveal.vlm.loading import load


def test_a_saved_adapter_has_no_card_of_peft(tmp_path):
    recipe = Model(id="builtin", adapter="lora", device="cpu")
    make_trainable(load(recipe).model, recipe).save_pretrained(tmp_path / "a")
    load_adapter(load(recipe).model, tmp_path / "a", trainable=True).save_pretrained(tmp_path / "b")
    for folder in ("a", "b"):
        assert (tmp_path / folder / "adapter_config.json").is_file()
        assert not (tmp_path / folder / "README.md").exists()
