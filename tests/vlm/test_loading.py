from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from foveal.config.sections import Lora, Model
from foveal.errors import UserError
from foveal.vlm.finding import builtin_folder
from foveal.vlm.loading import lacks_memory, load, memory_errors, pick_device


@pytest.fixture
def broken(tiny, tmp_path):
    """A copy of a family's tiny model for a test to break."""

    def copy(family: str = "idefics3") -> Path:
        return shutil.copytree(tiny(family), tmp_path / family)

    return copy


def refusal(folder: Path | str, **model: object) -> str:
    with pytest.raises(UserError) as error:
        load(Model(id=str(folder), device="cpu", **model))  # type: ignore[arg-type]
    message = str(error.value)
    assert len(message.splitlines()) == 1
    return message


def change_config(folder: Path, **values: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


# ---------------------------------------------------------------- which model


@pytest.mark.parametrize("name", ["nope", "nobody/nothing", "two words", "a/b@main", "-"])
def test_unknown_hub_id_offline(name):
    message = refusal(name)
    assert message.startswith(
        f"model.id: {name!r} is no local folder, and the Hub does not have it or cannot be reached;"
    )
    assert "builtin" in message


@pytest.mark.parametrize("name", ["./nowhere", "../nowhere", "/no/where", "~/no/where", "a/b/c"])
def test_paths_that_lead_nowhere(name):
    assert refusal(name) == f"model.id: there is no model folder {name!r}; check the path."


def test_the_address_of_a_server_is_no_model_to_load():
    assert refusal("https://example.org/model").startswith(
        "model.id: is the address of a server, whose model cannot be"
    )


def test_a_file_and_a_folder_without_a_model(tmp_path):
    (tmp_path / "file").touch()
    assert "there is no model folder" in refusal(tmp_path / "file")
    assert refusal(tmp_path) == f"model.id: {tmp_path} is not a model in Hub layout (it has no config.json)."
    (tmp_path / "recipe.yaml").touch()
    assert "it has a run; use its checkpoints/best folder" in refusal(tmp_path)


def test_a_text_model_is_no_vlm(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    assert "is of type 'gpt2', which takes no pictures and text together; choose a vision-language model" in refusal(
        tmp_path
    )


def test_a_model_with_code_of_its_own_needs_leave(broken, tmp_path):
    folder = broken()
    change_config(
        folder, model_type="my_vlm", auto_map={"AutoConfig": "my.Config", "AutoModelForImageTextToText": "my.Vlm"}
    )
    (folder / "my.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert refusal(folder).endswith("brings its own Python code; read it, then set model.trust_remote_code to true.")
    assert not (tmp_path / "ran").exists()


def test_code_beside_a_known_family_is_never_run(broken, tmp_path):
    folder = broken()
    change_config(folder, auto_map={"AutoModelForImageTextToText": "my.Vlm"})
    (folder / "my.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    load(Model(id=str(folder), device="cpu"))
    assert not (tmp_path / "ran").exists()


# ---------------------------------------------------------------- damaged folders


@pytest.mark.parametrize(
    ("family", "part"), [("idefics3", "connector"), ("qwen2_5_vl", "lm_head"), ("llava", "lm_head")]
)
def test_a_missing_tensor_is_named_and_never_made_up(broken, family, part):
    folder = broken(family)

    def remove(tensors: dict[str, torch.Tensor]) -> None:
        tensors.pop(next(name for name in tensors if part in name))

    change_weights(folder, remove)
    message = refusal(folder)
    assert str(folder) in message and part in message and "lacks weights" in message and "incomplete" in message


def test_weights_of_another_size(broken):
    folder = broken()

    def cut(tensors: dict[str, torch.Tensor]) -> None:
        name = next(n for n in tensors if "connector" in n)
        tensors[name] = tensors[name][:, :4].contiguous()

    change_weights(folder, cut)
    assert (
        refusal(folder)
        == f"{folder}: its weights have other sizes than its config.json says; they belong to another model."
    )


@pytest.mark.parametrize("kept", [0, 1000])
def test_truncated_weights(broken, kept):
    folder = broken()
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    assert refusal(folder).startswith(f"{folder}: the model cannot be loaded: Error while deserializing header")


@pytest.mark.parametrize("what", ["no weights", "only a pickle", "only a configuration"])
def test_weights_come_as_safetensors_or_not_at_all(broken, what):
    folder = broken()
    if what == "only a pickle":
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    if what == "only a configuration":
        for file in folder.iterdir():
            if file.name != "config.json":
                file.unlink()
    message = refusal(folder)
    assert message.startswith(f"{folder}: has no weights as safetensors") and "convert" in message


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "the model cannot be loaded: It looks like the config file"),
        ("{}", "its config.json is missing or names no model type; the folder is incomplete."),
        ('{"model_type": "frobnicate"}', "is of a family that this transformers does not know; update transformers."),
        (
            '{"model_type": "idefics3", "vision_config": {"hidden_size": "x"}}',
            "the model cannot be loaded: Validation error",
        ),
    ],
)
def test_damaged_configurations(broken, text, what):
    folder = broken()
    (folder / "config.json").write_text(text)
    message = refusal(folder)
    assert str(folder) in message and what in message


@pytest.mark.parametrize("file", ["tokenizer.json", "processor_config.json"])
@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_damaged_processors(broken, file, damage):
    folder = broken()
    if damage == "missing":
        (folder / file).unlink()
    else:
        (folder / file).write_text("{")
    assert refusal(folder).startswith(f"{folder}: the processor cannot be loaded (")


def test_a_checkpoint_of_another_model(tiny):
    with pytest.raises(
        UserError, match=r"builtin is not the model of .*idefics3.*, which has \d+ tokens and not 1,024"
    ):
        load(Model(device="cpu"), weights=tiny("idefics3"))


def test_an_adapter_of_another_model(tiny, tmp_path):
    recipe = Model(id=str(tiny("idefics3")), device="cpu", adapter="lora", lora=Lora(r=2))
    load(recipe, training=True).model.save_pretrained(tmp_path)  # type: ignore[operator]
    assert load(recipe, weights=tmp_path).family == "idefics3"
    with pytest.raises(UserError, match=r"does not fit the model builtin \(.*\); name its own\."):
        load(Model(device="cpu"), weights=tmp_path)


# ---------------------------------------------------------------- what a recipe asks for


@pytest.mark.parametrize("name", ["gpu", "meta", "cuda:x", "", "tpu:1"])
def test_devices_that_there_are_not(name):
    with pytest.raises(UserError) as error:
        pick_device(name)
    assert str(error.value) == f"model.device: {name!r} is no device; use auto, cpu, cuda, cuda:N or mps."


def test_a_device_that_this_machine_lacks():
    with pytest.raises(UserError) as error:
        pick_device(f"cuda:{torch.cuda.device_count()}")
    assert str(error.value).endswith("; use auto or cpu.") and "this machine has no 'cuda:" in str(error.value)


def test_quantised_weights_without_bitsandbytes(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "bitsandbytes" else real(name, *a)
    )
    for kind in ("nf4", "int8"):
        message = refusal("builtin", quantization=kind, adapter="lora")
        assert message == f"model.quantization: {kind} needs bitsandbytes; install it with: pip install 'foveal[quant]'"


@pytest.mark.skipif(importlib.util.find_spec("flash_attn") is not None, reason="flash_attn is installed")
def test_a_kernel_that_is_not_installed():
    message = refusal("builtin", attention="flash_attention_2")
    assert "needs a package that is missing" in message and "FlashAttention2" in message


@pytest.mark.parametrize(
    ("model", "what"),
    [
        ({"freeze": ["vision", "projector", "language"]}, "model.freeze: every component is frozen"),
        ({"freeze": ["head"]}, "model.freeze: 'head' is not a component of this model; it has vision, projector, language."),
        ({"learning_rates": {"projecter": 1.0}}, "model.learning_rates: 'projecter' is not a component of this model"),
        ({"adapter": "lora", "freeze": ["vision"]}, "model.freeze: with adapter: lora all weights are frozen already"),
        ({"adapter": "lora", "lora": Lora(components=["head"])}, "model.lora.components: 'head' has no linear layers"),
        ({"adapter": "lora", "lora": Lora(also_train=["language"])}, "cannot have adapters and be trained whole"),
    ],
)  # fmt: skip
def test_parts_that_cannot_learn_as_asked(model, what):
    with pytest.raises(UserError) as error:
        load(Model(device="cpu", **model), training=True)
    assert what in str(error.value)


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
        ),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "mps", "python"],
)
def test_lack_of_memory_becomes_advice(error):
    assert lacks_memory(error)
    with pytest.raises(UserError) as said, memory_errors():
        raise error
    message = str(said.value)
    assert message.startswith("Out of memory (") and len(message.splitlines()) == 1
    for remedy in (
        "training.batch_size",
        "evaluation.batch_size",
        "model.gradient_checkpointing",
        "nf4",
        "model.image_size",
    ):
        assert remedy in message


