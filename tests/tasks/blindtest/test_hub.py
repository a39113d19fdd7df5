from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
import pytest
from huggingface_hub import constants

from foveal import hub
from foveal.errors import UserError
from foveal.examples import Loaded
from foveal.tasks.blindtest.hub import check_name, push
from foveal.tasks.blindtest.lines import Lines, LinesData, LinesMake


class StandIn(ThreadingHTTPServer):
    """The part of the Hub's interface that data sets need, with its files in memory."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.requests: list[str] = []
        self.token = "hf_right"
        self.refusal: tuple[int, str] | None = None
        self.endpoint = f"http://127.0.0.1:{self.server_port}"

    def commit(self, name: str) -> str:
        return hashlib.sha1(repr(sorted(self.repositories[name].items())).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def answer(self, code: int, body: bytes | dict[str, Any] | list[Any], **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, code: int, error: str) -> None:
        self.answer(code, {"error": error}, X_Error_Code=error, X_Error_Message=error)

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.requests.append(f"{self.command} {path}")
        match = re.fullmatch(r"(?:/api)?/datasets/(\w+/\w+)(/.*)?", path)
        if match is None:  # the client looks for other things too
            self.answer(404, b"")
            return
        name, rest = match[1], match[2] or ""
        files = self.server.repositories.get(name)
        if self.server.refusal:
            self.refuse(*self.server.refusal)
        elif files is None:
            self.refuse(401, "RepoNotFound")
        elif rest.startswith("/tree/"):
            self.answer(
                200,
                [
                    {"type": "file", "path": p, "size": len(d), "oid": hashlib.sha1(d).hexdigest()}
                    for p, d in files.items()
                ],
            )
        elif found := re.fullmatch(r"/resolve/\w+/(.*)", rest):
            data = files[found[1]]
            tag = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X_Repo_Commit": self.server.commit(name)}
            self.answer(200, data, **tag)
        elif rest not in ("", "/revision/main"):
            self.refuse(404, "RevisionNotFound")
        else:
            self.answer(200, {"id": name, "_id": "1", "sha": self.server.commit(name)})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        self.server.requests.append(f"POST {path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        name = "/".join(path.split("/")[3:5])
        if self.server.refusal:
            self.refuse(*self.server.refusal)
        elif self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self.refuse(401, "Invalid username or password.")
        elif path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            assert wanted["type"] == "dataset"
            if wanted["organization"] != "ada":
                self.refuse(403, "You don't have the rights to create a dataset under this namespace")
                return
            there = name in self.server.repositories
            if not there:
                self.server.repositories[name] = {".gitattributes": b""}
                self.server.private[name] = wanted.get("private", wanted.get("visibility") == "private")
            url = f"{self.server.endpoint}/datasets/{name}"
            self.answer(409 if there else 200, {"url": url, "name": name})
        elif path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            self.answer(
                200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            )
        elif "/commit/" in path:
            files = self.server.repositories[name]
            for line in body.splitlines():
                operation = json.loads(line)
                value = operation["value"]
                if operation["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif operation["key"] == "deletedFile":
                    files.pop(value["path"])
            commit = self.server.commit(name)
            self.answer(
                200, {"commitUrl": f"{self.server.endpoint}/datasets/{name}/commit/{commit}", "commitOid": commit}
            )
        else:
            raise AssertionError(path)


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str | None], None]]:
    """Points the Hub's client to an address, with a cache of its own; None switches it off."""

    def point(endpoint: str | None) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", endpoint is None)
        if endpoint is not None:
            monkeypatch.setattr(constants, "ENDPOINT", endpoint)
            template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        hub.fetch.cache_clear()
        huggingface_hub.close_session()

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    yield point
    hub.fetch.cache_clear()
    huggingface_hub.close_session()


@pytest.fixture
def stand_in(online: Callable[[str | None], None]) -> Iterator[StandIn]:
    with StandIn() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        online(server.endpoint)
        yield server
        server.shutdown()
        thread.join()


def make(folder: Path, **options: Any) -> Path:
    return Lines.make(LinesMake(str(folder), **{"num_images": 2, "image_size": 32, **options}))


def load(source: str, split: Any = "train") -> Loaded:
    return Lines(LinesData(source=source)).load(split)


@pytest.mark.parametrize("name", ["ada/lines", "a/b", "Ada-L/b_1.2", "ada/_x"])
def test_names(name: str) -> None:
    assert hub.is_name(name) and hub.is_source(name) and hub.is_source(f"{name}@v1")
    check_name("--push_to_hub", name)


