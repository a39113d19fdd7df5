from __future__ import annotations

import functools
import shutil
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from foveal import devices
from foveal.config.reading import read_recipe
from foveal.doctor import examine as examining
from foveal.doctor import machine
from foveal.doctor.checks import Check, Checks, gigabytes, sentence
from foveal.doctor.examine import DEFAULT, SMALL, Examination, examine, read_target
from foveal.errors import UserError
from foveal.training.optimizers import MuonWithAdamW, split_for_muon
from foveal.vlm import memory
from foveal.vlm.finding import builtin_folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(machine, "probe", lambda seconds=0: None)


def checked(*words: object) -> Examination:
    return examine(read_target("the default", None, ["--model.device", "cpu", *map(str, words)]))


def named(found: Examination | Checks, name: str) -> Check:
    checks = found.checks if isinstance(found, Examination) else found.done
    return [c for c in checks if c.name == name][-1]


def states(found: Examination) -> dict[str, str]:
    return {c.name: c.state for c in found.checks if c.state in ("fail", "skip")}


# ---------------------------------------------------------------- the whole


def test_a_healthy_machine(monkeypatch):
    shown = []
    found = examine(
        read_target("the default", None, ["--model.device", "cpu", "--model.freeze", "[vision]"]), shown.append
    )
    assert found.passed and states(found) == {}, found.checks
    assert tuple(shown) == found.checks
    assert named(found, "data: train").text.startswith("24 rows of generated")
    assert "vision 876,928 (frozen)" in named(found, "model").text
    assert "[[" in named(found, "label mask").text and "<image> x16" in named(found, "label mask").text
    assert 0 < named(found, "step").facts["loss"] < 100
    assert named(found, "gradients").text == "vision frozen, none, projector 1 of 1 tensors, language 29 of 29 tensors"
    need = named(found, "memory needed").facts
    assert need["weights"] == 4 * (1_713_408 + 64), "64: the frequencies of the positions"
    assert need["gradients"] == 4 * (1_713_408 - 876_928)
    assert need["gradients"] < need["optimizer"] < 2 * need["gradients"], "Muon's part has one state, AdamW's two"
    assert need["total"] == sum(need[k] for k in ("weights", "gradients", "optimizer", "activations", "process"))
    assert named(found, "checkpoints").facts["kept"] == 3
    assert named(found, "prediction").state == "pass"


def test_a_missing_picture_folder(tmp_path):
    found = checked("--data.source", tmp_path / "nothing")
    assert not found.passed
    assert states(found) == {"data: train": "fail", "data: validation": "fail", "data: test": "fail", "step": "skip"}
    assert named(found, "model").state == "pass", "the model is looked at even so"
    failed = named(found, "data: train")
    assert str(tmp_path / "nothing") in failed.text + failed.remedy and failed.remedy


def test_a_first_picture_that_does_not_open(tmp_path):
    for split in ("train", "validation", "test"):
        for name in "ab":
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            (folder / "1.png").write_bytes(b"no picture")
    path = tmp_path / "r.yaml"
    path.write_text(f"task: classification\ndata: {{source: {tmp_path}}}\nmodel: {{device: cpu}}\n")
    found = examine(read_target("r", path, []))
    assert "not a picture in a known format" in named(found, "data: train").text


def test_a_broken_model_folder(tmp_path):
    folder = shutil.copytree(builtin_folder(), tmp_path / "model")
    weights = next(folder.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1000])
    found = checked("--model.id", folder)
    assert states(found) == {"model": "fail", "step": "skip"}
    assert str(folder) in named(found, "model").text
    (folder / "config.json").unlink()
    assert "is not a model in Hub layout" in named(checked("--model.id", folder), "model").text


def test_weights_that_are_no_numbers(tmp_path):
    folder = shutil.copytree(builtin_folder(), tmp_path / "model")
    path = next(folder.glob("*.safetensors"))
    tensors = load_file(path)
    name = next(n for n in sorted(tensors) if "text_model.layers.0" in n)
    tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})
    found = checked("--model.id", folder)
    assert states(found) == {"step": "fail", "prediction": "fail"}
    assert "the loss of a row is nan" in named(found, "step").text
    assert "text_model.layers.0" in named(found, "step").remedy and "no numbers" in named(found, "step").remedy


