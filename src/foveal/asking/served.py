"""Served models: any OpenAI-compatible server of chat completions, which gets pictures as ``data:`` URLs.

Requests run side by side and are repeated with growing pauses where a server is busy or fails.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email.utils
import io
import json
import math
import os
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from PIL import Image

from foveal.asking.models import AnsweringModel, Keep
from foveal.asking.replies import Reply
from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.prompts import Prompt
from foveal.vlm.markers import USUAL, check_plain

_BUSY = (408, 409, 425, 429)
#: Longest pause in seconds that a server may ask for.
_LONGEST_REQUESTED_PAUSE = 900
#: Seconds before the second try; they double with each further one up to the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0

T = TypeVar("T")


def base_url(url: str) -> str:
    """The address below which ``/chat/completions`` lies: ``http://host:8000`` gives ``http://host:8000/v1``.

    Raises:
        UserError: It is no web address, or contains a secret, which would end up in files and logs.
    """
    try:
        parts = urlsplit(url.strip())
        wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0
    except ValueError:
        wrong = True
    if wrong:
        shown = "This" if {"@", "?", "#"} & set(url) else repr(url)  # these may precede a secret
        raise UserError(f"{shown} is no address of a server; give one like http://localhost:8000/v1.")
    queries = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    if parts.username or parts.password or parts.fragment or queries - {"api-version"}:
        raise UserError(
            "A server's address may not hold a user, a key or settings; give the name of the environment variable that "
            "holds the key with model.server.api_key_env."
        )
    path = parts.path.rstrip("/").removesuffix("/chat/completions") or "/v1"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def data_url(image: Image.Image) -> str:
    """A picture as a PNG in a ``data:`` URL."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def chat_messages(prompt: Prompt) -> list[dict[str, Any]]:
    """The messages of a chat-completions request."""
    content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": data_url(i)}} for i in prompt.opened()]
    content.append({"type": "text", "text": prompt.user})
    system = [{"role": "system", "content": prompt.system}] if prompt.system else []
    return [*system, {"role": "user", "content": content}]


def read_completion(value: Any) -> Reply | None:
    """The reply in a chat completion, or None where the JSON is no chat completion."""
    try:
        choice = value["choices"][0]
        content = choice["message"].get("content")
        if content is not None and not isinstance(content, str | list):
            return None
        if isinstance(content, list):  # some servers answer in parts
            content = "".join(part.get("text") or "" for part in content if part.get("type") == "text")
        finish, model, usage = choice.get("finish_reason"), value.get("model"), value.get("usage")
    except (KeyError, IndexError, TypeError, AttributeError):
        return None
    counts = usage if isinstance(usage, dict) else {}
    # Without content it is a refusal, or a reply that was cut while the model was thinking.
    return Reply(
        (_text(content) or "").strip(), _text(finish), _text(model),
        _count(counts.get("prompt_tokens")), _count(counts.get("completion_tokens")),
    )  # fmt: skip


def _text(value: object) -> str | None:
    # JSON can hold halves of characters, which no file takes.
    return value.encode(errors="replace").decode() if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