@pytest.mark.parametrize(
    "text",
    [
        *("", "lines", "ada/", "/lines", "a/b/c", "./lines", "~/lines", "ada/li nes", "ada/a--b", "ada/a..b", "ada/é"),
        *("ada/x.git", "a/" + "b" * 96, "ada/-", "ada/b-", "data/test.parquet", "ada/b@", "C:\\x"),
    ],
)
def test_what_is_no_name(text: str) -> None:
    assert not hub.is_source(text)
    with pytest.raises(UserError, match=r"^--push_to_hub: .* is no name on the Hub; give OWNER/NAME"):
        check_name("--push_to_hub", text)


def test_pushing_and_loading_again(tmp_path: Path, stand_in: StandIn) -> None:
    folder = make(tmp_path / "set", push_to_hub="ada/lines")
    (folder / "thesis.txt").write_text("")
    (folder / "train" / "notes.txt").write_text("")
    make(folder, split="test", num_images=1, push_to_hub="ada/lines", private=True)
    files = stand_in.repositories["ada/lines"]
    train = {f"train/{i:05d}.png" for i in range(6)} | {"train/metadata.csv"}
    test = {f"test/{i:05d}.png" for i in range(3)} | {"test/metadata.csv"}
    assert set(files) == train | test | {".gitattributes", "README.md", "sample.png"}
    assert files["README.md"] == (folder / "README.md").read_bytes()
    assert files["README.md"].count(b"## Split ") == 2
    assert stand_in.private == {"ada/lines": False}  # one that is there stays as it is
    # What is replaced leaves nothing behind.
    make(folder, num_images=1, seed=1, overwrite=True, push_to_hub="ada/lines")
    assert len([f for f in files if f.startswith("train/")]) == 4 and test <= set(files)

    loaded = load("ada/lines")
    assert [e.truth for e in loaded.examples] == [e.truth for e in load(str(folder)).examples]
    pictures = [e.images[0].open().tobytes() for e in loaded.examples]
    assert pictures == [e.images[0].open().tobytes() for e in load(str(folder)).examples]
    assert loaded.source == f"ada/lines (Hub, commit {stand_in.commit('ada/lines')[:7]})"
    with pytest.raises(UserError, match=r"ada/lines .*: there is no validation split, only train, test; give a data"):
        load("ada/lines", "validation")


def test_private_data_sets(tmp_path: Path, stand_in: StandIn) -> None:
    make(tmp_path / "set", push_to_hub="ada/secret", private=True)
    assert stand_in.private == {"ada/secret": True}
    with pytest.raises(UserError, match=r"^--private: is for data sets on the Hub; give --push_to_hub"):
        make(tmp_path / "other", private=True)
    assert not (tmp_path / "other").exists()


def test_parts_of_a_data_set(tmp_path: Path, stand_in: StandIn) -> None:
    make(tmp_path / "set" / "lines")
    make(tmp_path / "set" / "more")
    push(tmp_path / "set", ["lines/train", "more/train"], "ada/two", private=False)
    files = stand_in.repositories["ada/two"]
    assert {"lines/README.md", "lines/sample.png", "lines/train/00000.png", "more/train/metadata.csv"} <= set(files)


def test_a_wrong_name_costs_nothing(tmp_path: Path, stand_in: StandIn) -> None:
    with pytest.raises(UserError, match="'lines' is no name"):
        make(tmp_path / "set", push_to_hub="lines")
    assert not (tmp_path / "set").exists() and not stand_in.requests


def kept(folder: Path, error: pytest.ExceptionInfo[UserError]) -> str:
    """The message, after a look that the pictures are there."""
    assert len(list((folder / "train").iterdir())) == 7
    text = str(error.value)
    assert text.startswith(f"--push_to_hub: {'eve' if 'eve' in text else 'ada'}/lines: the pictures are in {folder}, ")
    assert "\n" not in text and text.endswith("repeat the command with --overwrite.")
    return text


def test_pushing_without_permission(tmp_path: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "set"
    with pytest.raises(UserError) as error:
        make(folder, push_to_hub="eve/lines")
    assert "your token may not write to eve's data sets; run `hf auth login`" in kept(folder, error)
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    with pytest.raises(UserError) as error:
        make(folder, push_to_hub="ada/lines", overwrite=True)
    assert "the Hub does not accept your token; run `hf auth login`" in kept(folder, error)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError) as error:
        make(folder, push_to_hub="ada/lines", overwrite=True)
    assert "you are not logged in; run `hf auth login`" in kept(folder, error)
    stand_in.refusal = 500, "out of order"
    with pytest.raises(UserError) as error:
        make(folder, push_to_hub="ada/lines", overwrite=True)
    assert "the Hub answers with error 500" in kept(folder, error)
    assert not stand_in.repositories


