from __future__ import annotations

import json
import os

import pytest
from PIL import Image

from foveal.asking.replies import Replies, Reply, reply_key
from foveal.errors import UserError
from foveal.prompts import Prompt


def picture(gray: int = 0) -> Image.Image:
    return Image.new("RGB", (4, 3), (gray, 2, 3))


def test_the_key_of_a_reply_tells_model_pixels_words_and_settings():
    prompt = Prompt((picture(),), "how many?")
    same = reply_key("m", Prompt((picture(),), "how many?", answer="2"), {"t": 0, "u": 1})
    assert same == reply_key("m", prompt, {"u": 1, "t": 0})
    others = [
        reply_key("n", prompt, {"t": 0, "u": 1}),
        reply_key("m", prompt, {"t": 1, "u": 1}),
        reply_key("m", Prompt((picture(1),), "how many?"), {"t": 0, "u": 1}),
        reply_key("m", Prompt((picture().resize((3, 4)),), "how many?"), {"t": 0, "u": 1}),
        reply_key("m", Prompt((picture(),), "how many"), {"t": 0, "u": 1}),
        reply_key("m", Prompt((picture(),), "how many?", system="s"), {"t": 0, "u": 1}),
    ]
    assert len({same, *others}) == 7


def test_thoughts_are_no_part_of_the_answer_and_a_confidence_is_kept(tmp_path):
    assert Reply("<think>{0}?</think> {1}").answer == " {1}" and Reply("<think>{0}? {1").answer == ""
    assert Reply("so <think> {1}").answer == "so <think> {1}"
    with Replies(tmp_path / "r") as replies:
        replies.add("a", Reply("1", confidence=0.5))
        replies.add("b", Reply("2", "stop"))
    lines = [json.loads(line) for line in (tmp_path / "r").read_text().splitlines()]
    assert lines[0]["confidence"] == 0.5 and "confidence" not in lines[1]
    with Replies(tmp_path / "r") as replies:
        assert replies["a"] == Reply("1", confidence=0.5) and replies["b"].facts() == {"finish": "stop"}


def test_half_a_line_and_damaged_lines_are_dropped(tmp_path):
    path = tmp_path / "r"
    with Replies(path) as replies:
        replies.add("a", Reply("1"))
        replies.add("b", Reply("zwei ü \u2028 x\ny", "stop"))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"key": "c"}\n[]\nx\n{"key": "d", "text": "4"}\n{"key": "e", "te')
    with Replies(path) as replies:
        assert len(replies) == 3 and replies.get("c") is None and replies.get("e") is None
        assert replies.get("b") == Reply("zwei ü \u2028 x\ny", "stop") and replies.get("d") == Reply("4")
        replies.add("e", Reply("5"))
    lines = path.read_text().splitlines()
    assert json.loads(lines[-1])["key"] == "e"
    with Replies(path) as replies:
        assert replies.get("e") == Reply("5")


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": 3}, {"text": None}, {"text": "1", "tokens_in": "12"}, {"text": "1", "tokens_out": 1.5},
        {"text": "1", "tokens_in": True}, {"text": "1", "finish": ["stop"]}, {"text": "1", "model": {}},
        {"text": "1", "confidence": "0.5"}, {"text": "1", "usage": {"total_tokens": "12"}},
    ],
)  # fmt: skip
def test_lines_with_values_of_wrong_types_are_asked_again(tmp_path, wrong):
    path = tmp_path / "r"
    path.write_text(json.dumps({"key": "a", **wrong}) + '\n{"key": "b", "text": "2"}\n' + "[" * 200_000 + "\n")
    with Replies(path) as replies:
        assert len(replies) == 1 and replies.get("a") is None and replies["b"] == Reply("2")
        replies.add("a", Reply("1", "stop", "m", 7, 3, 0.5))
    with Replies(path) as replies:
        assert replies["a"] == Reply("1", "stop", "m", 7, 3, 0.5)


def test_one_process_at_a_time(tmp_path):
    with (
        Replies(tmp_path / "r"),
        pytest.raises(UserError, match="another foveal is at work in this folder; wait for it"),
    ):
        Replies(tmp_path / "r")
    Replies(tmp_path / "r").close()


def test_a_full_disk_leaves_whole_lines(tmp_path, monkeypatch):
    with Replies(tmp_path / "r") as replies:
        replies.add("a", Reply("1"))
        write = os.write
        monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:10]))
        with pytest.raises(UserError, match="cannot be written: the disk is full"):
            replies.add("b", Reply("2"))
        monkeypatch.undo()
        assert replies.get("b") is None
        replies.add("c", Reply("3"))
    with Replies(tmp_path / "r") as replies:
        assert len(replies) == 2 and replies.get("c") == Reply("3")