class _RetryError(Exception):
    """A temporary failure; ``after`` is the pause in seconds that the server asks for."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class _MissingError(Exception):
    """The server has no such address or model."""


class ServedModel(AnsweringModel):
    """A model on a server.

    Args:
        recipe: ``model.id`` is the server's address, ``model.server`` its settings.

    Attributes:
        url: The address below which ``/chat/completions`` lies.
        name: The model's name on the server; where it is not given, empty until ``connect``.

    Raises:
        UserError: The address or the key is invalid, or the package ``openai`` is missing.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.url, self.server = base_url(recipe.model.id), recipe.model.server
        self.name = self.server.name or ""
        # A batch ends with its slowest reply.
        self.least_batch = 4 * self.server.concurrency
        self._key = _read_key(self.server.api_key_env)
        self.settings = {"max_tokens": recipe.evaluation.max_new_tokens, "temperature": self.server.temperature}
        if self.server.temperature > 0:
            self.settings["seed"] = recipe.seed
        self._limit = "max_tokens"
        self._models: list[str] = []
        self._quiet_until = 0.0
        try:
            from foveal.asking import chat_client
        except ImportError:
            raise UserError(
                "model.id: a served model needs the package openai; install it with: pip install 'foveal[openai]'"
            ) from None
        self._http = chat_client

    def connect(self) -> str:
        """Checks that the server can be reached, and returns the model's name there.

        Raises:
            UserError: It cannot be reached, refuses the key, or lists several models while no name is given.
        """
        _run(self._connect())
        return self.name

    def reply(self, prompts: Sequence[Prompt], names: Sequence[str], keep: Keep | None = None) -> list[Reply]:
        """See ``AnsweringModel.reply``."""
        check_plain(USUAL, [replace(prompt, answer=None) for prompt in prompts], names)
        return _run(self._reply(prompts, keep or (lambda place, reply: None)))

    async def _reply(self, prompts: Sequence[Prompt], keep: Keep) -> list[Reply]:
        if not self.name:
            await self._connect()
        replies: dict[int, Reply] = {}
        indices = iter(range(len(prompts)))

        async def work(client: Any) -> None:
            for i in indices:
                # Encoding pictures in a thread does not block the event loop.
                messages = await asyncio.to_thread(chat_messages, prompts[i])
                replies[i] = await self._complete(client, messages)
                keep(i, replies[i])

        async with self._client() as client:
            workers = [asyncio.create_task(work(client)) for _ in range(min(self.server.concurrency, len(prompts)))]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        return [replies[i] for i in range(len(prompts))]

    def _client(self) -> Any:
        parts = urlsplit(self.url)
        url = urlunsplit(parts._replace(query=""))
        return self._http.make_client(url, dict(parse_qsl(parts.query)), self._key, self.server)

    async def _connect(self) -> None:
        async with self._client() as client:
            try:
                response = await self._patiently(lambda: self._send(client, None))
            except _MissingError:
                response = None
        models = response.get("data") if isinstance(response, dict) else None
        models = models if isinstance(models, list) else []
        names = [_text(model.get("id")) for model in models if isinstance(model, dict)]
        self._models = [name for name in names if name]
        if not self.name and len(self._models) == 1:
            self.name = self._models[0]
        if not self.name:
            has = f"has {self._names()}" if self._models else "lists no models"
            raise UserError(f"{self.url}: the server {has}; name the one that is meant with model.server.name.")

    def _names(self) -> str:
        more = f" and {len(self._models) - 8} more" if len(self._models) > 8 else ""
        return self._short(", ".join(self._models[:8])) + more

    async def _complete(self, client: Any, messages: list[dict[str, Any]]) -> Reply:
        try:
            value = await self._patiently(lambda: self._ask(client, messages))
        except _MissingError as error:
            has = f"; it has {self._names()}" if self._models and self.name not in self._models else ""
            raise UserError(
                f"{self.url}: the server does not know the address or the model {self.name!r} ({error}){has}; correct "
                "the address or model.server.name."
            ) from None
        reply = read_completion(value)
        if reply is None:
            raise UserError(
                f"{self.url}: answers with something else than a chat completion ({self._short(json.dumps(value))}); "
                "check that the address is of an OpenAI-compatible server."
            )
        return reply

    async def _ask(self, client: Any, messages: list[dict[str, Any]]) -> Any:
        limit = self._limit
        settings = {limit if name == "max_tokens" else name: value for name, value in self.settings.items()}
        try:
            return await self._send(client, {"model": self.name, "messages": messages, **settings})
        except UserError as error:
            # Newer servers have another name for the limit.
            if limit == "max_tokens" and "max_completion_tokens" in str(error):
                self._limit = "max_completion_tokens"
                return await self._ask(client, messages)
            raise

    async def _patiently(self, send: Callable[[], Awaitable[Any]]) -> Any:
        """The result of ``send``, which is tried again after temporary failures."""
        tries = 0
        while True:
            pause = self._quiet_until - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause + random.uniform(0, min(1.0, pause)))
                continue
            try:
                return await send()
            except _RetryError as error:
                tries += 1
                if (error.after or 0) > _LONGEST_REQUESTED_PAUSE:
                    raise UserError(
                        f"{self.url}: {error}, and asks to wait {error.after:,.0f} s; go on then."
                    ) from None
                if tries >= self.server.tries:
                    raise UserError(f"{self.url}: gave up after {tries} tries; the last: {error}.") from None
                if error.after is not None:  # further requests would be refused as well, so all of them wait
                    self._quiet_until = max(self._quiet_until, time.monotonic() + error.after)
                longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(tries - 1, 60))
                await asyncio.sleep(longest * random.uniform(0.5, 1.0))

    async def _send(self, client: Any, body: dict[str, Any] | None) -> Any:
        """The JSON of the server's response to a request, or its list of models where the body is None.

        Raises:
            _RetryError: A temporary failure.
            _MissingError: The server has no such address or model.
            UserError: Any other failure.
        """
        try:
            response = await self._http.send(client, body, self.server.timeout)
        except self._http.SendError as error:
            reason = self._short(str(error))
            if error.kind == "late":
                raise _RetryError(f"no whole reply within {self.server.timeout:g} s") from None
            if error.kind == "broken":
                raise _RetryError(f"the connection failed ({reason})") from None
            if error.kind == "away" and body is not None:
                raise _RetryError(f"the server cannot be reached ({reason})") from None
            remedy = "check the address, and that it runs" if error.kind == "away" else "check the address"
            what = {"away": "the server cannot be reached", "large": "the reply will not be read"}
            raise UserError(f"{self.url}: {what.get(error.kind, 'cannot be asked')} ({reason}); {remedy}.") from None
        # JSON is UTF-8; a header can name codecs that are none of text.
        text = response.content.decode("utf-8-sig", errors="replace")
        return self._check(response.status_code, response.headers, self._masked(text))

    def _check(self, status: int, headers: Mapping[str, str], text: str) -> Any:
        """The JSON of a successful response; raises as ``_send`` does."""
        value: Any = None
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(text)
        reason = self._short(_message(value) or text or "no reason given")
        # Some servers report the failure of another one with status 200.
        inner = value.get("error") if isinstance(value, dict) and status == 200 else None
        if inner:
            code = inner.get("code") if isinstance(inner, dict) else None
            status = code if isinstance(code, int) and 400 <= code < 600 else 400
        if status in _BUSY or status >= 500:
            raise _RetryError(f"the server answers {status} ({reason})", _retry_after(headers))
        if status in (401, 403):
            raise UserError(
                f"{self.url}: the server refuses the {'key' if self._key else 'request without a key'} ({status}: {reason}); "
                "name the environment variable that holds the right key with model.server.api_key_env."
            )
        if status in (404, 405):
            raise _MissingError(f"{status}: {reason}")
        if 300 <= status < 400:
            to = headers.get("location", "another address")
            raise UserError(f"{self.url}: the server points to {self._short(to)}; give that address.")
        if status >= 400:
            raise UserError(f"{self.url}: the server refuses the request ({status}: {reason}).")
        if value is None:
            if "json" in headers.get("content-type", "json"):
                raise _RetryError(f"the reply is broken ({reason})")
            raise UserError(
                f"{self.url}: answers with something else than JSON ({reason}); check that the address is of an "
                "OpenAI-compatible server."
            )
        return value

    def _masked(self, text: str) -> str:
        """A server's text without the key. A shorter key is no secret but a filler like EMPTY."""
        return text.replace(self._key, "***") if len(self._key) >= 8 else text

    def _short(self, text: str) -> str:
        text = " ".join(self._masked(text[:10_000]).split()).rstrip(".")
        return text if len(text) <= 300 else f"{text[:300]}…"


def _read_key(variable: str | None) -> str:
    """The key in an environment variable; empty where no variable is named.

    Raises:
        UserError: There is no such variable, or its value cannot be a key.
    """
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError(
            # The name is not repeated: it may be the key itself by mistake.
            "model.server.api_key_env: there is no such environment variable, or it is empty; it takes the name of the "
            "variable that holds the server's key."
        )
    if not (key.isascii() and key.isprintable()):
        raise UserError("The server's key holds characters that no key has; set its environment variable again.")
    return key


def _run(work: Coroutine[Any, Any, T]) -> T:
    # In a notebook an event loop runs already.
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def _message(value: Any) -> str | None:
    """The error message in a server's JSON, in any of the usual forms."""
    for _ in range(3):
        if isinstance(value, str):
            return value
        if isinstance(value, list) and value:
            value = value[0]
        if not isinstance(value, dict):
            return None
        value = next((value[key] for key in ("error", "message", "detail", "msg") if value.get(key)), None)
    return value if isinstance(value, str) else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The pause in seconds that a response asks for, as a number or as a date."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return None if math.isnan(seconds) else max(0.0, seconds)