def closed_port() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """A place that takes connections and never answers, as behind some firewalls."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_pushing_offline(
    tmp_path: Path, online: Callable[[str | None], None], silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foveal.hub.SECONDS", 0.3)
    for endpoint, why in ((None, "HF_HUB_OFFLINE is set"), (closed_port(), "cannot be reached"), (silent, "timed out")):
        online(endpoint)
        start = time.monotonic()
        with pytest.raises(UserError) as error:
            make(tmp_path / "set", push_to_hub="ada/lines", overwrite=True)
        assert why in kept(tmp_path / "set", error)
        assert time.monotonic() - start < 5


def test_fetching_offline(
    tmp_path: Path, online: Callable[[str | None], None], silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foveal.hub.SECONDS", 0.3)
    remedies = {
        None: "unset HF_HUB_OFFLINE, or fetch it before with `hf download ada/lines --repo-type dataset`.",
        closed_port(): "or copy the data set to this machine and give its folder.",
        silent: "or copy the data set to this machine and give its folder.",
    }
    for endpoint, remedy in remedies.items():
        online(endpoint)
        start = time.monotonic()
        with pytest.raises(UserError, match=r"^data.source: ada/lines: there is no such folder, and .*cache") as error:
            load("ada/lines")
        assert str(error.value).endswith(remedy) and "\n" not in str(error.value)
        assert time.monotonic() - start < 5


def test_the_cache_serves_offline(tmp_path: Path, stand_in: StandIn, online: Callable[[str | None], None]) -> None:
    make(tmp_path / "set", push_to_hub="ada/lines")
    first = load("ada/lines")
    requests = len(stand_in.requests)
    assert [e.id for e in load("ada/lines").examples] == [e.id for e in first.examples]
    assert len(stand_in.requests) == requests  # one commit for all splits of a process
    for endpoint in (None, closed_port()):
        online(endpoint)
        again = load("ada/lines")
        assert again.source == first.source
        assert [e.truth for e in again.examples] == [e.truth for e in first.examples]
        assert again.examples[5].images[0].open().size == (32, 32)


def test_what_the_hub_does_not_have(tmp_path: Path, stand_in: StandIn) -> None:
    with pytest.raises(UserError, match=r"ada/none: there is no such folder, and the Hub has no data set of that name"):
        load("ada/none")
    make(tmp_path / "set", push_to_hub="ada/lines")
    with pytest.raises(UserError, match=r"has no revision 'v9'; give a branch, a tag or a commit"):
        load("ada/lines@v9")
    assert len(load("ada/lines@main").examples) == 6
    hub.fetch.cache_clear()
    stand_in.repositories["ada/new"] = {"README.md": b"", "model.safetensors": b"0" * 100}
    with pytest.raises(UserError, match=r"ada/new: on the Hub it has no pictures and no tables"):
        load("ada/new")
    stand_in.repositories["ada/odd"] = {"odd/1.csv": b"a,b\n"}
    with pytest.raises(UserError, match=r"ada/odd .*: holds neither a folder or .parquet file named train"):
        load("ada/odd")
    assert not any("model.safetensors" in r for r in stand_in.requests)
    stand_in.repositories["ada/gated"] = {}
    stand_in.refusal = 403, "GatedRepo"
    with pytest.raises(UserError, match=r"needs permission; accept its terms at http.*/datasets/ada/gated"):
        load("ada/gated")
    stand_in.refusal = 502, "Bad gateway"
    with pytest.raises(UserError, match=r"the Hub answers with error 502; try again later"):
        load("ada/other")


def test_a_full_disk_while_fetching(tmp_path: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "set", push_to_hub="ada/lines")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("foveal.hub.snapshot_download", fail)
    with pytest.raises(UserError, match=r"cache: cannot be written: the disk is full"):
        load("ada/lines")


@pytest.mark.parametrize("option", [("--push-to-hub", "ada/lines"), ("--push_to_hub=ada/lines",)])
def test_the_command(tmp_path: Path, stand_in: StandIn, command: Callable[..., Any], option: tuple[str, ...]) -> None:
    words = ("data", "make", "blindtest/lines", "--folder", tmp_path / "set", "--num-images", 1, *option, "--private")
    said = command(*words)
    assert said.code == 0 and "On the Hub: ada/lines" in said.out
    assert stand_in.private == {"ada/lines": True}
    assert said.code == 0
    sentence = command("data", "make", "blindtest/lines", "--folder", tmp_path / "x", "--push-to-hub", "ada").sentence()
    assert sentence.startswith("--push_to_hub: 'ada' is no name on the Hub")
    sentence = command("data", "make", "blindtest/lines", "--folder", tmp_path / "x", "--push-to-hob", "ada").sentence()
    assert sentence == "There is no key --push-to-hob; did you mean --push_to_hub?"
