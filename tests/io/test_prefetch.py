"""Requests are made once, together, and before they are needed."""

from __future__ import annotations

from concurrent.futures import Future

from gigaqc.stores.remote import Prefetch

Place = tuple[int, int]


class Server:
    """Notes what it is asked for, and answers at once."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def ask(self, request: str) -> Future:
        self.asked.append(request)
        future: Future = Future()
        future.set_result(request.upper())
        return future


def prefetch(server: Server, most: int) -> Prefetch[str, str]:
    """Blocks are words, of which each letter is a request."""
    return Prefetch(lambda block: block, server.ask, most)


def test_all_of_a_block_is_asked_for_at_once_and_given_once() -> None:
    server = Server()
    requests = prefetch(server, 2)
    requests.begin(["abc", "de"])
    assert server.asked == list("abcde")  # what is read now is not limited
    assert [requests.take(letter) for letter in "abcde"] == list("ABCDE")
    assert requests.take("a") == "A"
    assert server.asked == list("abcdea")


def test_later_blocks_are_asked_for_as_earlier_ones_are_taken() -> None:
    server = Server()
    requests = prefetch(server, 3)
    requests.expect(iter(["ab", "cd", "ef", "gh"]))
    assert not server.asked  # nothing is read before something is
    requests.begin(["ab"])
    assert server.asked == list("abcd")
    requests.take("a")
    assert server.asked == list("abcd")
    requests.take("b")
    assert server.asked == list("abcdef")
    requests.begin(["cd"])
    for letter in "cdefgh":
        requests.take(letter)
    assert sorted(server.asked) == list("abcdefgh")


def test_blocks_that_are_read_out_of_order_are_not_asked_for_twice() -> None:
    server = Server()
    requests = prefetch(server, 2)
    order = ["ab", "cd", "ef", "gh", "ij"]
    requests.expect(order)
    for block in ["gh", "ab", "ij", "ef", "cd"]:
        requests.begin([block])
        for letter in block:
            requests.take(letter)
    assert sorted(server.asked) == list("abcdefghij")


def test_blocks_around_are_asked_for_once() -> None:
    server = Server()
    rows = ["abcd", "efgh", "ijkl", "mnop"]
    grid = {(y, x): letter for y, row in enumerate(rows) for x, letter in enumerate(row)}
    requests = prefetch(server, 100)
    requests.expect_around(grid)
    requests.begin(["a"])
    assert sorted(server.asked) == ["a", "b", "e", "f"]
    for letter in reversed("abcdefghijklmnop"):
        requests.begin([letter])
        requests.take(letter)
    assert sorted(server.asked) == list("abcdefghijklmnop")


def test_what_is_around_keeps_to_the_limit() -> None:
    server = Server()
    requests = prefetch(server, 3)
    requests.expect_around({(0, y, x): "abcdefghi"[3 * y + x] for y in range(3) for x in range(3)})
    requests.begin(["e"])
    assert len(server.asked) == 3


def test_other_planes_of_a_place_are_around_it() -> None:
    server = Server()
    requests = prefetch(server, 100)
    requests.expect_around({(c, 0, 4 * x): "abcdef"[2 * c + x] for c in range(3) for x in range(2)})
    requests.begin(["c"])
    assert sorted(server.asked) == ["a", "c", "e"]
