"""What the sinks that speak HTTP share: one POST, bounded, and what its answer means for the delivery."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

import httpx

from churn_radar import __version__
from churn_radar.errors import Gone, RetryLater, SettingsError, UpstreamError
from churn_radar.upstream.failure import failure
from churn_radar.upstream.refusal import read_retry_after

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0
# Of an answer nothing but a word is of use; a receiver that never ends must not fill the memory.
ANSWER_BYTES = 16 * 1024
_GONE = 410
# A code such as Slack's `invalid_blocks`: safe to show, and what the operator needs.
_CODE = re.compile(rb"\s*([a-z][a-z_]{2,60})\s*")


def create_client(*, trust_env: bool = True) -> httpx.AsyncClient:
    """A client for one sink; close it in the end. It follows no redirect: one would carry a customer's data away."""
    return httpx.AsyncClient(
        headers={"User-Agent": f"churn_radar/{__version__}"},
        timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
        limits=httpx.Limits(max_connections=8, max_keepalive_connections=8),
        follow_redirects=False,
        # Certificates of the environment are honoured either way; proxies only with `trust_env`.
        verify=httpx.create_ssl_context(),
        trust_env=trust_env,
    )


def read_url(text: str, where: str) -> httpx.URL:
    """An address to post to. Raises SettingsError, which does not quote it: it may be a secret."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("https", "http") or not url.host:
        raise SettingsError([f"{where}: url: not an http(s) address (example: https://desk.example.com/hooks/churn)"])
    return url


async def post(
    http: httpx.AsyncClient,
    url: httpx.URL,
    content: bytes,
    *,
    service: str,
    host: str,
    headers: Mapping[str, str],
    sni_hostname: str | None = None,
) -> None:
    """Send once; returns when the receiver has answered 2xx.

    Raises Gone for 410, and RetryLater for every other answer and for none: who mends a wrong address or a secret finds
    the delivery still waiting. Nothing of the answer is quoted but a code of one word.
    """
    extensions = {} if sni_hostname is None else {"sni_hostname": sni_hostname}
    request = http.build_request(
        "POST", url, content=content, headers={"Content-Type": "application/json", **headers}, extensions=extensions
    )
    try:
        answer = await http.send(request, stream=True)
        try:
            body = await _bounded(answer)
        finally:
            await answer.aclose()
    except (httpx.HTTPError, OSError, UnicodeError) as error:
        # `from None`: the causes quote the address, which may be a secret.
        raise _passing(failure(service, host, error)) from None
    if answer.is_success:
        return
    raise _refusal(service, host, answer, body)


async def _bounded(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) > ANSWER_BYTES:
            break
    return bytes(body[:ANSWER_BYTES])


def _passing(error: UpstreamError) -> RetryLater:
    return error if isinstance(error, RetryLater) else RetryLater(error.service, str(error), status=error.status)


def _refusal(service: str, host: str, answer: httpx.Response, body: bytes) -> UpstreamError:
    status = answer.status_code
    code = _CODE.fullmatch(body)
    said = f"{host} answered {status}" + (f": {code[1].decode()}" if code else "")
    if status == _GONE:
        return Gone(service, said, status=status)
    if 300 <= status < 400:
        said += ": redirects are not followed"
    wait = read_retry_after(answer.headers.get("retry-after"), now=time.time())
    return RetryLater(service, said, status=status, retry_after=wait)
