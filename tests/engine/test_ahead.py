"""Work one item ahead: order, what is read when, errors in their place, and no thread left over."""

import sqlite3
import threading

import pytest

from jaspertc.engine.ahead import ahead

LONG = 20  # seconds to wait for what must happen; it happens at once


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("jaspertc-ahead")]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert not workers()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_results_in_order(count):
    assert list(ahead(lambda item: 10 * item, range(count))) == [10 * item for item in range(count)]


def test_one_item_is_read_beyond_the_result_that_is_given():
    read = []

    def items():
        for item in range(6):
            read.append(item)
            yield item

    results = ahead(str, items())
    assert read == []
    for item in range(6):
        assert next(results) == str(item)
        assert read == list(range(min(item + 2, 6)))


def test_the_next_result_is_made_while_one_is_used():
    made = [threading.Event() for _ in range(4)]
    results = ahead(lambda item: made[item].set(), range(4))
    for item in range(3):
        next(results)
        assert made[item + 1].wait(LONG)
    assert not list(results)[1:]


def test_items_are_read_in_the_thread_of_the_caller():
    """A cursor of SQLite refuses any other."""
    base = sqlite3.connect(":memory:")
    base.execute("CREATE TABLE texts (text)")
    base.executemany("INSERT INTO texts VALUES (?)", [("a",), ("b",), ("c",)])
    assert list(ahead(lambda row: row[0], base.execute("SELECT text FROM texts"))) == ["a", "b", "c"]


def test_a_single_item_needs_no_thread():
    assert list(ahead(lambda item: threading.current_thread(), [1])) == [threading.current_thread()]
    several = list(ahead(lambda item: threading.current_thread(), [1, 2, 3]))
    assert several[0] is threading.current_thread()
    assert several[1] is several[2] is not threading.current_thread()


@pytest.mark.parametrize("place", [0, 1, 2, 4])
@pytest.mark.parametrize("kind", ["work", "reading"])
def test_an_error_comes_after_the_results_before_it(place, kind):
    def items():
        for item in range(5):
            if kind == "reading" and item == place:
                raise LookupError(f"item {item}")
            yield item

    def work(item):
        if kind == "work" and item == place:
            raise LookupError(f"item {item}")
        return item

    found = []
    with pytest.raises(LookupError, match=f"item {place}"):
        found.extend(ahead(work, items()))
    assert found == list(range(place))


def test_the_first_of_two_errors_is_raised():
    def items():
        yield from (1, 2)
        raise OSError("reading")

    def work(item):
        if item == 2:
            raise LookupError("working")

    with pytest.raises(LookupError):
        list(ahead(work, items()))


def test_closed_early():
    results = ahead(str, range(100))
    assert [next(results), next(results)] == ["0", "1"]
    assert len(workers()) == 1
    results.close()
    assert not workers()


def test_an_interrupt_while_reading_is_not_kept_back():
    def items():
        yield from (1, 2, 3)
        raise KeyboardInterrupt

    found = []
    with pytest.raises(KeyboardInterrupt):
        found.extend(ahead(str, items()))
    assert found == ["1", "2"]


def test_an_error_of_the_user_ends_the_thread():
    def use():
        for result in ahead(str, range(100)):
            if result == "3":
                raise LookupError(result)

    with pytest.raises(LookupError):
        use()