def test_too_little_memory(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 40_000_000)
    found = checked()
    assert states(found) == {"memory needed": "fail"}
    assert "gradient_checkpointing" in named(found, "memory needed").remedy
    monkeypatch.setattr(memory, "available", lambda device: 4_000_000)
    found = checked()
    assert states(found) == {"model": "fail", "step": "skip"}, "the model is not even loaded"
    assert "the weights of builtin alone take 7.4 MB, and 4.0 MB are free" in named(found, "model").text


def test_a_disk_without_room_for_the_checkpoints(monkeypatch):
    from foveal.doctor import job

    monkeypatch.setattr(job, "free_space", lambda path: 30_000_000)
    assert states(checked()) == {"checkpoints": "fail"}


def test_an_unexpected_error_is_a_line(monkeypatch):
    from foveal.doctor import job

    def breaks(*_: object) -> None:
        raise ZeroDivisionError("one\ntwo")

    monkeypatch.setattr(job, "make_objective", breaks)
    failed = named(checked(), "label mask")
    assert failed.state == "fail" and failed.text == "ZeroDivisionError: one" and "breaks" in failed.facts["traceback"]
    monkeypatch.setattr(examining, "_job", breaks)
    assert named(checked(), "job").text == "ZeroDivisionError: one"


def test_a_device_that_is_not_there():
    found = examine(read_target("x", None, ["--model.device", "cuda:99"]))
    assert states(found) == {"device": "fail", "job": "skip"}
    assert named(found, "device").remedy == "use auto or cpu."


# ---------------------------------------------------------------- recipes


