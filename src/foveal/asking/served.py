"""Asks a served model: any OpenAI-compatible chat-completions endpoint, with pictures as ``data:`` URLs.

Requests run side by side, are repeated with growing pauses where a server is busy or fails, and every reply is kept on
disk as it comes, so that a job that was stopped goes on where it was without asking anything again.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email.utils
import io
import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from PIL import Image

from foveal.asking.replies import Job, Replies, Reply, reply_key
from foveal.errors import UserError
from foveal.prompts import Prompt

if TYPE_CHECKING:
    import httpx2 as httpx
else:
    # The one of the two that huggingface_hub brings: httpx2 from its version 2 on. What is used here is the same in both.
    try:
        import httpx2 as httpx
    except ImportError:
        import httpx

_BUSY = (408, 409, 425, 429)
#: A server that wants a longer pause than this is not waited for, in seconds.
_LONGEST_ASKED_WAIT = 900


@dataclass(frozen=True)
class Patience:
    """How a server is treated.

    Attributes:
        concurrency: Requests at a time.
        timeout: Seconds within which a reply must be whole.
        tries: How often a request is sent before it is given up.
        wait: Seconds before the second try; they double with each further one.
        longest_wait: They do not grow beyond this.
    """

    concurrency: int = 8
    timeout: float = 300.0
    tries: int = 8
    wait: float = 1.0
    longest_wait: float = 60.0


def base_url(url: str) -> str:
    """The address below which ``/chat/completions`` lies: ``http://host:8000`` gives ``http://host:8000/v1``.

    Raises:
        UserError: It is no web address, or holds a secret, which would end up in files and listings.
    """
    try:
        parts = urlsplit(url.strip())
        wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0
    except ValueError:
        wrong = True
    if wrong:
        what = "This" if {"@", "?", "#"} & set(url) else repr(url)  # what may hold a secret is not repeated
        raise UserError(f"{what} is no address of a server; give one like http://localhost:8000/v1.")
    queries = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    if parts.username or parts.password or parts.fragment or queries - {"api-version"}:
        raise UserError(
            "A server's address may not hold a user, a key or settings; give the name of the environment variable that "
            "holds the key with --api_key_env."
        )
    path = parts.path.rstrip("/").removesuffix("/chat/completions") or "/v1"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def data_url(image: Image.Image) -> str:
    """A picture as a PNG in a ``data:`` URL."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def chat_messages(prompt: Prompt) -> list[dict[str, Any]]:
    """A prompt as the messages of a chat-completions request."""
    content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": data_url(i)}} for i in prompt.opened()]
    content.append({"type": "text", "text": prompt.user})
    system = [{"role": "system", "content": prompt.system}] if prompt.system else []
    return [*system, {"role": "user", "content": content}]


def read_completion(found: Any) -> Reply | None:
    """The reply in the JSON of a chat completion, or None where it is none."""
    try:
        choice = found["choices"][0]
        content = choice["message"].get("content")
        if content is not None and not isinstance(content, str | list):
            return None
        if isinstance(content, list):  # some servers answer in parts
            content = "".join(part.get("text") or "" for part in content if part.get("type") == "text")
        usage = found.get("usage") or {}
        reply = Reply(
            (content or "").strip(),  # nothing: a refusal, or a reply that was cut while the model was still thinking
            choice.get("finish_reason"),
            found.get("model"),
            usage.get("prompt_tokens"),
            usage.get("completion_tokens"),
        )
    except (KeyError, IndexError, TypeError, AttributeError):
        return None
    return reply


