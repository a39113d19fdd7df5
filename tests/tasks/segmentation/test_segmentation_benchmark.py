from __future__ import annotations

import math
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from foveal.config.finding import recipe_or_run
from foveal.errors import UserError
from foveal.tasks.segmentation import benchmark, benchmark_memory
from foveal.tasks.segmentation.benchmark import Counts, Measured, Subject, Turn, count, p95, savings, take_turns
from foveal.tasks.segmentation.benchmark_memory import Memory
from foveal.tasks.segmentation.benchmark_sizes import VARIANTS, open_variant, settings_of, write_vit_b
from foveal.vlm.memory import stored_parameters


@pytest.fixture(scope="module")
def recipe():
    opened, _ = recipe_or_run("segmentation", ["--model.device", "cpu", "--training.precision", "float32"])
    return opened


@pytest.fixture(scope="module")
def subjects(recipe):
    return {v: Subject.open(recipe, v, None, images=2) for v in VARIANTS}


@pytest.fixture(scope="module")
def counts(subjects):
    return {
        v: count(benchmark.parts_of(s.segmenter), lambda s=s: s.ask(s.prepare(0))) for v, s in subjects.items()
    }  # fmt: skip


def test_savings_are_shares_of_what_separate_takes():
    shares = savings({
        "vlm": {"weights": 60.0, "seconds": 2.5}, "sam": {"weights": 75.0, "seconds": 1.5},
        "separate": {"weights": 100.0, "seconds": 2.0},
    })  # fmt: skip
    assert shares == {"vlm": {"weights": 0.4, "seconds": -0.25}, "sam": {"weights": 0.25, "seconds": 0.25}}


def test_times_are_compared_by_their_medians():
    turns = [Turn(0.5, 1.0, 0.9), Turn(0.1, 9.0, 2.0), Turn(0.2, 2.0, 0.7)]
    own = Measured({"a": 3, "b": 4}, 28, Memory(30, 50, "resident"), Counts({}, {"a": 10, "other": 1}), turns)
    assert own.figures() == {
        "parameters": 7, "weights": 28, "peak_memory": 50, "flops": 11, "model_seconds": 2.0, "processor_seconds": 0.9,
        "whole_seconds": 2.2,
    }  # fmt: skip


def test_the_95th_percentile_is_linear_between_neighbours():
    assert p95(list(range(21))) == pytest.approx(19) and p95([1.0, 2.0]) == pytest.approx(1.95)


def test_each_asker_goes_first_in_turn_and_no_picture_meets_one_order_twice():
    log = []
    answers = take_turns({n: lambda i, n=n: log.append((n, i)) or f"{n}{i}" for n in "abc"}, images=3, repeats=3)
    assert answers["b"] == ["b0", "b1", "b2"] * 3 and len(log) == 27
    firsts = [log[k] for k in range(0, 27, 3)]
    assert firsts == [("a", 0), ("b", 1), ("c", 2), ("b", 0), ("c", 1), ("a", 2), ("c", 0), ("a", 1), ("b", 2)]
    assert all({n for n, _ in log[k : k + 3]} == set("abc") for k in range(0, 27, 3))


def test_operations_are_those_of_the_formulas_and_go_to_their_parts():
    wide, narrow = nn.Linear(5, 7), nn.Linear(7, 3)
    query = torch.randn(1, 2, 11, 4)

    def work():
        narrow(wide(torch.randn(13, 5)))
        narrow(torch.randn(13, 7))
        functional.scaled_dot_product_attention(query, query, query)

    counted = count({"vlm_encoder": [wide], "sam_encoder": [narrow], "language": []}, work)
    assert counted.passes == {"vlm_encoder": 1, "sam_encoder": 2}
    one, two = 2 * 13 * 5 * 7, 2 * 13 * 7 * 3
    attention = 2 * (2 * 2 * 11 * 11 * 4)  # two heads, two products
    assert counted.flops == {"vlm_encoder": one, "sam_encoder": 2 * two, "language": 0, "other": attention}
    assert not wide._forward_hooks and not narrow._forward_pre_hooks


def test_each_way_runs_the_encoders_that_it_says(counts):
    assert {v: tuple(c.passes.values()) for v, c in counts.items()} == {
        "vlm": (1, 0), "sam": (0, 1), "separate": (1, 1),
    }  # fmt: skip
    assert list(counts["vlm"].passes) == ["vlm_encoder", "sam_encoder"]


