"""The exception classes: fields, texts, and that they survive pickle and copy."""

import copy
import datetime as dt
import pickle

import pytest

import taskloom
from taskloom import _errors

UTC = dt.timezone.utc
CLASSES = [getattr(taskloom, name) for name in _errors.__all__]
EXAMPLES = [
    *(cls("what was wrong", code="TL9999", hint="do this") for cls in CLASSES if cls is not taskloom.RetryAfter),
    taskloom.TaskFailed("boom", type="ValueError", traceback="Traceback …", errors=[{"attempt": 1}]),
    taskloom.TaskCancelled("cancelled", reason="no longer needed"),
    taskloom.RetryAfter(30, key="tenant-7"),
    taskloom.RetryAfter(dt.datetime(2026, 1, 2, tzinfo=UTC)),
]


class Own(taskloom.PermanentError):
    """A user's error with an ``__init__`` of its own that tells ours nothing."""

    def __init__(self, account, *, colour):
        self.account = account
        self.colour = colour


@pytest.mark.parametrize("error", [*EXAMPLES, Own(5, colour="red")], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, *(lambda e, p=p: pickle.loads(pickle.dumps(e, p)) for p in range(2, 6))],
    ids=["copy", "deepcopy", "pickle2", "pickle3", "pickle4", "pickle5"],
)
def test_survives(error, again):
    twin = again(error)
    assert type(twin) is type(error) and twin is not error
    assert twin.__dict__ == error.__dict__ and twin.args == error.args
    assert str(twin) == str(error) and twin.code == error.code and twin.hint == error.hint


@pytest.mark.parametrize("cls", CLASSES)
def test_every_class(cls):
    assert issubclass(cls, taskloom.Error) and issubclass(cls, Exception)
    assert cls.__doc__ and cls.default_code.startswith("TL")
    error = cls(1) if cls is taskloom.RetryAfter else cls("text")
    assert error.code == cls.default_code and error.hint is None
    assert getattr(taskloom, cls.__name__) is cls and cls.__name__ in taskloom.__all__


def test_text():
    error = taskloom.InvalidOptions("priority: 'urgent' is not a priority", hint="use 'high'", code="TL1001")
    assert str(error) == "priority: 'urgent' is not a priority\nhint: use 'high'"
    assert error.message == "priority: 'urgent' is not a priority"
    assert str(taskloom.PermanentError()) == ""
    assert str(taskloom.PermanentError(ValueError("x"))) == "x"
    assert str(taskloom.TaskFailed("no such file", type="OSError", hint="look")) == "OSError: no such file\nhint: look"
    assert str(taskloom.TaskFailed(type="KeyError")) == "KeyError"


def test_own_subclass_without_super():
    error = Own(5, colour="red")
    assert (error.message, error.hint, error.code) == ("5", None, "TL2001")
    with pytest.raises(AttributeError, match="'Own' object has no attribute 'shape'"):
        error.shape  # noqa: B018


def test_wait_timeout_is_a_timeout_error():
    error = taskloom.WaitTimeout("not yet", hint="wait longer")
    assert isinstance(error, TimeoutError) and str(error) == "not yet\nhint: wait longer"
    with pytest.raises(TimeoutError):
        raise error
    assert not issubclass(taskloom.TaskTimedOut, TimeoutError)


def test_interrupt_is_no_exception():
    assert issubclass(_errors._Interrupt, BaseException)
    assert not issubclass(_errors._Interrupt, Exception)


def test_retry_after():
    when = dt.datetime(2026, 1, 2, tzinfo=UTC)
    cases = [
        (30, 30.0, None),
        (0, 0.0, None),
        (1.5, 1.5, None),
        (dt.timedelta(minutes=1), 60.0, None),
        (when, None, when),
    ]
    for given, seconds, at in cases:
        error = taskloom.RetryAfter(given, "key")
        assert (error.seconds, error.at, error.key) == (seconds, at, "key")
    assert str(taskloom.RetryAfter(30)) == "retry after 30 s"
    assert str(taskloom.RetryAfter(30, message="slow down")) == "slow down"


@pytest.mark.parametrize(
    "when", [-1, float("nan"), float("inf"), True, "30", None, dt.datetime(2026, 1, 2), dt.timedelta(-1)]
)
def test_retry_after_refuses(when):
    with pytest.raises(taskloom.InvalidOptions) as caught:
        taskloom.RetryAfter(when)
    assert caught.value.hint and "RetryAfter: " in caught.value.message


def test_retry_after_refuses_a_key_that_is_no_string():
    with pytest.raises(taskloom.InvalidOptions, match="key 7"):
        taskloom.RetryAfter(1, key=7)
