"""Arguments and results: what they become in JSON, what they become again, and every refusal."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import pathlib
import random
import types
import uuid
from typing import Any, NamedTuple

import pytest

import taskloom
from helpers import refusal
from plans import plan
from taskloom import _native
from taskloom._signature import build_plan

UTC = dt.timezone.utc
AMSTERDAM = dt.timezone(dt.timedelta(minutes=19, seconds=32))  # until 1937
LIBERIA = dt.timezone(-dt.timedelta(minutes=44, seconds=30))  # until 1972
DEEPEST = 127


class TestValues:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (None, "null"),
            (True, "true"),
            (False, "false"),
            (0, "0"),
            (-1, "-1"),
            (2**63 - 1, "9223372036854775807"),
            (-(2**63), "-9223372036854775808"),
            (2**63, "9223372036854775808"),
            (10**40, "1" + "0" * 40),
            (-(10**40), "-1" + "0" * 40),
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e16, "1e16"),
            (5e-324, "5e-324"),
            (1.7976931348623157e308, "1.7976931348623157e308"),
            ("", '""'),
            ("é😀", '"é😀"'),
            ('a"b\\c/\n\r\t\b\f\x00\x1f\x7f', '"a\\"b\\\\c/\\n\\r\\t\\b\\f\\u0000\\u001f\x7f"'),
            ("\u2028\u2029\ufeff", '"\u2028\u2029\ufeff"'),
            ([], "[]"),
            ([1, [2, []]], "[1,[2,[]]]"),
            ({}, "{}"),
            ({"a": {"b": 1}, "": None}, '{"a":{"b":1},"":null}'),
        ],
    )
    def test_round_trip(self, value, text):
        data = _native._encode_any(value)
        assert data.decode() == text
        back = _native._decode_any(data)
        assert back == value and type(back) is type(value)
        if isinstance(value, float):
            assert math.copysign(1, back) == math.copysign(1, value)

    @pytest.mark.parametrize(
        ("value", "arrives"),
        [
            ((1, (2,)), [1, [2]]),
            (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
            (collections.Counter("aab"), {"a": 2, "b": 1}),
            (collections.deque([1, 2]), [1, 2]),
            (enum.IntEnum("Level", "LOW HIGH").HIGH, 2),
            (enum.Enum("Colour", {"RED": "red"}).RED, "red"),
            (type("Text", (str,), {"__str__": lambda self: "no"})("yes"), "yes"),
            (type("Number", (int,), {"__repr__": lambda self: "no"})(7), 7),
            (type("Big", (int,), {"__repr__": lambda self: "no"})(10**30), 10**30),
            (type("Real", (float,), {})(0.5), 0.5),
            (type("Items", (list,), {})([1]), [1]),
            (dt.datetime(2026, 1, 2, 3, 4, 5, 6, UTC), "2026-01-02T03:04:05.000006Z"),
            (dt.datetime(1930, 1, 1, tzinfo=AMSTERDAM), "1929-12-31T23:59:28+00:19"),
            (dt.datetime(1930, 1, 1, tzinfo=LIBERIA), "1929-12-31T23:59:30-00:45"),
            ({"at": [dt.datetime(1930, 1, 1, tzinfo=AMSTERDAM)]}, {"at": ["1929-12-31T23:59:28+00:19"]}),
            (dt.date(2026, 1, 2), "2026-01-02"),
            (dt.timedelta(seconds=90), "PT90S"),
            (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
            (decimal.Decimal("1.50"), "1.50"),
            (pathlib.PurePosixPath("/a/b"), "/a/b"),
            ({"at": [dt.date(2026, 1, 2)]}, {"at": ["2026-01-02"]}),
        ],
    )
    def test_without_a_hint_a_value_arrives_as_its_json(self, value, arrives):
        back = _native._decode_any(_native._encode_any(value))
        assert back == arrives and type(back) is type(arrives)

    def test_points_in_time_inside_of_a_value_keep_their_instant(self):
        @dataclasses.dataclass
        class Log:
            when: dt.datetime
            all: dict[dt.datetime, list[dt.datetime]]

        old, new = dt.datetime(1930, 1, 1, tzinfo=AMSTERDAM), dt.datetime(2026, 1, 2, tzinfo=UTC)
        text = b'{"when":"1929-12-31T23:59:28+00:19","all":{"2026-01-02T00:00:00Z":["1929-12-31T23:59:28+00:19"]}}'
        assert _native._encode_any(Log(old, {new: [old]})) == text

    def test_str_enum_is_written_as_its_value(self):
        class Odd(str, enum.Enum):
            A = "a"

        assert _native._encode_any([Odd.A]) == b'["a"]'

    def test_dataclass_without_a_hint_is_a_dict(self):
        @dataclasses.dataclass
        class Point:
            x: int
            when: dt.date

        assert _native._encode_any(Point(1, dt.date(2026, 1, 2))) == b'{"x":1,"when":"2026-01-02"}'

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (math.nan, "v: NaN is not JSON"),
            (math.inf, "v: infinity is not JSON"),
            ([0, {"colors": [1, 2, {"alpha": math.nan}]}], "v at $[1].colors[2].alpha: NaN is not JSON"),
            ({"a b": (math.nan,)}, 'v at $["a b"][0]: NaN is not JSON'),
            ({'q"': math.nan}, 'v at $["q\\""]: NaN is not JSON'),
            ({"": math.nan}, 'v at $[""]: NaN is not JSON'),
            ({1: 2}, "v: the key 1 (int) is not a string"),
            ({"a": {None: 2}}, "v at $.a: the key NoneType is not a string"),
            ({(1, 2): 2}, "v: the key (1, 2) (tuple) is not a string"),
            ({"s": {1}}, "v at $.s: {1} (set) is not JSON"),
            ({"s": frozenset([1])}, "v at $.s: frozenset({1}) (frozenset) is not JSON"),
            (b"ab", "v: b'ab' (bytes) is not JSON"),
            (bytearray(b"ab"), "v: bytearray(b'ab') (bytearray) is not JSON"),
            (["ok", "\ud800"], r"v at $[1]: '\ud800' has a lone surrogate, which is not Unicode text"),
            ({"\udfff": 1}, r"v: '\udfff' has a lone surrogate, which is not Unicode text"),
            ([3 + 4j], "v at $[0]: (3+4j) (complex) is not JSON: complex cannot be written as JSON"),
            ([int], "v at $[0]: <class 'int'> (type) is not JSON: type cannot be written as JSON"),
            ({"x": array.array("i")}, "v at $.x: array('i') (array) is not JSON: array.array cannot be written"),
            ([10**5000], "v at $[0]: an int of so many digits that Python does not print it"),
        ],
    )
    def test_refused(self, value, message):
        error = refusal(_native._encode_any, value, "v")
        assert isinstance(error, taskloom.InvalidPayload)
        assert error.code == "TL1202"
        assert error.message.startswith(message)
        assert error.hint
        assert str(error) == f"{error.message}\nhint: {error.hint}"

    def test_object_that_breaks_when_described(self):
        class Broken:
            def __repr__(self):
                raise RuntimeError

        assert "Broken" in refusal(_native._encode_any, Broken()).message

    def test_huge_repr_is_shortened(self):
        assert len(refusal(_native._encode_any, [{1: "x" * 1000}]).message) < 100

        class Long:
            def __repr__(self):
                return "y" * 10_000

        assert len(refusal(_native._encode_any, Long()).message) < 300

    def test_interrupts_are_not_swallowed(self):
        class Interrupting(pathlib.PurePosixPath):
            def __str__(self):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            _native._encode_any(Interrupting())


class TestNesting:
    @pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: (x,), lambda x: {"k": x}])
    def test_limit_is_the_same_in_both_directions(self, wrap):
        value = 1
        for _ in range(DEEPEST):
            value = wrap(value)
        data = _native._encode_any(value)
        assert json.loads(_native._encode_any(_native._decode_any(data))) == json.loads(data)

        error = refusal(_native._encode_any, wrap(value), "v")
        assert error.message == "v: lists and dicts are nested more than 127 levels deep"
        deeper = json.dumps(wrap(json.loads(data))).encode()
        assert "more than 127 levels" in refusal(_native._decode_any, deeper).message

    def test_payload_object_counts(self):
        def f(x): ...

        value = []
        for _ in range(DEEPEST - 2):
            value = [value]
        of = plan(f)
        ((back,), _) = of._decode_call(of._encode_call((value,)))
        assert back == value
        assert "127 levels" in refusal(of._encode_call, ([value],)).message
        assert "127 levels" in refusal(of._decode_call, b'{"x":' + b"[" * DEEPEST + b"]" * DEEPEST + b"}").message

    def test_converted_values_obey_the_limit(self):
        def f(x: list[list[Any]]): ...

        nested = b"[" * DEEPEST + b"]" * DEEPEST
        assert "127 levels" in refusal(plan(f)._decode_call, b'{"x":' + nested + b"}").message

    def test_unclosed_depth_does_not_overflow_the_stack(self):
        assert "127 levels" in refusal(_native._decode_any, b"[" * 1_000_000).message
        assert "127 levels" in refusal(_native._decode_any, b'{"a":' * 1_000_000).message

    def test_cycles(self):
        items = [1]
        items.append(items)
        assert refusal(_native._encode_any, items, "v").message == "v: it contains itself, at $[1]"
        tree = {"name": "root"}
        tree["children"] = [{"name": "leaf", "parent": tree}]
        error = refusal(_native._encode_any, {"tree": tree}, "v")
        assert "it contains itself, at $.tree" in error.message
        assert error.hint == "refer to it by a key, not by itself"
        assert len(error.message) < 120

    def test_same_object_twice_is_no_cycle(self):
        shared = [1]
        assert _native._encode_any([shared, shared]) == b"[[1],[1]]"

    def test_dict_that_changes_while_it_is_encoded(self):
        class Meddler(pathlib.PurePosixPath):
            def __str__(self):
                meddle()
                return "x"

        def grow():
            target["c"] = 1

        def swap():
            del target["b"]
            target["d"] = 1

        def empty():
            target.clear()

        for meddle in (grow, swap, empty):
            target = {"a": Meddler(), "b": 1}
            if meddle is not swap:
                error = refusal(_native._encode_any, {"t": target}, "v")
                assert error.message == "v at $.t: the dict changed while it was encoded"
            else:  # as many keys as before: whatever is written, it is JSON
                assert json.loads(_native._encode_any(target))["a"] == "x"

    def test_list_that_changes_while_it_is_encoded(self):
        class Meddler(pathlib.PurePosixPath):
            def __str__(self):
                target.clear()
                return "x"

        target = [Meddler(), 1, 2]
        assert _native._encode_any(target) == b'["x"]'


class TestDecoding:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            (' \n\t\r[ 1 , {"a" : 2 } ] ', [1, {"a": 2}]),
            ('"\\u0041\\ud83d\\ude00\\/\\b\\f\\n\\r\\t\\"\\\\"', 'A😀/\b\f\n\r\t"\\'),
            ('{"\\u0061":1}', {"a": 1}),
            ('{"a":1,"a":2}', {"a": 2}),
            ("-0", 0),
            ("1E5", 100000.0),
            ("1e-5", 1e-05),
            ("1.5e+3", 1500.0),
            ("123456789012345678", 123456789012345678),
            ("1234567890123456789", 1234567890123456789),
            ("-9223372036854775809", -9223372036854775809),
            ('{"é":"\\u00e9"}', {"é": "é"}),
        ],
    )
    def test_reads(self, text, value):
        back = _native._decode_any(text.encode())
        assert back == value and type(back) is type(value)

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("", "expected a value, found the end at byte 0"),
            ("   ", "expected a value, found the end at byte 3"),
            ("nul", "expected a value at byte 0"),
            ("NaN", "expected a value at byte 0"),
            ("Infinity", "expected a value at byte 0"),
            ("-Infinity", "expected a digit at byte 1"),
            ("-", "expected a digit at byte 1"),
            ("+1", "expected a value"),
            ("01", "a number begins with a zero"),
            ("-01", "a number begins with a zero"),
            ("1.", "expected a digit"),
            (".5", "expected a value"),
            ("1e", "expected a digit"),
            ("1e400", "a number is beyond what a float holds"),
            ("[1", "expected a comma or the end"),
            ("[1,]", "expected a value at byte 3"),
            ("[1 2]", "expected a comma or the end"),
            ('{"a"}', "expected a colon"),
            ("{1:2}", "expected a key in double quotes"),
            ('{"a":1,}', "expected a key in double quotes"),
            ('{"a":1]', "expected a comma or the end"),
            ('"abc', "a string has no end"),
            ('"\\', "an escape that JSON does not have"),
            ('"\\x"', "an escape that JSON does not have"),
            ('"\\u12"', "\\u needs four hexadecimal digits"),
            ('"\\u+123"', "\\u needs four hexadecimal digits"),
            ('"\\ud800"', "a lone surrogate"),
            ('"\\ude00\\ud83d"', "a lone surrogate"),
            ('"\\ud83d\\u0041"', "a lone surrogate"),
            ('"a\nb"', "a control character in a string is not escaped"),
            ("1 2", "there is more after the value"),
            ("'a'", "expected a value"),
            ("1" * 5000, "an integer has more digits than Python converts"),
        ],
    )
    def test_refuses(self, text, problem):
        error = refusal(_native._decode_any, text.encode())
        assert isinstance(error, taskloom.InvalidPayload) and error.code == "TL1201"
        assert problem in error.message

    def test_not_utf8(self):
        assert "not UTF-8 from byte 2" in refusal(_native._decode_any, b'"a\xff"').message
        assert (
            refusal(_native._decode_any, b'"\xed\xa0\x80"').code == "TL1201"
        )  # a surrogate, encoded as if it were text

    def test_message_shows_the_place(self):
        text = '{"first": [1, 2, 3], "second": é, "third": 1}'.encode()
        assert "near " in refusal(_native._decode_any, text).message

    def test_keys_that_share_a_slot_stay_apart(self):
        rows = [{f"{a}{b}{c}": a * b for a in range(6) for b in range(6) for c in "xy"} for _ in range(3)]
        assert _native._decode_any(json.dumps(rows).encode()) == rows


def _random_value(rng, depth=0):
    kind = rng.randrange(9 if depth < 5 else 6)
    if kind == 0:
        return rng.choice([None, True, False])
    if kind == 1:
        return rng.randrange(-(10 ** rng.randrange(1, 40)), 10 ** rng.randrange(1, 40))
    if kind == 2:
        return rng.uniform(-1, 1) * 10.0 ** rng.randrange(-300, 300)
    if kind in (3, 4, 5):
        alphabet = rng.choice(["abc", 'a"\\/\n\t\x00\x1f\x7f', "é€\u2028", "😀a\U0010ffff"])
        return "".join(rng.choice(alphabet) for _ in range(rng.randrange(30)))
    if kind in (6, 7):
        return [_random_value(rng, depth + 1) for _ in range(rng.randrange(6))]
    return {f"{rng.choice('kéq')}{rng.randrange(20)}": _random_value(rng, depth + 1) for _ in range(rng.randrange(6))}


class TestAgainstJson:
    def test_random_values(self):
        rng = random.Random(20260102)
        for _ in range(3000):
            value = _random_value(rng)
            ours = _native._encode_any(value)
            assert json.loads(ours) == value
            assert _native._decode_any(ours) == value
            for style in ({}, {"ensure_ascii": False}, {"indent": 1}):
                assert _native._decode_any(json.dumps(value, **style).encode()) == value

    def test_damaged_texts(self):
        """Whatever json refuses, we refuse, and the other way round, but for what we say we do otherwise."""
        rng = random.Random(7)
        agreed = 0
        for _ in range(20000):
            text = json.dumps(_random_value(rng, 3), ensure_ascii=rng.random() < 0.5)
            chars = list(text)
            for _ in range(rng.randrange(1, 3)):
                at = rng.randrange(len(chars) + 1)
                chars[at : at + rng.randrange(2)] = rng.choice(['"', "\\", "{", "]", ",", "0", "-", "e", ".", " ", "u"])
            text = "".join(chars)
            try:
                theirs = json.loads(text)
                text_again = json.dumps(theirs)
                surrogate = any(0xD800 <= ord(c) <= 0xDFFF for c in json.dumps(theirs, ensure_ascii=False))
                if surrogate or "Infinity" in text_again or "NaN" in text_again:
                    continue
            except ValueError:
                with pytest.raises(taskloom.InvalidPayload):
                    _native._decode_any(text.encode())
            else:
                assert _native._decode_any(text.encode()) == theirs
                agreed += 1
        assert agreed > 1000

    def test_floats_survive_exactly(self):
        rng = random.Random(3)
        values = [rng.uniform(-1, 1) * 2.0 ** rng.randrange(-1074, 1023) for _ in range(5000)]
        assert _native._decode_any(_native._encode_any(values)) == values


class TestResults:
    def test_plain(self):
        def f() -> int: ...

        of = plan(f)
        assert of._encode_result(3) == b"3" and of._decode_result(b"3") == 3
        assert of.name == "f"

    def test_converted(self):
        class Answer(NamedTuple):
            at: dt.datetime
            parts: set[int]

        def f() -> dict[int, Answer]: ...

        of = build_plan(f, "f", localns=locals())
        value = {1: Answer(dt.datetime(2026, 1, 2, tzinfo=UTC), {5})}
        data = of._encode_result(value)
        assert data == b'{"1":["2026-01-02T00:00:00Z",[5]]}'
        assert of._decode_result(data) == value

    def test_float_hint_makes_a_float(self):
        def f() -> float: ...

        assert type(plan(f)._decode_result(plan(f)._encode_result(3))) is float

    def test_async(self):
        async def f(a: int) -> dt.date: ...

        assert plan(f)._decode_result(plan(f)._encode_result(dt.date(2026, 1, 2))) == dt.date(2026, 1, 2)

    @pytest.mark.parametrize(
        ("hint", "value", "message"),
        [
            (None, [math.nan], "f: result at $[0]: NaN is not JSON"),
            ("int", {1}, "f: result: {1} (set) is not JSON"),
            ("dt.datetime", "soon", "f: result: expected datetime, got 'soon' (str): Invalid RFC3339"),
            ("list[dt.date]", [1], "f: result: expected list[datetime.date], got [1] (list): Expected `date`"),
            ("bytes", "abcd", "f: result: expected bytes, got 'abcd' (str)"),
        ],
    )
    def test_refused(self, hint, value, message):
        def f(): ...

        if hint:
            f.__annotations__["return"] = hint
        error = refusal(plan(f)._encode_result, value)
        assert isinstance(error, taskloom.InvalidPayload) and error.code == "TL1204"
        assert error.message.startswith(message)

    def test_refused_when_read(self):
        def f() -> dt.date: ...

        error = refusal(plan(f)._decode_result, b'"soon"')
        assert error.code == "TL1203" and error.message.startswith('f: result: expected date, got "soon"')
        assert error.__cause__ is not None


def test_plan_refuses_nonsense():
    for params in ([("a", 9, False, None, False, None)], [("a", 1, False, None, False, (200, "x", None, False))]):
        with pytest.raises(ValueError):
            _native.Plan("f", params, None)


def test_plan_is_immutable():
    with pytest.raises(AttributeError):
        plan(lambda: None, "f").name = "g"
    assert isinstance(_native.Plan, type) and isinstance(_native, types.ModuleType)
