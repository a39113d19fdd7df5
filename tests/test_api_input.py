"""What a user may give to `foveal.load` and its model by mistake: one sentence each, and never wrong colours."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

import foveal
from foveal.errors import UserError
from foveal.images import Picture


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    recipe = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    recipe.write_text("task: blindtest/lines\n")
    return foveal.load(recipe)


def picture_file(kind):
    stream = io.BytesIO()
    pixels = np.random.default_rng(5).integers(0, 256, (40, 48, 3), np.uint8)
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_truncated_picture_in_any_form_is_a_sentence(model, tmp_path, kind):
    half = picture_file(kind)
    half = half[: len(half) * 3 // 4]
    (tmp_path / "half").write_bytes(half)
    for given in (half, io.BytesIO(half), tmp_path / "half", Image.open(io.BytesIO(half))):
        with pytest.raises(UserError, match="the picture is damaged or truncated"):
            model.predict(given)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (Image.new("RGB", (0, 5)), r"picture 0: the picture has no pixels \(0 x 5\)"),
        (Image.new("1", (9000, 9000)), "picture 0: 9000 x 9000 pixels are more than the limit of 64,000,000; shrink"),
        (np.zeros((9000, 9000), bool), "picture 0: 9000 x 9000 pixels are more than the limit of 64,000,000; shrink"),
        (Image.new("F", (4, 4)), "picture 0: pixels of 32 bits have no agreed black and white"),
        (np.ma.masked_array(np.zeros((4, 4), np.uint8), True), "picture 0: a masked array has pixels without a colour"),
        (np.full((4, 4, 3), 300.0), "float64 has no agreed white"),
        (np.zeros((3, 4, 5), np.int32), "an array of int32 is no picture"),
        (np.zeros((3, 40, 48), np.uint8), r"shape \(3, 40, 48\) is no picture; give \[height, width\]"),
        ([], "asks about one picture at a time, not 0"),
        (".", r"^\.: cannot be read \(Is a directory\)"),
    ],
)
def test_pictures_in_memory_are_checked_as_files_are(model, given, sentence):
    with pytest.raises(UserError, match=sentence):
        model.predict(given)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "PA", "CMYK", "RGBa", "La", "I;16"])
def test_a_picture_of_any_mode_has_its_colours(mode):
    """Against values worked out by hand: a gray of 128 with an opacity of 51 of 255 on white is 229.6."""
    opaque = {
        "1": (1, 255),
        "L": (9, 9),
        "P": (7, (90, 5, 0)),
        "CMYK": ((0, 255, 255, 0), (255, 0, 0)),
        "I;16": (257 * 9, 9),
    }
    clear = {"RGBA": (128, 128, 128, 51), "LA": (128, 51), "PA": (9, 51), "RGBa": (26, 26, 26, 51), "La": (26, 51)}
    given, expected = opaque.get(mode) or (clear[mode], 230)
    image = Image.new(mode, (3, 2), given)
    if mode in ("P", "PA"):
        image.putpalette([0] * 21 + [90, 5, 0, 0, 0, 0, 128, 128, 128], "RGB")
        image.paste(given, (0, 0, 3, 2))
    expected = expected if isinstance(expected, tuple) else (expected,) * 3
    found = [Picture("x", image).open(), Picture("x", lambda: image).open()]
    assert all(f.mode == "RGB" and f.size == (3, 2) for f in found)
    for f in found:
        assert np.abs(np.asarray(f).astype(int) - expected).max() <= 2  # multiplied colours have few bits


def test_a_closed_picture_and_a_function_that_draws_none(model):
    closed = Image.open(io.BytesIO(picture_file("PNG")))
    closed.close()
    with pytest.raises(
        UserError, match=r"picture 0: the picture is damaged or truncated \(Operation on closed image\)"
    ):
        model.predict(closed)
    with pytest.raises(TypeError, match=r"^x: its function returned ndarray, no picture of Pillow$"):
        model.predict(foveal.Picture("x", lambda: np.zeros((4, 4, 3), np.uint8)))


@pytest.mark.parametrize("wrong", [None, 3, [], {}, b"runs/x", True])
def test_what_is_no_recipe_is_a_sentence(wrong):
    told = (
        f"^{type(wrong).__name__} is no recipe; give a run's folder, the name or the YAML file of a recipe, or a Recipe"
    )
    for call in (foveal.load, foveal.train, foveal.evaluate):
        with pytest.raises(UserError, match=told):
            call(wrong)


def test_names_that_no_file_has_are_a_sentence(model, tmp_path):
    for call in (foveal.load, foveal.train, foveal.evaluate):
        with pytest.raises(UserError, match=r"^An empty name is no recipe and no run; give"):
            call(" ")
        with pytest.raises(UserError, match=r"^x{200}…: cannot be read \(File name too long\); check the path\.$"):
            call("x" * 5000)
    for wrong in (None, 3, b"x", [], "", "a\0b"):
        with pytest.raises(UserError, match=f"^folder: must be a path, not {re.escape(repr(wrong))}"):
            model.predict_folder(wrong, tmp_path / "a.jsonl")
        with pytest.raises(UserError, match=f"^out: must be a path, not {re.escape(repr(wrong))}"):
            model.predict_folder(tmp_path, wrong)
    for words in (3, b"x", []):
        with pytest.raises(UserError, match=r"^text: must be words, not "):
            model.predict(Image.new("RGB", (4, 4)), text=words)


@pytest.mark.parametrize("wrong", ["last", "epoch-9", None, 3])
def test_a_checkpoint_is_chosen_of_a_run_only(wrong, tmp_path):
    told = f"^checkpoint: {wrong!r} can be chosen of a run only, and this is none; leave it out\\.$"
    for call in (foveal.load, foveal.evaluate):
        with pytest.raises(UserError, match=told):
            call("blindtest-lines", checkpoint=wrong, output=str(tmp_path / "runs"))
    assert not list(tmp_path.iterdir())
