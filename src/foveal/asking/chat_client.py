"""The client of served models: the official one, with a limit on the size of responses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Literal

import httpx2
import openai

from foveal.config.sections import Server

#: Largest response in bytes.
LARGEST_REPLY = 16 * 2**20


class SendError(Exception):
    """A request that got no response.

    Attributes:
        kind: ``late``: it took too long; ``away``: no connection; ``broken``: the connection failed; ``large``: the
            response is too large; ``address``: the request could not be sent.
    """

    def __init__(self, kind: Literal["late", "away", "broken", "large", "address"], reason: str = "") -> None:
        super().__init__(reason)
        self.kind = kind


class _Limited(httpx2.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._stream:
            size += len(part)
            if size > LARGEST_REPLY:
                raise SendError("large", f"it has more than {LARGEST_REPLY >> 20} MiB")
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _limit(response: httpx2.Response) -> None:
    # A few compressed bytes can expand to very many, so plain ones were asked for.
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise SendError("large", "it is compressed, though plain text was asked for")
    response.stream = _Limited(response.stream)


def make_client(url: str, query: dict[str, str], key: str, server: Server) -> openai.AsyncOpenAI:
    """A client that sends each request once.

    Args:
        url: The address below which ``/chat/completions`` lies.
        query: Parameters of each request's address.
        key: The server's key; empty sends none.
        server: The recipe's settings of the server.
    """
    http = httpx2.AsyncClient(
        headers={"Accept-Encoding": "identity"},
        timeout=httpx2.Timeout(server.timeout, connect=min(30.0, server.timeout)),
        limits=httpx2.Limits(max_connections=server.concurrency, max_keepalive_connections=server.concurrency),
        event_hooks={"response": [_limit]},
    )
    # The environment may hold these for another server.
    omitted: Any = {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
    return openai.AsyncOpenAI(
        base_url=url, api_key=key, admin_api_key="", max_retries=0, default_headers=omitted, default_query=query,
        http_client=http,
    )  # fmt: skip


async def send(client: openai.AsyncOpenAI, body: dict[str, Any] | None, timeout: float) -> httpx2.Response:
    """The server's response, whatever its status.

    Args:
        client: See ``make_client``.
        body: A request for a chat completion; None asks for the list of models.
        timeout: Seconds until the complete response.

    Raises:
        SendError: There is no response.
    """
    headers: Any = {} if client.api_key else {"Authorization": openai.Omit()}
    try:
        # The client's limit is for each packet, this one for the whole response.
        async with asyncio.timeout(timeout):
            raw = await (
                client.models.with_raw_response.list(extra_headers=headers)
                if body is None
                else client.chat.completions.with_raw_response.create(**body, extra_headers=headers)
            )
        response: httpx2.Response = raw.http_response
        return response
    except openai.APIStatusError as error:
        return error.response
    except (TimeoutError, openai.APITimeoutError):
        raise SendError("late") from None
    except (openai.APIConnectionError, httpx2.InvalidURL) as error:
        cause = error.__cause__ or error
        reason = str(cause) or type(cause).__name__
        if isinstance(cause, httpx2.ConnectError):
            raise SendError("away", reason) from None
        if isinstance(cause, httpx2.TransportError) and not isinstance(cause, httpx2.UnsupportedProtocol):
            raise SendError("broken", reason) from None
        raise SendError("address", reason) from None
