"""Addresses of servers, messages to them and completions from them: the functions alone."""

from __future__ import annotations

import pytest
from PIL import Image

from foveal.asking.served import base_url, chat_messages, read_completion
from foveal.errors import UserError
from foveal.prompts import Prompt
from stand_in import completion, picture_of

SECRET = "sk-very-secret-0123456789"


def picture(gray: int = 0) -> Image.Image:
    return Image.new("RGB", (4, 3), (gray, 2, 3))


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("http://host:8000", "http://host:8000/v1"),
        ("http://host:8000/", "http://host:8000/v1"),
        ("https://host/v1/", "https://host/v1"),
        ("https://host/api/v2", "https://host/api/v2"),
        ("https://host/v1/chat/completions", "https://host/v1"),
        ("https://host/deployments/x?api-version=2026-01-01", "https://host/deployments/x?api-version=2026-01-01"),
    ],
)
def test_addresses(given, base):
    assert base_url(given) == base


@pytest.mark.parametrize(
    "given", ["http://", "ftp://host", "host:8000", "http://host:0", "http://host:99999", "http://[", ""]
)
def test_addresses_of_nothing(given):
    with pytest.raises(UserError, match="is no address of a server; give one like"):
        base_url(given)


@pytest.mark.parametrize("given", ["http://me:pw1234@host", "http://host/v1?key=pw1234", "http://host/v1#pw1234"])
def test_addresses_with_secrets_are_refused_and_not_repeated(given):
    with pytest.raises(UserError) as refusal:
        base_url(given)
    assert "model.server.api_key_env" in str(refusal.value) and "pw1234" not in str(refusal.value)


def test_messages_carry_pictures_without_loss_before_the_text():
    image = Image.effect_noise((20, 30), 90).convert("RGB")
    system, user = chat_messages(Prompt((image, picture()), "which?", system="be brief"))
    assert system == {"role": "system", "content": "be brief"}
    assert [part["type"] for part in user["content"]] == ["image_url", "image_url", "text"]
    sent = picture_of({"messages": [system, user]})
    assert sent.mode == "RGB" and sent.tobytes() == image.tobytes()


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (completion("{2}"), "{2}"),
        (completion(" {2} \n"), "{2}"),
        (completion(None), ""),
        (completion([{"type": "text", "text": "a"}, {"type": "other"}, {"type": "text", "text": "b"}]), "ab"),
        ({"choices": [{"message": {"content": "x"}}]}, "x"),
    ],
)
def test_reading_completions(found, text):
    reply = read_completion(found)
    assert reply is not None and reply.text == text


@pytest.mark.parametrize(
    "found", [None, [], "x", 3, {}, {"choices": []}, {"choices": [{}]}, {"choices": [{"message": {"content": 3}}]}]
)
def test_what_is_no_completion(found):
    assert read_completion(found) is None
