from __future__ import annotations

import asyncio
import email.utils
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from foveal.asking import chat_client, served
from foveal.asking.asker import Asker, reply_to
from foveal.asking.opening import open_asker, open_model
from foveal.asking.replies import Replies, Reply
from foveal.asking.served import ServedModel, read_completion
from foveal.config.sections import Evaluation, Model, Recipe, Server
from foveal.errors import UserError
from foveal.prompts import Prompt
from foveal.tasks.blindtest.lines import Lines, LinesData
from stand_in import completion, picture_of, question_of, serving

QUICK = Server(name="model-a", concurrency=4, timeout=5, tries=4)
SECRET = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(served, "_LONGEST_PAUSE", 0.05)


def picture(gray: int = 0) -> Image.Image:
    return Image.new("RGB", (4, 3), (gray, 2, 3))


def prompts(number: int, text: str = "how many?") -> list[Prompt]:
    return [Prompt((picture(i),), text) for i in range(number)]


def model(url: str, server: Server = QUICK, *, max_tokens: int = 2048, seed: int = 0) -> ServedModel:
    options = Evaluation(max_new_tokens=max_tokens)
    return ServedModel(Recipe("x", None, Model(id=url, server=server), evaluation=options, seed=seed))


def ask(url: str, folder: Path, questions: list[Prompt], server: Server = QUICK, **more: Any) -> list[Reply]:
    with Replies(folder / "replies.jsonl") as replies:
        return reply_to(model(url, server, **more), questions, [""] * len(questions), replies)


# ---------------------------------------------------------------- asking


def test_replies_come_in_the_order_of_the_questions_whatever_their_own(tmp_path):
    def answer(body: dict[str, Any]) -> Any:
        gray = picture_of(body).getpixel((0, 0))[0]
        time.sleep(0.02 * (7 - gray % 8))
        return completion(f"{question_of(body)} {gray}")

    kept: dict[int, Reply] = {}
    with serving(answer=answer) as server:
        found = model(server.url, max_tokens=9).reply(prompts(20), [""] * 20, kept.__setitem__)
    assert [r.text for r in found] == [f"how many? {i}" for i in range(20)] and found == [kept[i] for i in range(20)]
    assert found[0] == Reply("how many? 0", "stop", "served-model-2026", 7, 3)
    body = server.bodies[0]
    assert body["model"] == "model-a" and body["max_tokens"] == 9 and body["temperature"] == 0 and "seed" not in body
    assert "Authorization" not in server.headers[0]


def test_no_more_requests_at_a_time_than_allowed(tmp_path):
    for allowed in (1, 3):
        with serving(pause=0.03) as server:
            ask(server.url, tmp_path / str(allowed), prompts(12), replace(QUICK, concurrency=allowed))
        assert server.most == allowed and server.count == 12


def test_a_server_that_fails_at_times_is_asked_again(tmp_path):
    failures = [
        (429, {"Retry-After": "0"}, '{"error": {"message": "slow down"}}'), (500, {}, "oops"), "broken", "cut",
        "hangup", (503, {"Content-Type": "text/html"}, "<h1>busy</h1>"), (408, {}, ""), (409, {}, "{}"),
    ]  # fmt: skip
    with serving(failures=failures, answer=lambda b: completion(str(picture_of(b).getpixel((0, 0))[0]))) as server:
        found = ask(server.url, tmp_path, prompts(6), replace(QUICK, tries=9))
    assert [r.text for r in found] == [str(i) for i in range(6)]
    assert server.count == 6 + 8


def test_a_reply_that_does_not_come_is_given_up_and_asked_for_again(tmp_path):
    with serving(failures=["slow"]) as server:
        started = time.monotonic()
        found = ask(server.url, tmp_path, prompts(1), replace(QUICK, timeout=2))
    assert found[0].text == "{1}" and server.count >= 2 and time.monotonic() - started < 20