class _RetryError(Exception):
    """A failure that may pass; ``after`` is the pause in seconds that the server asks for."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Endpoint:
    """A served model.

    Args:
        url: The server, see ``base_url``.
        model: The model's name on the server; None takes the only one that the server lists.
        key: The secret of the server, sent with each request; it is kept out of messages and replies.
        max_tokens: Longest reply.
        temperature: 0 takes the likeliest token.
        seed: Sent where the temperature is not 0.
        patience: How the server is treated.

    Raises:
        UserError: The address or the key cannot be right.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        key: str | None = None,
        max_tokens: int = 2048,
        temperature: float = 0.0,
        seed: int = 0,
        patience: Patience | None = None,
    ) -> None:
        self.url, self.model, self.patience = base_url(url), model, patience or Patience()
        self._key = (key or "").strip()
        if not (self._key.isascii() and (self._key.isprintable() or not self._key)):
            raise UserError("The server's key holds characters that no key has; set its environment variable again.")
        self._settings: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature}
        if temperature > 0:
            self._settings["seed"] = seed
        self._limit = "max_tokens"
        self._listed: list[str] = []
        self._quiet_until = 0.0

    # ---------------------------------------------------------------- what is seen from outside

    def check(self) -> str:
        """Finds out whether the server can be reached, and the model's name where none was given.

        Raises:
            UserError: It cannot be reached, refuses the key, or lists several models where none was named.
        """
        asyncio.run(self._check())
        assert self.model is not None
        return self.model

    def ask(self, jobs: Sequence[Job], replies: Replies, progress: Callable[[int], None] | None = None) -> list[Reply]:
        """The replies to all questions, in their order; those in ``replies`` are not asked again.

        Args:
            jobs: The questions.
            replies: Where replies are kept as they come.
            progress: Called with the number of questions answered since the last call.

        Raises:
            UserError: The server refuses, gives something else than chat completions, or failed too often.
        """
        return asyncio.run(self._ask(jobs, replies, progress or (lambda _: None)))

    # ---------------------------------------------------------------- the work

    def _client(self) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        number = self.patience.concurrency
        return httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(self.patience.timeout, connect=min(30.0, self.patience.timeout)),
            limits=httpx.Limits(max_connections=number, max_keepalive_connections=number),
        )

    def _at(self, path: str) -> str:
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=parts.path + path))

    async def _check(self) -> None:
        async with self._client() as client:
            try:
                found = await self._patiently(lambda: self._send(client, "GET", "/models", None, check=True))
            except _Missing:
                found = None
        rows = found.get("data") if isinstance(found, dict) else None
        self._listed = [str(r["id"]) for r in rows or () if isinstance(r, dict) and "id" in r]
        if self.model is None and len(self._listed) == 1:
            self.model = self._listed[0]
        if self.model is None:
            has = f"has {self._names()}" if self._listed else "lists no models"
            raise UserError(f"{self.url}: the server {has}; name the one that is meant with --served_model.")

    def _names(self) -> str:
        more = f" and {len(self._listed) - 8} more" if len(self._listed) > 8 else ""
        return ", ".join(self._listed[:8]) + more

    async def _ask(self, jobs: Sequence[Job], replies: Replies, progress: Callable[[int], None]) -> list[Reply]:
        if self.model is None:
            await self._check()
        found: dict[int, Reply] = {}
        places = iter(range(len(jobs)))
        asked: dict[str, asyncio.Event] = {}

        async def work(client: httpx.AsyncClient) -> None:
            for place in places:
                found[place] = await self._one(client, jobs[place], replies, asked)
                progress(1)

        async with self._client() as client:
            workers = [asyncio.create_task(work(client)) for _ in range(min(self.patience.concurrency, len(jobs)))]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        return [found[place] for place in range(len(jobs))]

    async def _one(
        self, client: httpx.AsyncClient, job: Job, replies: Replies, asked: dict[str, asyncio.Event]
    ) -> Reply:
        # Pictures are drawn, encoded and hashed beside the event loop, which else would keep other replies waiting.
        prompt, key = await asyncio.to_thread(self._prepare, job)
        if key in asked:  # the same question is on its way
            await asked[key].wait()
        if (known := replies.get(key)) is not None:
            return known
        asked[key] = asyncio.Event()
        try:
            messages = await asyncio.to_thread(chat_messages, prompt)
            found = await self._patiently(lambda: self._complete(client, messages))
            reply = read_completion(found)
            if reply is None:
                raise UserError(
                    f"{self.url}: answers with something else than a chat completion ({self._short(json.dumps(found))}); "
                    "check that the address is of an OpenAI-compatible server."
                )
            replies.add(key, reply)
            return reply
        except _Missing as error:
            has = f"; it has {self._names()}" if self._listed and self.model not in self._listed else ""
            raise UserError(
                f"{self.url}: the server does not know the address or the model {self.model!r} ({error}){has}; correct "
                "the address or --served_model."
            ) from None
        finally:
            asked[key].set()

    def _prepare(self, job: Job) -> tuple[Prompt, str]:
        prompt = job.prompt()
        return prompt, reply_key(str(self.model), prompt, self._settings)

    async def _complete(self, client: httpx.AsyncClient, messages: list[dict[str, Any]]) -> Any:
        limit = self._limit
        settings = {limit if name == "max_tokens" else name: value for name, value in self._settings.items()}
        try:
            return await self._send(
                client, "POST", "/chat/completions", {"model": self.model, "messages": messages, **settings}
            )
        except UserError as error:
            # Newer servers refuse the name that all others know.
            if limit == "max_tokens" and "max_completion_tokens" in str(error):
                self._limit = "max_completion_tokens"
                return await self._complete(client, messages)
            raise

    async def _patiently(self, send: Callable[[], Any]) -> Any:
        """What ``send`` gives, tried again while the failure may pass."""
        patience, tried = self.patience, 0
        while True:
            pause = self._quiet_until - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause + random.uniform(0, min(1.0, pause)))
                continue
            try:
                return await send()
            except _RetryError as error:
                tried += 1
                if (error.after or 0) > _LONGEST_ASKED_WAIT:
                    raise UserError(
                        f"{self.url}: {error}, and asks to wait {error.after:,.0f} s; go on then."
                    ) from None
                if tried >= patience.tries:
                    raise UserError(f"{self.url}: gave up after {tried} tries; the last: {error}.") from None
                if error.after is not None:  # all wait, for the next request would be refused as well
                    self._quiet_until = max(self._quiet_until, time.monotonic() + error.after)
                longest = min(patience.longest_wait, patience.wait * 2 ** (tried - 1))
                await asyncio.sleep(longest * random.uniform(0.5, 1.0))

    async def _send(
        self, client: httpx.AsyncClient, method: str, path: str, body: dict[str, Any] | None, *, check: bool = False
    ) -> Any:
        """The JSON that the server answers.

        Raises:
            _RetryError: A failure that may pass.
            _Missing: There is no such address or model.
            UserError: Any other refusal.
        """
        timeout = self.patience.timeout
        try:
            # The client's own limit is for each packet; this one is for the whole.
            async with asyncio.timeout(timeout):
                response = await client.request(method, self._at(path), json=body)
        except (TimeoutError, httpx.TimeoutException):
            raise _RetryError(f"no whole reply within {timeout:g} s") from None
        except httpx.ConnectError as error:
            if check:
                raise UserError(
                    f"{self.url}: the server cannot be reached ({self._short(str(error))}); check the address, and that "
                    "it runs."
                ) from None
            raise _RetryError(f"the server cannot be reached ({self._short(str(error))})") from None
        except httpx.TransportError as error:
            raise _RetryError(f"the connection failed ({self._short(str(error) or type(error).__name__)})") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UserError(f"{self.url}: cannot be asked ({self._short(str(error))}); check the address.") from None
        return self._judge(response)

    def _judge(self, response: httpx.Response) -> Any:
        """The JSON of a response that went well; see ``_send``."""
        status = response.status_code
        text = self._masked(response.text)
        found: Any = None
        with contextlib.suppress(ValueError):
            found = json.loads(text)
        said = self._short(_message(found) or text or "no reason given")
        # Some servers pass on the failure of another one inside a reply that went well.
        inner = found.get("error") if isinstance(found, dict) and status == 200 else None
        if inner:
            code = inner.get("code") if isinstance(inner, dict) else None
            status = code if isinstance(code, int) else 400
        if status in _BUSY or status >= 500:
            raise _RetryError(f"the server answers {status} ({said})", _retry_after(response))
        if status in (401, 403):
            raise UserError(
                f"{self.url}: the server refuses the {'key' if self._key else 'request without a key'} ({status}: {said}); "
                "name the environment variable that holds the right key with --api_key_env."
            )
        if status in (404, 405):
            raise _Missing(f"{status}: {said}")
        if 300 <= status < 400:
            to = response.headers.get("location", "another address")
            raise UserError(f"{self.url}: the server points to {self._short(to)}; give that address.")
        if status >= 400:
            raise UserError(f"{self.url}: the server refuses the request ({status}: {said}).")
        if found is None:
            if "json" in response.headers.get("content-type", "json"):
                raise _RetryError(f"the reply is broken ({said})")
            raise UserError(
                f"{self.url}: answers with something else than JSON ({said}); check that the address is of an "
                "OpenAI-compatible server."
            )
        return found

    def _masked(self, text: str) -> str:
        """A server's words without the key, which some repeat. What is shorter is no secret but a filler like EMPTY."""
        return text.replace(self._key, "***") if len(self._key) >= 8 else text

    def _short(self, text: str) -> str:
        text = " ".join(self._masked(text).split()).rstrip(".")
        return text if len(text) <= 300 else f"{text[:300]}…"


class _Missing(Exception):
    """The server answers that there is no such address or model."""


def _message(found: Any) -> str | None:
    """The sentence in a server's JSON about an error, in the forms in which servers write it."""
    for _ in range(3):
        if isinstance(found, str):
            return found
        if isinstance(found, list) and found:
            found = found[0]
        if not isinstance(found, dict):
            return None
        found = next((found[key] for key in ("error", "message", "detail", "msg") if found.get(key)), None)
    return found if isinstance(found, str) else None


def _retry_after(response: httpx.Response) -> float | None:
    """The pause in seconds that a response asks for, told as a number or as a date."""
    told = response.headers.get("retry-after", "").strip()
    if not told:
        return None
    try:
        seconds = float(told)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(told).timestamp() - time.time()
        except ValueError:
            return None
    return None if math.isnan(seconds) else max(0.0, seconds)