def test_a_wrong_recipe_is_a_finding_and_a_wrong_command_line_an_error(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("task: blindtest/lines\ntraining: {epoch: 3}\n")
    target = read_target("r", path, ["--seed", "3"])
    assert target.recipe is None and "training.epochs" in str(target.trouble)
    found = examine(target)
    assert "recipe" in states(found) and named(found, "recipe").remedy == "did you mean 'training.epochs'?"
    path.write_text("task: blindtest/lines\ntraining: {batch_size: 0}\n")
    assert read_target("r", path, ["--seed", "3"]).recipe is None
    path.write_text("task: blindtest/lines\n")
    assert read_target("r", path, ["--seed", "3"]).recipe.seed == 3
    for words in (["--sead", "3"], ["--seed", "x"], ["--training.batch_size", "0"]):
        with pytest.raises(UserError):
            read_target("r", path, words)


def test_the_default_can_be_changed():
    recipe = read_target("x", None, ["--data.train", "40", "--training.optimizer=adamw"]).recipe
    assert recipe.data.train == 40 and recipe.training.optimizer == "adamw" and recipe.data.test == 6


# ---------------------------------------------------------------- the machine


def test_packages_that_are_missing_or_of_another_version(monkeypatch):
    checks = Checks()
    machine.packages(checks)
    assert [c.state for c in checks.done] == ["pass", "pass"]
    needs = ["numpy>=999", "no-such-package>=1", "pillow>=1", "other-package; extra == 'x'"]
    monkeypatch.setattr(machine, "requires", lambda name: needs)
    monkeypatch.setattr(machine, "metadata", lambda name: {"Requires-Python": ">=99"})
    machine.packages(checks)
    python, packages = checks.done[-2:]
    assert python.state == packages.state == "fail" and ">=99" in python.text
    assert "not >=999, no-such-package is missing." in packages.text and "other-package" not in packages.text
    assert packages.remedy == "pip install 'numpy>=999' 'no-such-package>=1'"


def test_a_torchvision_that_cannot_be_imported(monkeypatch):
    checks = Checks()
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    machine.torchvision(checks)
    assert checks.done == []

    def fails(name: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(machine.importlib, "import_module", fails)
    machine.torchvision(checks)
    assert (
        checks.done[0].state == "fail"
        and "nms does not exist" in checks.done[0].text
        and "pip uninstall" in checks.done[0].remedy
    )


def test_memory_and_disk_that_run_out(monkeypatch, tmp_path):
    checks = Checks()
    for free, state in ((100e6, "fail"), (500e6, "warn"), (5e9, "pass")):
        monkeypatch.setattr(machine, "machine_memory", lambda free=free: (int(free), 8_000_000_000))
        machine.memory(checks)
        assert checks.done[-1].state == state and bool(checks.done[-1].remedy) == (state != "pass")
    for free, state in ((100e6, "fail"), (1e9, "warn"), (5e9, "pass")):
        monkeypatch.setattr(machine, "free_space", lambda path, free=free: int(free))
        machine.disk(checks, str(tmp_path))
        assert checks.done[-1].state == state
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        machine.disk(checks, str(tmp_path / "file"))


def test_more_threads_than_cores_are_told(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4096)
    checks = Checks()
    assert machine.devices(checks, "cpu") == torch.device("cpu")
    assert named(checks, "cpu").state == "warn" and "OMP_NUM_THREADS" in named(checks, "cpu").remedy


# ---------------------------------------------------------------- the Hub


class Answers(BaseHTTPRequestHandler):
    code = 200

    def do_HEAD(self) -> None:
        self.send_response(type(self).code)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint(monkeypatch):
    """Lets the Hub be asked, at an address that is given."""
    monkeypatch.undo()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return lambda address: monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)


def test_the_hub_answers_or_not(endpoint, monkeypatch):
    server = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint(f"http://127.0.0.1:{server.server_port}")
    assert machine.probe() is None
    monkeypatch.setattr(Answers, "code", 503)
    assert machine.probe() == "it answers with error 503"
    server.shutdown()
    server.server_close()
    assert machine.probe(), "nobody listens"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint(f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        assert machine.probe(0.3) and time.monotonic() - started < 5
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert machine.probe() == "HF_HUB_OFFLINE is set"


def test_an_unreachable_hub_fails_only_what_needs_it(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "probe", lambda: "no answer")
    monkeypatch.setattr(machine, "_cached", lambda name, kind, revision, files: name == "there/model")
    checks = Checks()
    assert not machine.reach_hub(checks, [])
    assert checks.done[0].state == "warn"
    recipe = read_recipe(DEFAULT, [*SMALL, "--model.id", "there/model", "--data.source", "away/data@v1"])
    needs = machine.hub_needs(recipe)
    assert [(n.key, n.name, n.cached) for n in needs] == [
        ("model.id", "there/model", True),
        ("data.source", "away/data", False),
    ]
    machine.reach_hub(checks, needs[:1])
    machine.reach_hub(checks, needs)
    assert [c.state for c in checks.done[1:]] == ["warn", "fail"]
    assert "copy data.source: away/data to this machine" in checks.done[2].remedy
    monkeypatch.setattr(machine, "probe", lambda: None)
    assert machine.reach_hub(checks, needs) and checks.done[-1].state == "pass"


def test_what_cannot_be_fetched_is_not_tried(monkeypatch):
    monkeypatch.setattr(machine, "probe", lambda: "no answer")
    found = checked("--model.id", "nobody/no-such-model")
    assert states(found) == {"hub": "fail", "model": "skip", "step": "skip"}
    assert named(found, "data: train").state == "pass"
    found = checked("--data.source", "nobody/no-such-data")
    assert states(found) == {"hub": "fail", "data": "skip", "step": "skip"}


def test_a_copy_in_the_cache(monkeypatch, tmp_path):
    folder = tmp_path / "snapshot"
    folder.mkdir()
    monkeypatch.setattr(machine, "snapshot_download", lambda *_, **__: str(folder))
    assert not machine._cached("a/b", "model", None, "*.safetensors")
    (folder / "model.safetensors").touch()
    assert machine._cached("a/b", "model", None, "*.safetensors")
    monkeypatch.undo()
    assert not machine._cached("nobody/no-such-model", "model", None, "*")


# ---------------------------------------------------------------- memory


class Small(nn.Module):
    """1,000 x 8 embeddings, a frozen 8 x 8, a matrix of 64 x 100 with a bias, a convolution of 4 x 3 x 2 x 2."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(1000, 8)
        self.frozen = nn.Linear(8, 8, bias=False).requires_grad_(False)
        self.up = nn.Linear(100, 64)
        self.conv = nn.Conv2d(3, 4, 2, bias=False)
        self.register_buffer("table", torch.zeros(10))


def test_weights_gradients_and_states_by_hand():
    model = Small()
    learn = 8000 + 6400 + 64 + 48
    assert memory.weight_bytes(model) == 4 * (learn + 64 + 10)
    assert memory.gradient_bytes(model) == 4 * learn
    assert memory.optimizer_bytes(model, "adamw") == 8 * learn
    assert memory.optimizer_bytes(model, "muon") == 4 * 6400 + 8 * (8000 + 64 + 48)
    # Rows and columns: 1000 + 8, 64 + 100, and the convolution's 4*3*2 twice.
    assert memory.optimizer_bytes(model, "adafactor") == 4 * (1000 + 8 + 64 + 100 + 64 + 24 + 24)
    # 8 bits for the one large matrix that is no embedding, 25 blocks of 256.
    assert memory.optimizer_bytes(model, "adamw_8bit") == 8 * (8000 + 64 + 48) + 2 * 6400 + 2 * 4 * 25
    half = Small().to(torch.bfloat16)
    assert memory.weight_bytes(half) == 2 * (learn + 64 + 10) and memory.optimizer_bytes(half, "adamw") == 4 * learn
    need = memory.estimate(model, "adamw", 8, memory.Activations(2, trace("a0 b114"), trace("a0 b121")), process=5)
    assert need.activations == 156 and need.total == 4 * (learn + 74) + 12 * learn + 156 + 5
    with pytest.raises(UserError, match=r"training\.optimizer"):
        memory.optimizer_bytes(model, "sgd")


def real_states(name: str, model: nn.Module) -> int:
    """Bytes that the optimizer itself holds after a step, without single numbers and tables of codes."""
    named_ = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    parameters = [p for _, p in named_]
    for p in parameters:
        p.grad = torch.ones_like(p)
    made: torch.optim.Optimizer
    if name == "adamw":
        made = torch.optim.AdamW(parameters)
    elif name == "muon":
        group = {"params": parameters, "names": [n for n, _ in named_], "lr": 1e-3, "weight_decay": 0.0}
        made = MuonWithAdamW(*split_for_muon([group], 20.0))
    elif name == "adafactor":
        from transformers.optimization import Adafactor

        made = Adafactor(parameters, scale_parameter=False, relative_step=False, lr=1e-3)
    else:
        bitsandbytes = pytest.importorskip("bitsandbytes")
        made = bitsandbytes.optim.AdamW8bit(parameters)
        manager = bitsandbytes.optim.GlobalOptimManager.get_instance()
        manager.register_module_override(model.embed, "weight", {"optim_bits": 32})  # as transformers' trainer does
        manager.register_parameters(parameters)
    made.step()
    kept = [t for s in made.state.values() for k, t in s.items() if isinstance(t, torch.Tensor) and "qmap" not in k]
    return sum(t.numel() * t.element_size() for t in kept if t.numel() > 1)


@pytest.mark.parametrize("name", ["adamw", "muon", "adafactor", "adamw_8bit"])
def test_states_are_those_that_the_optimizers_keep(name):
    model = Small()
    assert memory.optimizer_bytes(model, name) == real_states(name, model)


def held(trace: memory.Trace) -> list[int]:
    return [count for _, count in trace]


def test_what_a_pass_holds_by_hand():
    x = torch.zeros(250_000, requires_grad=True)  # 1 MB
    x.grad = torch.zeros_like(x)

    def chain(length: int) -> None:
        y = x
        for _ in range(length):
            y = y.exp()  # keeps its result for the backward pass
        y.sum().backward()

    three, nine = (memory.trace_of(lambda n=n: chain(n)) for n in (3, 9))
    assert list(dict.fromkeys(held(three)))[:4] == [0, 1_000_000, 2_000_000, 3_000_000]
    assert memory.peak(nine) - memory.peak(three) == 6_000_000 and 3_000_000 <= memory.peak(three) <= 5_100_000
    assert memory.trace_of(lambda: None, start=7) == (("", 7),)
    with torch.no_grad():
        free = memory.trace_of(lambda: functools.reduce(lambda y, _: y.exp(), range(9), x))
    assert memory.peak(free) == 2_000_000, "nothing is kept"


def test_activations_grow_by_rows_as_they_really_do():
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1))

    def passes(rows: int):
        batch = torch.ones(4 * rows, 64)
        return lambda: model(batch).sum().backward(), 4 * batch.numel()

    passes(1)[0]()
    line = memory.Activations.measured(passes, 128)
    real = memory.peak(memory.trace_of(*passes(128)))
    assert line.of(128) == real
    low, high = memory.peak(line.first), memory.peak(line.second)
    assert real > low + 126 * (high - low), "the peak moves"
    small = memory.Activations.measured(passes, 3)
    assert small.of(3) == memory.peak(memory.trace_of(*passes(3))) and not small.second


def trace(text: str) -> memory.Trace:
    """Of ``a5 b20``: a leaves 5 bytes, b 20."""
    return tuple((word[0], int(word[1:])) for word in text.split())


def test_activations_by_hand():
    line = memory.Activations(1, trace("a0 b50 c20 d5"), trace("a0 b52 c40 d10"))
    assert [line.of(n) for n in (1, 2, 8)] == [50, 52, 160]
    assert memory.Activations(2, trace("a0 b70")).of(3) == 105, "one measurement: in proportion"
    assert memory.Activations(1, trace("a0 b70"), trace("c0 b30 d100")).of(3) == 130, "nothing alike: by the peaks"


def test_operations_of_single_rows_are_left_out():
    first, second = trace("a1 b2 r3 c4 d5"), trace("a2 b4 r5 r6 c8 d10 e12")
    assert memory.aligned(first, second) == [(1, 2), (2, 4), (3, 5), (4, 8), (5, 10)]
    assert memory.aligned(first, trace("a2 b4 x5")) == []
    assert memory.aligned(trace("a1"), trace("b1 a2")) == [(1, 2)]


@pytest.mark.parametrize("rows", [3, 32])
def test_the_estimate_of_activations_is_what_a_batch_takes(monkeypatch, rows):
    from foveal.doctor.job import Job

    really = {}
    own = Job._memory

    def also(job, model, passes, process):
        own(job, model, passes, process)
        really["peak"] = memory.peak(memory.trace_of(*passes(rows)))

    monkeypatch.setattr(Job, "_memory", also)
    found = checked("--training.batch_size", rows)
    assert named(found, "memory needed").facts["activations"] == pytest.approx(really["peak"], rel=0.01)


def test_memory_that_is_there():
    free, total = devices.machine_memory()
    assert 0 < free <= total
    assert 0 < devices.process_memory() <= devices.peak_process_memory() * 1.01
    assert memory.available(torch.device("cpu")) > free * 0.5
    stored = load_file(next(builtin_folder().glob("*.safetensors")))
    assert memory.stored_parameters(builtin_folder()) == sum(t.numel() for t in stored.values())


# ---------------------------------------------------------------- small parts


def test_sentences_and_sizes():
    assert sentence(UserError("a: is wrong; it has b; use c.")) == ("a: is wrong; it has b.", "use c.")
    assert sentence(UserError("a: is wrong.")) == ("a: is wrong.", "")
    assert [gigabytes(n) for n in (1234, 6.9e6, 1.5e9, 141e9)] == ["0.0 MB", "6.9 MB", "1.5 GB", "141 GB"]


def test_interrupting_is_no_finding():
    def stops() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Checks().attempt("x", stops)


def test_paths_below_folders_that_are_not_there_have_free_space(tmp_path: Path):
    assert machine.free_space(tmp_path / "a" / "b") > 0
