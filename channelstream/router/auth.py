"""Who may call: the caller's address, https where it is enforced, and the signature of a request."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import falcon

from channelstream.addresses import AddressRules, client_address, client_scheme
from channelstream.clock import Clock
from channelstream.config import Config
from channelstream.errors import AddressRefused, HttpsRequired, SignatureMissing, SignatureRefused
from channelstream.signing import Verifier, load_checker

Environ = dict[str, Any]

BODY: Final = "channelstream.body"
"""Where an environ keeps its request's body, once it was read."""

REFUSED: Final = "channelstream.refused"
"""Where it keeps what went wrong with a request before Falcon had it."""

log: Final = logging.getLogger(__name__)


class Gate:
    """A Falcon middleware. What a resource needs is in its attribute `guard`: "open", "address" or "signature"."""

    def __init__(self, config: Config, clock: Clock, claim: Callable[[str, float], bool]) -> None:
        self._trusted: Final = AddressRules(config.trusted_proxies, "trusted_proxies")
        self._allowed: Final = AddressRules(config.allow_posting_from)
        self._enforce_https: Final = config.enforce_https
        self._clock: Final = clock
        self._claim: Final = claim
        self._verifier: Final = Verifier(
            config.secret,
            config.signature_scope,
            int(config.signature_max_age) if config.validate_requests else None,
            load_checker(config.signature_checker) if config.signature_checker else None,
        )
        self._warned = False

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Called by Falcon before a resource is looked for. Raises `HttpsRequired`, or what `app.Api` was refused with
        already."""
        refused: Exception | None = req.env.get(REFUSED)
        if refused is not None:
            raise refused
        self.check_https(req.env)

    def process_resource(self, req: falcon.Request, resp: falcon.Response, resource: object, params: object) -> None:
        """Called by Falcon once the resource is found. Raises `CallerError`."""
        guard = getattr(resource, "guard", "open")
        if guard == "open" or req.method == "OPTIONS":  # which Falcon answers itself, with the methods alone
            return
        self.check_address(req.env)
        if guard == "signature":
            self.check_signature(req.env, req.path, req.get_param("secret"))

    def check_https(self, env: Environ) -> None:
        """Raises `HttpsRequired`."""
        if self._enforce_https and self._scheme(env) != "https":
            raise HttpsRequired

    def _scheme(self, env: Environ) -> str:
        forwarded = env.get("HTTP_X_FORWARDED_PROTO")
        return client_scheme(env["REMOTE_ADDR"], env["wsgi.url_scheme"], forwarded, self._trusted)

    def check_address(self, env: Environ) -> None:
        """Raises `AddressRefused`."""
        address = client_address(env["REMOTE_ADDR"], env.get("HTTP_X_FORWARDED_FOR"), self._trusted)
        if not self._allowed.allows(address):
            raise AddressRefused(address)

    def check_signature(self, env: Environ, path: str, parameter: str | None = None) -> None:
        """`parameter`: the signature in the URL, which counts where there is none in the head. Raises `CallerError`."""
        signature = env.get("HTTP_X_CHANNELSTREAM_SECRET") or parameter
        if not signature:
            raise SignatureMissing
        verified = self._verifier.verify(
            signature,
            env["REQUEST_METHOD"],
            path,
            body_of(env),
            env.get("HTTP_X_CHANNELSTREAM_ENDPOINT"),
            self._clock().wall,
        )
        if verified.replay_key is not None and not self._claim(verified.replay_key, verified.replay_for_s):
            raise SignatureRefused("used before", "a signature is taken once: sign each request anew, with a nonce")
        if verified.legacy and not self._warned:
            self._warned = True
            log.warning("a caller signs the word channelstream instead of the path: taken, but any call can be made so")


def body_of(env: Environ) -> bytes:
    """The whole body of a request, which the server has read before."""
    body: bytes | None = env.get(BODY)
    if body is None:
        # The length is always there (the server has taken chunks apart), and PEP 3333 promises no read without one.
        body = env[BODY] = env["wsgi.input"].read(int(env.get("CONTENT_LENGTH") or 0))
    return body
