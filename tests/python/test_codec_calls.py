"""Calls: how arguments become one JSON object, and an object arguments, whatever kinds of parameters there are."""

from __future__ import annotations

import datetime as dt
import functools
import gc
import json
import math
import pathlib
import threading
import weakref

import pytest

import taskloom
from helpers import refusal
from plans import Context, call, plan
from taskloom import _native
from taskloom._signature import build_plan


class TestCalls:
    def test_names_and_order(self):
        def f(a, b, *, c): ...

        assert plan(f)._encode_call((1,), {"c": 3, "b": 2}) == b'{"a":1,"b":2,"c":3}'

    def test_every_kind_of_parameter(self):
        def f(a, /, b, c=3, *rest, d, e=5, **more):
            return (a, b, c, rest, d, e, more)

        assert call(f, 1, 2, d=4) == (1, 2, 3, (), 4, 5, {})
        assert call(f, 1, 2, 30, 40, 50, d=4, e=6, z=7) == (1, 2, 30, (40, 50), 4, 6, {"z": 7})
        assert call(f, 1, d=4, b=2) == (1, 2, 3, (), 4, 5, {})
        assert plan(f)._encode_call((1, 2, 3, 4), {"d": 5, "z": 6}) == b'{"a":1,"b":2,"c":3,"rest":[4],"d":5,"z":6}'

    def test_payload_of_another_language(self):
        def f(a, /, b, c=3, *rest, d=4, **more):
            return (a, b, c, rest, d, more)

        of = plan(f)
        args, kwargs = of._decode_call(b' { "d" : 9 , "rest" : [ 7 , 8 ] , "z" : null , "b" : 2 , "\\u0061" : 1 } ')
        assert f(*args, **kwargs) == (1, 2, 3, (7, 8), 9, {"z": None})

    def test_by_name_positional_only_and_rest_take_their_payload_form(self):
        def f(a, /, *rest): ...

        assert plan(f)._encode_call((), {"a": 1, "rest": [2, 3]}) == b'{"a":1,"rest":[2,3]}'
        assert plan(f)._decode_call(b'{"a":1,"rest":[2,3]}') == ((1, 2, 3), None)

    def test_defaults_apply_when_it_runs(self):
        def f(a, b=[], *, c=object): ...  # noqa: B006 (a default that JSON could say, and one that it could not)

        assert plan(f)._encode_call((1,)) == b'{"a":1}'
        assert plan(f)._decode_call(b'{"a":1}') == ((1,), None)

    def test_a_gap_is_filled_with_the_default(self):
        marker = object()

        def f(a=marker, b=2, c=3): ...

        args, kwargs = plan(f)._decode_call(b'{"b":20}')
        assert args == (marker, 20) and kwargs is None

    def test_no_arguments(self):
        def f(): ...

        of = plan(f)
        assert of._encode_call(()) == b"{}"
        for payload in (b"{}", b" { } ", b"null", b""):
            assert of._decode_call(payload) == ((), None)

    def test_many_parameters(self):
        source = ", ".join(f"p{i}={i}" for i in range(30))
        space = {}
        exec(f"def f({source}): return [{', '.join(f'p{i}' for i in range(30))}]", space)
        assert call(space["f"], p29=0, p3="x") == [*range(3), "x", *range(4, 29), 0]

    def test_odd_names(self):
        def f(größe, **more):
            return größe, more

        assert call(f, größe=1, **{'a"b\n': 2, "": 3}) == (1, {'a"b\n': 2, "": 3})

    @pytest.mark.parametrize(
        ("args", "kwargs", "message", "hint"),
        [
            ((), {}, 'resize: missing argument "path"', "it is resize(path, width=…)"),
            ((1, 2, 3), {}, "resize: takes 2 positional arguments, 3 given", "it is resize(path, width=…)"),
            (("a",), {"widht": 3}, 'resize: unknown argument "widht"', 'did you mean "width"?'),
            (("a",), {"zzz": 3}, 'resize: unknown argument "zzz"', "it is resize(path, width=…)"),
            (("a",), {"path": "b"}, 'resize: argument "path" is given twice', None),
            (("a",), {"ctx": 1}, 'resize: argument "ctx" cannot be passed', "leave it out: the context is given"),
            (("a",), {1: 1}, "resize: the name 1 (int) is not a string", None),
            (("a",), {"\ud800": 1}, r"resize: the name '\ud800' (str) is not Unicode", None),
            ((5,), {}, 'resize: argument "path": expected str, got 5 (int)', None),
            (("a", "wide"), {}, "resize: argument \"width\": expected int, got 'wide' (str)", None),
            (("a", True), {}, 'resize: argument "width": expected int, got True (bool)', None),
            (("a", 1.0), {}, 'resize: argument "width": expected int, got 1.0 (float)', None),
            (("a", None), {}, 'resize: argument "width": expected int, got NoneType', None),
            ((dt.date(2026, 1, 2),), {}, 'resize: argument "path": expected str, got datetime.date(2026', None),
        ],
    )
    def test_refused_at_submit(self, args, kwargs, message, hint):
        def resize(path: str, ctx: Context, width: int = 3): ...

        error = refusal(plan(resize)._encode_call, args, kwargs)
        assert isinstance(error, taskloom.InvalidPayload)
        assert error.code == ("TL1203" if "expected" in message else "TL1201")
        assert error.message.startswith(message)
        assert (error.hint or "").startswith(hint or "")

    @pytest.mark.parametrize(
        ("payload", "code", "message"),
        [
            (b"[1]", "TL1201", "resize: the payload is [1], not an object"),
            (b"5", "TL1201", "resize: the payload is 5, not an object"),
            (b"{}", "TL1201", 'resize: missing arguments "path", "mode"'),
            (b'{"path":"a"}', "TL1201", 'resize: missing argument "mode"'),
            (b'{"path":"a","widht":1}', "TL1201", 'resize: unknown argument "widht"'),
            (b'{"ctx":1}', "TL1201", 'resize: argument "ctx" cannot be passed'),
            (b'{"path":5}', "TL1203", 'resize: argument "path": expected str, got 5: '),
            (b'{"path":"a","width":"x"}', "TL1203", 'resize: argument "width": expected int, got "x": '),
            (b'{"path" "a"}', "TL1201", "resize: payload is not JSON that we read: expected a colon at byte 8"),
            (b'{"path":"a"', "TL1201", "resize: payload is not JSON that we read: expected a comma"),
            (b"{path:1}", "TL1201", "resize: payload is not JSON that we read: expected a key in double quotes"),
            (b'{"path":"a"} x', "TL1201", "resize: payload is not JSON that we read: there is more"),
            (b'{"path":"\xff"}', "TL1201", "resize: payload is not UTF-8 from byte 9"),
        ],
    )
    def test_refused_when_it_runs(self, payload, code, message):
        def resize(path: str, ctx: Context, width: int = 3, *, mode): ...

        error = refusal(plan(resize)._decode_call, payload, Context)
        assert isinstance(error, taskloom.InvalidPayload) and error.code == code
        assert error.message.startswith(message)

    def test_path_of_an_argument(self):
        def resize(opts, *rest, **more): ...

        of = plan(resize)
        nan = math.nan
        cases = [
            (({"colors": [1, 2, {"alpha": nan}]},), {}, 'argument "opts" at $.colors[2].alpha: NaN is not JSON'),
            ((1, 2, [nan]), {}, 'argument "rest" at $[1][0]: NaN is not JSON'),
            ((1,), {"extra": [nan]}, 'argument "extra" at $[0]: NaN is not JSON'),
        ]
        for args, kwargs, message in cases:
            assert refusal(of._encode_call, args, kwargs).message == f"resize: {message}"

    def test_hints_of_rest_and_more(self):
        def f(*rest: int, **more: dt.date):
            return rest, more

        assert call(f, 1, 2, a=dt.date(2026, 1, 2)) == ((1, 2), {"a": dt.date(2026, 1, 2)})
        error = refusal(plan(f)._encode_call, (1, "x"))
        assert error.message == "f: argument \"rest\" at $[1]: expected int, got 'x' (str)"
        assert 'argument "a": expected date' in refusal(plan(f)._encode_call, (), {"a": 3}).message
        assert 'argument "rest": expected int' in refusal(plan(f)._decode_call, b'{"rest":["x"]}').message
        assert "must be an array" in refusal(plan(f)._decode_call, b'{"rest":1}').message
        assert "must be a list" in refusal(plan(f)._encode_call, (), {"rest": 1}).message

    def test_size_limit(self):
        def f(text): ...

        of = plan(f)
        limit = 4 * 1024 * 1024
        fits = "x" * (limit - len('{"text":""}'))
        assert len(of._encode_call((fits,))) == limit
        error = refusal(of._encode_call, (fits + "x",))
        assert isinstance(error, taskloom.PayloadTooLarge) and error.code == "TL1205"
        assert error.message == f"f: {limit + 1} bytes of JSON, {limit} at most"
        error = refusal(of._encode_call, (["x" * 1000] * 10_000,))
        assert isinstance(error, taskloom.PayloadTooLarge) and 'argument "text"' in error.message
        assert isinstance(refusal(of._encode_result, "x" * limit), taskloom.PayloadTooLarge)
        # Far more than memory would take: the walk stops at the limit.
        assert isinstance(refusal(of._encode_result, [["x" * 1_000_000] * 1000] * 1000), taskloom.PayloadTooLarge)

    def test_context(self):
        made = []

        def make():
            made.append(Context())
            return made[-1]

        def first(ctx: Context, a: int): ...
        def last(a: int, ctx: Context | None = None): ...
        def named(a: int, *, ctx: Context): ...
        def quoted(a: int, ctx: Context | None): ...
        def plain(a: int): ...

        for function in (first, last, named, quoted):
            of = plan(function)
            assert of._encode_call((1,)) == b'{"a":1}'
            args, kwargs = of._decode_call(b'{"a":1}', make)
            bound = {**(kwargs or {})}
            names = list(function.__code__.co_varnames[: len(args)])
            assert {**dict(zip(names, args)), **bound} == {"a": 1, "ctx": made[-1]}
        assert len(made) == 4
        plan(plain)._decode_call(b'{"a":1}', make)
        assert len(made) == 4

        def broken():
            raise LookupError("gone")

        with pytest.raises(LookupError):
            plan(first)._decode_call(b'{"a":1}', broken)

    def test_threads_and_reentrancy(self):
        """A value whose conversion encodes something itself, on several threads: buffers do not mix."""

        class Nested(pathlib.PurePosixPath):
            def __str__(self):
                inner = ["inner"] * 50
                assert json.loads(_native._encode_any(inner)) == inner
                return super().__str__()

        def f(a, b, c): ...

        of = plan(f)
        failures = []

        def work(seed):
            for i in range(300):
                data = of._encode_call((seed, Nested(str(i)), "tail"))
                if json.loads(data) != {"a": seed, "b": str(i), "c": "tail"}:
                    failures.append(data)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures

    def test_garbage_is_collected(self):
        def make():
            class Handler:
                def run(self, a=None): ...

            Handler.run.plan = build_plan(Handler.run, "run")
            handler = Handler()
            Handler.run.plan2 = build_plan(functools.partial(handler.run, a=[handler]), "run")
            Handler.kept = handler
            return weakref.ref(handler)

        gone = make()
        gc.collect()
        assert gone() is None
