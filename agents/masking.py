"""Secrets of an endpoint: read once, checked, and masked in whatever is printed or stored."""

from __future__ import annotations

import base64
import html
import json
import logging
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

from actfer_env.errors import AgentError

SHOWN = "***"
"""Text in place of a secret."""
_LOGGERS = ("openai", "openai._base_client", *(f"{name}{version}{part}" for version in ("", "2") for name, part in (
    ("httpx", ""), ("httpcore", ".connection"), ("httpcore", ".http11"), ("httpcore", ".http2"), ("httpcore", ".proxy"),
)))  # fmt: skip
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_SHORT = 8
"""Shorter secrets are masked as whole words only, so that a password "on" does not spoil every message."""


class EndpointError(AgentError):
    """An endpoint that cannot be used, or that stopped answering."""


class Mask(logging.Filter):
    """Hides secrets, as they are and as they look in addresses, JSON, `repr`, HTML and headers.

    Args:
        secrets: Keys, passwords, and pairs "user:password"; empty ones are left out.
    """

    def __init__(self, *secrets: str) -> None:
        super().__init__()
        forms = sorted({form for secret in secrets if secret for form in _forms(secret)}, key=len, reverse=True)
        self._all, self._long = (_union(forms), _union([form for form in forms if len(form) >= _SHORT]))

    def hide(self, text: str) -> str:
        """Return a message without the secrets."""
        return text if self._all is None else self._all.sub(SHOWN, text)

    def hide_in(self, value: Any) -> Any:
        """Return what a model wrote, as a JSON value, without the secrets.

        Short ones are let be: a placeholder for a key, such as "none", must not change an answer.
        """
        if isinstance(value, str):
            return value if self._long is None else self._long.sub(SHOWN, value)
        if isinstance(value, dict):
            return {key: self.hide_in(item) for key, item in value.items()}
        return [self.hide_in(item) for item in value] if isinstance(value, list) else value

    def filter(self, record: logging.LogRecord) -> bool:
        """Hide the secrets of a log record; none is dropped."""
        record.msg, record.args = self.hide(record.getMessage()), ()
        if record.exc_info:
            record.exc_text = self.hide(logging.Formatter().formatException(record.exc_info))
            record.exc_info = None
        return True

    def guard_logs(self) -> None:
        """Hide the secrets in what the HTTP client logs: addresses and requests."""
        if self._all is not None:
            for name in _LOGGERS:
                logging.getLogger(name).addFilter(self)


def _forms(secret: str) -> Iterator[str]:
    yield from (secret, quote(secret, safe=""), quote(secret), quote_plus(secret), unquote(secret))
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1])
    yield html.escape(secret)
    for text in (secret, f"{secret}:", f":{secret}"):
        coded = base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()
        yield from (coded.rstrip("="), coded.rstrip("=").replace("+", "-").replace("/", "_"), quote(coded, safe=""))
    if len(secret) >= 2 * _SHORT:
        yield secret[: len(secret) // 2]  # a server may quote the beginning


def _union(forms: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(_as_pattern, forms)), re.IGNORECASE) if forms else None


def _as_pattern(form: str) -> str:
    if len(form) < _SHORT:
        return rf"(?<!\w){re.escape(form)}(?!\w)"
    return re.escape(form) + r"[^\s\"'<>\\,;{}()\[\]]*"


def read_key(variable: str) -> str:
    """Return the key of an environment variable without the space around it; empty where it is not set.

    Raises:
        EndpointError: it cannot stand in a header, such as with a line end in its midst.
    """
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise EndpointError(
            f"the key in the environment variable {variable} holds a character that no key has, such as a line end, "
            "a space or a letter with an accent: set it again"
        )
    return key


def secrets_of(url: str, key: str, variable: str) -> tuple[str, ...]:
    """Return all that must not be shown of an endpoint: key, user and password, query, and the proxies' passwords."""
    found = [key, os.environ.get(variable, "").strip()]
    for address in (url, *(os.environ.get(name) or os.environ.get(name.lower()) or "" for name in _PROXIES)):
        found += _credentials(address)
    return tuple(found)


def _credentials(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return []
    login = parts.netloc.rpartition("@")[0]
    user, colon, password = login.partition(":")
    found = [login, unquote(login), password, unquote(password)] if colon else [user, unquote(user)]
    values = [pair.partition("=")[2] or pair for pair in re.split("[&;]", parts.query) if "api-version" not in pair]
    return [*found, *values, *map(unquote, values), parts.fragment]


def address(url: str) -> str:
    """Return an address without what may be secret: user, password, query (but an API's version) and fragment.

    It works on what is no address, too, so that an error can name it.
    """
    head, _, _ = url.partition("#")
    head, _, query = head.partition("?")
    scheme, found, rest = head.rpartition("://") if "://" in head else ("", "", head)
    host, slash, path = rest.partition("/")
    if "@" in path and ":" in host.rpartition("@")[2] and not host.rpartition(":")[2].isdigit():
        host, slash, path = rest.rpartition("@")[2].partition("/")  # a password with a slash
    version = [pair for pair in query.split("&") if pair.startswith("api-version=")]
    shown = scheme.lower() + found + host.rpartition("@")[2].lower() + slash + path
    return shown.rstrip("/") + (f"?{version[0]}" if version else "")


def login_header(url: str) -> dict[str, str]:
    """Return the header of an address's user and password, if it has them."""
    login = urlsplit(url).netloc.rpartition("@")[0]
    if not login:
        return {}
    text = unquote(login) if ":" in login else f"{unquote(login)}:"
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}
