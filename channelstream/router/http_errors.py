"""Our errors as HTTP answers, in one place: every error body is JSON, and nothing inside shows."""

from __future__ import annotations

import logging
from typing import Any, Final

import falcon
import msgspec

from channelstream.errors import CallerError, ClientError, NotStored, Unavailable

log: Final = logging.getLogger(__name__)

JSON: Final = "application/json"


def install(app: falcon.App[Any, Any]) -> None:
    """Let an app answer errors as the contract has it."""
    app.add_error_handler(Exception, _unforeseen)
    app.add_error_handler(falcon.HTTPError, _falcon_error)
    app.add_error_handler(falcon.HTTPStatus, _falcon_status)
    app.add_error_handler(CallerError, _ours)
    app.add_error_handler(ClientError, _ours)


def _answer(resp: falcon.Response, status: int, body: object) -> None:
    resp.status = falcon.code_to_http_status(status)
    resp.content_type = JSON
    resp.data = msgspec.json.encode(body)


def _ours(req: falcon.Request, resp: falcon.Response, error: CallerError | ClientError, params: object) -> None:
    if isinstance(error, Unavailable | NotStored):
        resp.set_header("Retry-After", str(error.retry_after_s))
    if error.status == 401:
        log.info("< %s %s refused: %s", req.method, req.path, error)
    _answer(resp, error.status, error.body())


def _falcon_error(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, params: object) -> None:
    headers = error.headers or {}
    resp.set_headers(list(headers.items()) if isinstance(headers, dict) else headers)
    _, _, sentence = falcon.code_to_http_status(error.status_code).partition(" ")
    _answer(resp, error.status_code, {"error": sentence.lower()})


def _falcon_status(req: falcon.Request, resp: falcon.Response, status: falcon.HTTPStatus, params: object) -> None:
    resp.status = status.status
    resp.text = status.text


def _unforeseen(req: falcon.Request, resp: falcon.Response, error: Exception, params: object) -> None:
    log.error("%s %s failed", req.method, req.path, exc_info=error)
    _answer(resp, 500, {"error": "internal error"})
