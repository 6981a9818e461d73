"""The table of calls holds together: every call stands once, and refers to problems that are described."""

from __future__ import annotations

from channelstream.router.calls import CALLS, PROBLEMS


def test_every_call_stands_once() -> None:
    assert len({(call.method, call.path) for call in CALLS}) == len(CALLS)


def test_paths_and_methods_are_of_their_form() -> None:
    for call in CALLS:
        assert call.path.startswith("/")
        assert call.method in ("GET", "POST", "PATCH", "DELETE")


def test_every_problem_that_a_call_names_is_described() -> None:
    for call in CALLS:
        assert set(call.problems) <= set(PROBLEMS), f"{call.method} {call.path}"