def test_operations_of_the_tower_are_those_of_a_vision_transformer(counts):
    patches, width, inner, layers = (168 // 14) ** 2, 128, 512, 4
    attention = 4 * patches * width**2 + 2 * patches**2 * width
    expected = 2 * (layers * (attention + 2 * patches * width * inner) + patches * width * 3 * 14**2)
    assert counts["vlm"].flops["vlm_encoder"] == counts["separate"].flops["vlm_encoder"] == expected
    assert counts["sam"].flops["vlm_encoder"] == counts["vlm"].flops["sam_encoder"] == 0
    assert counts["sam"].flops["sam_encoder"] == counts["separate"].flops["sam_encoder"] > 0


def test_separate_takes_more_operations_than_either_and_the_same_for_the_rest(counts):
    total = {v: sum(c.flops.values()) for v, c in counts.items()}
    assert total["separate"] > max(total["vlm"], total["sam"])
    for part in ("language", "mask_decoder"):
        assert len({c.flops[part] for c in counts.values()}) == 1 and counts["vlm"].flops[part] > 0


def test_parts_hold_all_weights(subjects):
    by_part = {v: benchmark.parameters_of(s.model) for v, s in subjects.items()}
    for vision, subject in subjects.items():
        assert sum(by_part[vision].values()) == sum(p.numel() for p in subject.model.parameters())
    assert by_part["sam"]["vlm_encoder"] == by_part["vlm"]["sam_encoder"] == 0
    assert by_part["vlm"]["vlm_encoder"] == by_part["separate"]["vlm_encoder"] > 0
    assert by_part["sam"]["sam_encoder"] == by_part["separate"]["sam_encoder"] > 0
    assert len({(p["language"], p["mask_decoder"]) for p in by_part.values()}) == 1


def test_what_two_ways_have_in_common_has_the_same_weights(subjects):
    states = {v: s.model.state_dict() for v, s in subjects.items()}
    for vision in ("vlm", "sam"):
        shared = [k for k in states[vision] if k in states["separate"]]
        assert sum(k.startswith("sam.mask_decoder") for k in shared) > 50
        for name in shared:
            assert torch.equal(states[vision][name], states["separate"][name]), name


def test_the_reply_is_one_token_and_the_model_is_left_as_it_was(subjects):
    subject = subjects["vlm"]
    output = subject.segmenter.vlm.base.get_output_embeddings()
    before = len(output._forward_hooks)
    masks = subject.ask(subject.prepare(1))
    assert masks.shape == (1, 64, 64) and len(output._forward_hooks) == before
    turn = subject.answer(0)
    assert min(turn.prepare, turn.model, turn.processor) > 0


def test_weights_of_a_run_go_wherever_they_fit(recipe, subjects, tmp_path):
    model = open_variant(recipe, "vlm", None).model
    with torch.no_grad():
        model.sam.mask_decoder.iou_token.weight.fill_(3.0)
        model.to_prompt[0].bias.fill_(4.0)
    model.save_pretrained(tmp_path)
    other = open_variant(replace(recipe, model=replace(recipe.model, vision="vlm")), "sam", tmp_path).model
    assert (other.sam.mask_decoder.iou_token.weight == 3).all() and (other.to_prompt[0].bias == 4).all()
    new = subjects["sam"].model.to_tokens.project[0].weight
    assert torch.equal(other.to_tokens.project[0].weight, new)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_the_peak_is_forgotten_when_it_shall_be():
    block = bytearray(1 << 28)
    block[::4096] = b"x" * len(block[::4096])
    high = benchmark_memory._resident_peak()
    del block
    assert benchmark_memory._resident_peak() >= high - (1 << 22)
    if not benchmark_memory._reset_peak():
        pytest.skip("this system does not let a process forget its peak")
    assert high - benchmark_memory._resident_peak() > 0.9 * (1 << 28)


def test_a_named_vlm_and_sam_replace_the_recipes():
    with settings_of("a/b, c/d") as words:
        opened, _ = recipe_or_run("segmentation", words)
    assert (opened.model.id, opened.model.sam, opened.model.resolution) == ("a/b", "c/d", None)
    with settings_of("builtin") as words:
        assert recipe_or_run("segmentation", words)[0] == recipe_or_run("segmentation", [])[0]


@pytest.mark.parametrize("sizes", ["vit-l", "a,", ",b", "a,b,c", ""])
def test_other_sizes_are_refused(sizes):
    with pytest.raises(UserError) as error, settings_of(sizes):
        pass
    assert str(error.value).startswith(f"--sizes: {sizes!r} is not possible; give builtin, vit-b, or a VLM and a SAM")


@pytest.mark.slow
def test_vit_b_has_the_published_sizes(tmp_path):
    vlm, sam = write_vit_b(tmp_path)
    # The sizes of facebook/sam-vit-base, and its table of positions, which never learns.
    assert stored_parameters(sam) == 93_735_472 + 2 * 128
    layer = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768
    tower = 12 * layer + 768 * (3 * 16 * 16) + 768 + 1024 * 768 + 2 * 768
    recipe, _ = recipe_or_run(
        "segmentation", ["--model.id", str(vlm), "--model.sam", str(sam), "--model.resolution", "null", "--model.device", "cpu"]
    )  # fmt: skip
    subject = Subject.open(recipe, "vlm", None, images=1)
    assert benchmark.parameters_of(subject.model)["vlm_encoder"] == tower
    inputs = subject.prepare(0)
    assert inputs.batch["pixel_values"].shape[-2:] == (512, 512)
    assert int((inputs.batch["input_ids"] == subject.model.config.image_token).sum()) == 64
    assert math.isqrt(64) ** 2 == 64 and subject.model.sam.grid == 64