def test_other_errors_pass_as_they_are():
    assert not lacks_memory(RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"), memory_errors():
        raise RuntimeError("shapes differ")


def test_a_model_that_does_not_fit_while_it_is_loaded_or_moved(monkeypatch):
    def explode(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(nn.Module, "to", explode)
    assert "Out of memory" in refusal("builtin")
    monkeypatch.setattr("foveal.vlm.loading.AutoModelForImageTextToText.from_pretrained", explode)
    assert "Out of memory" in refusal("builtin")


def test_the_builtin_model_is_a_folder_like_any_other(tmp_path):
    copy = shutil.copytree(builtin_folder(), tmp_path / "copy")
    a, b = load(Model(device="cpu")), load(Model(id=str(copy), device="cpu"))
    assert a.context == b.context == 2048 and a.family == b.family == "idefics3"
    assert all(torch.equal(x, y) for x, y in zip(a.model.parameters(), b.model.parameters(), strict=True))


@pytest.mark.parametrize("content", ["null", "[]", '"text"', "3"])
@pytest.mark.parametrize(
    "name", ["config.json", "processor_config.json", "tokenizer_config.json", "generation_config.json"]
)
def test_a_file_of_settings_that_is_no_object_is_a_sentence(broken, name, content):
    folder = broken()
    (folder / name).write_text(content)
    assert refusal(folder).startswith(f"{folder / name}: holds ")
    assert refusal(folder).endswith(" where an object with keys is needed; get the file again.")


def test_a_configuration_without_its_text_model_is_a_sentence_and_not_a_model_of_default_size(broken):
    folder = broken()
    change_config(folder, text_config=None)
    assert refusal(folder) == (
        f"{folder / 'config.json'}: its text_config is null where an object with keys is needed; get the file again."
    )


def test_a_configuration_of_another_family_is_a_sentence(broken):
    folder = broken()
    change_config(folder, model_type="paligemma")
    assert refusal(folder).startswith(f"{folder}: the model cannot be loaded: ")


def test_float16_on_a_cpu_is_a_sentence():
    assert refusal("builtin", dtype="float16") == (
        "model.dtype: float16 is for GPUs; on a CPU give float32 or bfloat16, or leave it at auto."
    )
