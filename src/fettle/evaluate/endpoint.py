"""One question to an OpenAI-compatible endpoint, one answer as text.

In: address, model, the name of the variable that holds the key. Out: text. Must not know: what is
asked. The key stays in memory: it is in no message, no file and no other host's request.
"""

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message as Headers
from http.client import HTTPException
from typing import IO, Any

from fettle.errors import NetworkError, UsageError

LOOPBACK = {"localhost", "127.0.0.1", "::1"}
MOST_BYTES = 4_000_000
"""Of a reply; what is longer is no answer."""
REFUSALS = {401, 403, 404, 405}
"""Statuses that no other question would change."""
UNFIT = {400, 413, 422}
"""Statuses that no later attempt at the same question would change: too long, say."""
LONGEST_PAUSE = 60.0
SHOWN = 200


class NoAnswer(Exception):
    """This one question has no answer; others may have."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would take the key to another host."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Headers,
        newurl: str,
    ) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where questions go; calling it asks one."""

    address: str
    """Up to and with the version: https://host/v1."""
    model: str
    key_variable: str | None = None
    """Environment variable that holds the key; None for servers that want none."""
    max_tokens: int = 512
    timeout_s: float = 60.0
    attempts: int = 3
    pause_s: float = 1.0
    """Before the second attempt; twice as long before each further one."""

    def __post_init__(self) -> None:
        """Refuse what can't work, before anything is asked.

        Raises:
            UsageError: E1030, no http address, an empty variable, or a key over plain http.
        """
        parts = urllib.parse.urlsplit(self.address)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise UsageError(
                "E1030",
                f"{self.address!r} is no address of an endpoint",
                hint="give one such as https://host/v1 or http://localhost:8000/v1",
            )
        if self.key_variable is None:
            return
        if not os.environ.get(self.key_variable):
            raise UsageError(
                "E1030",
                f"the environment variable {self.key_variable} holds no key",
                hint=f"set it in the shell: export {self.key_variable}=…",
            )
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise UsageError(
                "E1030",
                f"a key would go to {parts.hostname} unencrypted",
                hint="use https, or an endpoint on this machine",
            )

    def __call__(self, messages: list[dict[str, str]]) -> str:
        """Ask, at temperature 0.

        Args:
            messages: role and content each.

        Returns:
            The answer's text.

        Raises:
            NetworkError: E1031, the endpoint refuses every question (key, model, address).
            NoAnswer: this question has no answer after all attempts.
        """
        body = {
            "model": self.model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": self.max_tokens,
        }
        last, asked_to_wait = "", 0.0
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(max(self.pause_s * 2 ** (attempt - 1), asked_to_wait))
            try:
                return _text(self._post(body))
            except urllib.error.HTTPError as error:
                with error:
                    said = self._clean(error.read(SHOWN).decode("utf-8", "replace"))
                last = f"HTTP {error.code} {said}".strip()
                if error.code in REFUSALS or 300 <= error.code < 400:
                    raise self._refused(last) from None
                if error.code in UNFIT:
                    break
                asked_to_wait = _seconds(error.headers.get("Retry-After", ""))
            except (OSError, HTTPException, ValueError) as error:
                last = self._clean(f"{type(error).__name__}: {error}")
        raise NoAnswer(last)

    def _post(self, body: Mapping[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.key_variable is not None:
            headers["Authorization"] = f"Bearer {os.environ.get(self.key_variable, '')}"
        request = urllib.request.Request(
            f"{self.address.rstrip('/')}/chat/completions",
            data=json.dumps(body).encode("utf-8"),
            headers=headers,
        )
        opener = urllib.request.build_opener(_NoRedirects)
        with opener.open(request, timeout=self.timeout_s) as reply:
            content = reply.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError(f"the reply is longer than {MOST_BYTES:,} bytes")
        return json.loads(content)

    def _clean(self, text: str) -> str:
        """Without the key, should a server send it back."""
        key = os.environ.get(self.key_variable, "") if self.key_variable else ""
        text = " ".join((text.replace(key, "***") if key else text).split())
        return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"

    def _refused(self, said: str) -> NetworkError:
        key = self.key_variable or "no key variable"
        return NetworkError(
            "E1031",
            f"{self.address} refuses to answer as {self.model}: {said}",
            hint=f"check address, model and key ({key}), then run it again",
        )


def _seconds(text: str) -> float:
    """A Retry-After in seconds; 0 where it is a date or none."""
    return min(float(text), LONGEST_PAUSE) if text.isdecimal() else 0.0


def _text(reply: Any) -> str:
    try:
        text = reply["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        text = None
    if not isinstance(text, str) or not text.strip():
        raise ValueError("the reply holds no text")
    return text