@pytest.mark.parametrize("told", ["0.5", "date"])
def test_pauses_that_the_server_asks_for_are_kept_by_all(tmp_path, told):
    def date() -> str:
        return email.utils.formatdate(time.time() + 3, usegmt=True)

    after = date if told == "date" else told
    with serving(failures=[(429, {"Retry-After": after}, "{}")], pause=0.2) as server:
        ask(server.url, tmp_path, prompts(8))
    assert server.count == 9
    # Four were under way. A date has whole seconds.
    assert server.times[4] - server.times[0] >= (1.5 if told == "date" else 0.5)


def test_pauses_grow(tmp_path, monkeypatch):
    slept, sleep = [], asyncio.sleep

    async def noted(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", noted)
    monkeypatch.setattr(served, "_FIRST_PAUSE", 10)
    monkeypatch.setattr(served, "_LONGEST_PAUSE", 25)
    with serving(forever=(500, {}, "{}")) as server, pytest.raises(UserError, match="gave up after 5 tries"):
        ask(server.url, tmp_path, prompts(1), replace(QUICK, tries=5))
    limits = [(5, 10), (10, 20), (12.5, 25), (12.5, 25)]
    assert all(low <= s <= high for s, (low, high) in zip(slept, limits, strict=True)) and server.count == 5


@pytest.mark.parametrize(
    ("failure", "what"),
    [
        ((500, {}, '{"error": {"message": "no memory"}}'), "gave up after 4 tries; the last: the server answers 500 (no memory)."),
        ("hangup", "gave up after 4 tries; the last: the connection failed ("),
        ("broken", "gave up after 4 tries; the last: the reply is broken ("),
        ((429, {"Retry-After": "99999"}, '{"message": "daily limit"}'), "the server answers 429 (daily limit), and asks to wait 99,999 s"),
        ((401, {}, '{"error": {"message": "who?"}}'), "the server refuses the request without a key (401: who?); name the environment variable"),
        ((403, {}, "{}"), "the server refuses the request without a key (403: {})"),
        ((404, {}, '{"error": {"message": "no model-b"}}'), "does not know the address or the model 'model-a' (404: no model-b)"),
        ((400, {}, '{"detail": [{"msg": "too long"}]}'), "the server refuses the request (400: too long)."),
        ((422, {}, '{"detail": "unexpected"}'), "the server refuses the request (422: unexpected)."),
        ((307, {"Location": "https://other/v1"}, ""), "the server points to https://other/v1; give that address."),
        ((200, {"Content-Type": "text/html"}, "<html>Welcome</html>"), "answers with something else than JSON (<html>Welcome</html>)"),
        ((200, {}, '{"hello": "world"}'), "answers with something else than a chat completion ({\"hello\": \"world\"})"),
        ((200, {}, '{"error": {"code": 402, "message": "no credit"}}'), "the server refuses the request (402: no credit)."),
    ],
)  # fmt: skip
def test_refusals_are_sentences(tmp_path, failure, what):
    with serving(forever=failure) as server, pytest.raises(UserError) as refusal:
        ask(server.url, tmp_path, prompts(6))
    assert what in str(refusal.value) and str(refusal.value).startswith(f"{server.url}/v1: ")
    # The first refusal ends it; each worker had one request under way.
    assert server.count <= 4 * QUICK.concurrency


def test_failures_inside_a_reply_that_went_well_are_tried_again(tmp_path):
    with serving(failures=[(200, {}, '{"error": {"code": 502, "message": "upstream"}}')]) as server:
        assert ask(server.url, tmp_path, prompts(1))[0].text == "{1}" and server.count == 2


def test_the_newer_name_of_the_length_limit(tmp_path):
    def answer(body: dict[str, Any]) -> Any:
        return completion("new" if "max_completion_tokens" in body else "old")

    refusal = (400, {}, '{"error": {"message": "max_tokens is not supported, use max_completion_tokens instead"}}')
    with serving(failures=[refusal], answer=answer) as server:
        found = ask(server.url, tmp_path, prompts(3), replace(QUICK, concurrency=1))
    assert [r.text for r in found] == ["new"] * 3 and server.count == 4
    assert "max_tokens" not in server.bodies[-1]


def test_a_seed_is_sent_where_chance_decides(tmp_path):
    with serving() as server:
        ask(server.url, tmp_path, prompts(1), replace(QUICK, temperature=0.7), seed=11)
    assert server.bodies[0]["temperature"] == 0.7 and server.bodies[0]["seed"] == 11


# ---------------------------------------------------------------- which model, which key


def test_the_only_model_of_a_server_is_found(tmp_path):
    with serving() as server:
        assert model(server.url, replace(QUICK, name=None)).connect() == "model-a"
        assert model(server.url, replace(QUICK, name=None)).reply(prompts(1), [""])[0].text == "{1}"


@pytest.mark.parametrize(
    ("models", "what"),
    [
        (["a", "b"], "the server has a, b; name the one that is meant with model.server.name."),
        ([str(i) for i in range(12)], "the server has 0, 1, 2, 3, 4, 5, 6, 7 and 4 more; name"),
        ([], "the server lists no models; name"),
        (None, "the server lists no models; name"),
    ],
)
def test_several_or_no_models(models, what):
    with serving(models=models) as server:
        with pytest.raises(UserError, match=what):
            model(server.url, replace(QUICK, name=None)).connect()
        assert model(server.url, replace(QUICK, name="x")).connect() == "x"


def test_a_wrong_model_is_told_with_those_that_are_there(tmp_path):
    with serving(forever=(404, {}, '{"error": "no such model"}')) as server:
        asked = model(server.url, replace(QUICK, name="modle-a"))
        assert asked.connect() == "modle-a"
        with pytest.raises(UserError, match=r"the model 'modle-a' \(404: no such model\); it has model-a; correct"):
            asked.reply(prompts(1), [""])


def test_a_server_that_is_not_there_is_told_at_once(monkeypatch):
    monkeypatch.setattr(served, "_FIRST_PAUSE", 60)
    started = time.monotonic()
    for url in ("http://127.0.0.1:1", "http://no-such-host.invalid"):
        with pytest.raises(
            UserError, match=r"the server cannot be reached \(.+\); check the address, and that it runs"
        ):
            model(url).connect()
    assert time.monotonic() - started < 30


def test_the_key_is_sent_and_kept_out_of_everything_else(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MY_KEY", f"{SECRET}\n")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-server")
    monkeypatch.setenv("OPENAI_ORG_ID", "of-another-server")
    mine = replace(QUICK, api_key_env="MY_KEY")

    def answer(body: dict[str, Any]) -> Any:
        return completion(f"your key is {SECRET}")

    with serving(key=SECRET, answer=answer) as server:
        asked = model(server.url, replace(mine, name=None))
        assert asked.connect() == "model-a"
        found = ask(server.url, tmp_path, prompts(2), mine)
        assert found[0].text == "your key is ***"
        assert server.headers[0]["Authorization"] == f"Bearer {SECRET}"
        assert "of-another-server" not in str(server.headers)
        monkeypatch.setenv("MY_KEY", "sk-another-secret")
        with pytest.raises(UserError) as refusal:
            ask(server.url, tmp_path / "other", prompts(1), mine)
        assert "the server refuses the key (401: Incorrect API key provided: Bearer ***)" in str(refusal.value)
    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert b"secret" not in written and SECRET not in capsys.readouterr().err
    assert SECRET not in repr(asked) and b"your key is ***" in written


def test_a_filler_in_place_of_a_key_leaves_replies_alone(tmp_path, monkeypatch):
    mine = replace(QUICK, api_key_env="MY_KEY")
    monkeypatch.setenv("MY_KEY", "EMPTY")
    with serving(answer=lambda _: completion("{1} EMPTY")) as server:
        assert ask(server.url, tmp_path, prompts(1), mine)[0].text == "{1} EMPTY"
        monkeypatch.setenv("MY_KEY", "ab\ncd")
        with pytest.raises(UserError, match="holds characters that no key has"):
            model(server.url, mine)


# ---------------------------------------------------------------- what is kept


def test_nothing_is_asked_twice(tmp_path):
    with serving(answer=lambda b: completion(str(picture_of(b).getpixel((0, 0))[0]))) as server:
        first = ask(server.url, tmp_path, prompts(5))
        again = ask(server.url, tmp_path, prompts(8))
        assert [r.text for r in again] == [str(i) for i in range(8)] and again[:5] == first
        assert server.count == 8
        ask(server.url, tmp_path, prompts(1, "another"))
        ask(server.url, tmp_path, prompts(1), replace(QUICK, name="model-b"))
        ask(server.url, tmp_path, prompts(1), max_tokens=5)
        assert server.count == 11
    # All is there: no server is needed.
    assert [r.text for r in ask(server.url, tmp_path, prompts(8))] == [str(i) for i in range(8)]


def test_equal_questions_under_way_are_asked_once(tmp_path):
    with serving(pause=0.1) as server:
        found = ask(server.url, tmp_path, [*prompts(1), *prompts(1), *prompts(2), *prompts(1)])
    assert len(found) == 5 and server.count == 2


def test_what_came_before_a_failure_is_kept(tmp_path):
    fine = 5
    failures: list[Any] = [None] * fine
    with serving(failures=failures, forever=(500, {}, "{}")) as server:
        with pytest.raises(UserError, match="gave up after"):
            ask(server.url, tmp_path, prompts(12), replace(QUICK, concurrency=2))
        assert len((tmp_path / "replies.jsonl").read_text().splitlines()) == fine
        before, server.forever = server.count, None
        ask(server.url, tmp_path, prompts(12))
        assert server.count - before == 12 - fine


# ---------------------------------------------------------------- what no server should send


def usage(**counts: Any) -> dict[str, Any]:
    return completion("{1}", usage=counts)


@pytest.mark.parametrize(
    "counts",
    [
        {"prompt_tokens": "7", "completion_tokens": [3]}, {"prompt_tokens": True}, {"completion_tokens": 1.5},
        {"total_tokens": "12"}, {"prompt_tokens": -1, "completion_tokens": 10**400},
    ],
)  # fmt: skip
def test_counts_that_are_no_numbers_are_unknown(counts):
    assert read_completion(usage(**counts)) == Reply("{1}", "stop", "served-model-2026")
    assert read_completion(completion("{1}", usage=[1], model=3)) == Reply("{1}", "stop")


def test_halves_of_characters_are_no_obstacle(tmp_path):
    with serving(answer=lambda _: completion("{1} \ud83d")) as server:
        assert ask(server.url, tmp_path, prompts(1))[0].text == "{1} ?"


@pytest.mark.parametrize("charset", ["zlib", "base64", "idna", "utf-16", "undefined", "rot13", "latin-1", "nothing"])
def test_replies_are_utf8_whatever_their_header_says(tmp_path, charset):
    headers = {"Content-Type": f"application/json; charset={charset}"}
    text = json.dumps(completion("{1} ü"), ensure_ascii=False)
    for sent in (text, "\ufeff" + text):
        with serving(forever=(200, headers, sent)) as server:
            assert ask(server.url, tmp_path, prompts(1))[0].text == "{1} ü"


@pytest.mark.parametrize("code", [True, 0, -3, 200, 399, 600, 10**30, "500", [1]])
def test_codes_of_errors_that_are_none_are_a_refusal(tmp_path, code):
    with serving(answer=lambda _: {"error": {"code": code, "message": "no"}}) as server:
        with pytest.raises(UserError, match=r"the server refuses the request \(400: no\)\.$"):
            ask(server.url, tmp_path, prompts(1))
        assert server.count == 1


@pytest.mark.parametrize(
    ("models", "what"),
    [
        ([3, None, ["x"], {}, ""], "the server lists no models; name"),
        (["\ud83d", "b"], r"the server has \?, b; name"),
        (["a" * 100_000, "b"], "the server has a{300}…; name"),
    ],
)
def test_lists_of_models_of_anything(models, what):
    with serving(models=models) as server, pytest.raises(UserError, match=what):
        model(server.url, replace(QUICK, name=None)).connect()


def test_deep_and_large_and_compressed_replies_are_refused_in_a_sentence(tmp_path, monkeypatch):
    deep = "[" * 200_000
    with (
        serving(forever=(200, {}, deep)) as server,
        pytest.raises(UserError, match=r"gave up after 4 tries; the last: the reply is broken \(\[\[\["),
    ):
        ask(server.url, tmp_path, prompts(1))
    monkeypatch.setattr(chat_client, "LARGEST_REPLY", 2**20)
    for status in (200, 400, 500):
        with (
            serving(forever=(status, {}, " " * (2**20 + 1))) as server,
            pytest.raises(
                UserError, match=r"the reply will not be read \(it has more than 1 MiB\); check the address\."
            ),
        ):
            ask(server.url, tmp_path, prompts(1))
        assert server.count == 1
    with (
        serving(forever=(200, {"Content-Encoding": "gzip"}, "x")) as server,
        pytest.raises(
            UserError, match=r"the reply will not be read \(it is compressed, though plain text was asked for\)"
        ),
    ):
        ask(server.url, tmp_path, prompts(1))


def test_a_reply_that_trickles_is_late(tmp_path):
    with (
        serving(forever="trickle") as server,
        pytest.raises(UserError, match=r"gave up after 1 tries; the last: no whole reply within 0\.5 s"),
    ):
        ask(server.url, tmp_path, prompts(1), replace(QUICK, timeout=0.5, tries=1))


# ---------------------------------------------------------------- recipes


def recipe(url: str, **evaluation: Any) -> Recipe:
    data = LinesData(test=6, image_size=64)
    return Recipe(
        "blindtest/lines", data, Model(id=url, server=replace(QUICK, name=None)), evaluation=Evaluation(**evaluation)
    )


@pytest.mark.parametrize("method", ["auto", "generate"])
def test_a_served_model_is_asked_by_the_same_asker(method):
    with serving(answer=lambda _: completion("<think>{0}, or {1}?</think> {2}")) as server:
        asker, name = open_asker(recipe(server.url, method=method, max_new_tokens=9), None)
        rows = list(asker.task.load("test").examples)
        found = list(asker.ask(rows))
    assert name == "model-a" and server.count == 6 and server.bodies[0]["max_tokens"] == 9
    assert [(p.id, p.value, p.probabilities) for p in found] == [(r.id, 2, None) for r in rows]
    assert found[0].text == "<think>{0}, or {1}?</think> {2}"
    assert found[0].extra == {"finish": "stop", "model": "served-model-2026", "tokens_in": 7, "tokens_out": 3}
    assert asker.task.measure(rows, found)["accuracy"] == pytest.approx(sum(r.truth == 2 for r in rows) / 6)


def test_replies_are_reused_from_a_cache_by_the_asker(tmp_path):
    with serving() as server:
        asker, _ = open_asker(recipe(server.url), None)
        rows = list(asker.task.load("test").examples)
        with Replies(tmp_path / "r") as replies:
            cached = Asker(asker.task, asker.model, asker.options, replies)
            first = list(cached.ask(rows))
            assert list(cached.ask(rows)) == first and server.count == 6


@pytest.mark.parametrize("method", ["score", "choose"])
def test_a_server_gives_no_probabilities(method):
    with (
        serving() as server,
        pytest.raises(UserError, match=f"evaluation.method: {method} needs a model that runs here"),
    ):
        open_asker(recipe(server.url, method=method), None)


def test_a_served_model_is_not_trained():
    task = Lines(LinesData())
    with pytest.raises(UserError, match=r"model\.id: is the address of a server, whose model cannot be trained"):
        open_model(task, recipe("http://127.0.0.1:1"), training=True)


def test_the_client_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "foveal.asking.chat_client", None)
    monkeypatch.delattr("foveal.asking.chat_client")
    with pytest.raises(UserError, match=r"needs the package openai; install it with: pip install 'foveal\[openai\]'"):
        model("http://127.0.0.1:1")


def test_a_loop_that_runs_already_is_no_obstacle():
    async def inside(url: str) -> list[Reply]:
        return model(url).reply(prompts(1), [""])

    with serving() as server:
        assert asyncio.run(inside(server.url))[0].text == "{1}"


def test_a_models_marks_in_a_question_are_not_sent(tmp_path):
    with serving(answer=lambda _: completion("3")) as server:
        with pytest.raises(UserError, match=r"^: the question holds <\|image_pad\|>, which the model reads as a mark"):
            ask(server.url, tmp_path, prompts(1, "how many <|image_pad|>?"))
        assert server.count == 0
