"""Hints: what each makes of its value, and which are refused when the handler is registered."""

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import pathlib
import subprocess
import sys
import threading
import typing
import uuid
from collections import abc
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar, Union

import msgspec
import pytest

import taskloom
from helpers import refusal, shown
from plans import Context
from taskloom._signature import build_plan

pydantic = pytest.importorskip("pydantic")

UTC = dt.timezone.utc


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Mode(str, enum.Enum):
    FAST = "fast"


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0
    tags: set[str] = dataclasses.field(default_factory=set)


@dataclasses.dataclass
class Node:
    value: int
    children: typing.List["Node"] = dataclasses.field(default_factory=list)


class Box(msgspec.Struct):
    size: int
    when: Optional[dt.datetime] = None


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    name: str


class Options(TypedDict, total=False):
    width: typing.Required[int] if sys.version_info >= (3, 11) else int
    when: dt.date


class Pair(NamedTuple):
    left: int
    right: dt.date


class Model(pydantic.BaseModel):
    when: dt.datetime
    price: decimal.Decimal = decimal.Decimal(1)
    kind: Colour = Colour.RED


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    day: dt.date
    parts: tuple[int, ...] = ()


class Aliased(pydantic.BaseModel):
    size: int = pydantic.Field(alias="Size")


class Secret(pydantic.BaseModel):
    token: pydantic.SecretStr


@pydantic.dataclasses.dataclass
class Checked:
    n: Annotated[int, pydantic.Field(gt=0)]


@dataclasses.dataclass
class Holder:
    model: Model
    path: pathlib.Path


class Mixed(msgspec.Struct):
    model: Model


T = TypeVar("T")
Bound = TypeVar("Bound", bound=dt.date)
UserId = NewType("UserId", int)
When = NewType("When", dt.datetime)
NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LONG_AGO = dt.datetime(1880, 1, 1, tzinfo=dt.timezone(dt.timedelta(minutes=49, seconds=56)))  # in Rome
MODEL = Model(when=NOW, price=decimal.Decimal("1.5"), kind=Colour.BLUE)


def taking(hint, name="f"):
    def function(x): ...

    function.__annotations__["x"] = hint
    return build_plan(function, name, Context)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Any, {"a": [1, 2.5, "x", None, True]}),
        (object, [1]),
        (int, 10**30),
        (float, 1.5),
        (str, "é"),
        (bool, True),
        (None, None),
        (list, [1, "a"]),
        (typing.List, [1]),
        (list[Any], [1, "a"]),
        (dict, {"a": 1}),
        (dict[str, Any], {"a": [None]}),
        (typing.Dict[str, Any], {"a": 1}),
        (Optional[int], None),
        (Optional[int], 3),
        (Union[int, str, None], "x"),
        (int | list, [1]),
        (UserId, 5),
        (T, {"any": 1}),
        (Annotated[int, "metadata"], 5),
        (dt.datetime, NOW),
        (dt.datetime, dt.datetime(2026, 1, 2)),
        (dt.datetime, LONG_AGO),
        (dict[dt.datetime, list[dt.datetime]], {LONG_AGO: [NOW, LONG_AGO]}),
        (Box, Box(1, LONG_AGO)),
        (dt.date, dt.date(2026, 1, 2)),
        (dt.time, dt.time(1, 2, 3)),
        (dt.timedelta, dt.timedelta(days=1, seconds=2, microseconds=3)),
        (When, NOW),
        (Bound, dt.date(2026, 1, 2)),
        (uuid.UUID, uuid.UUID(int=7)),
        (decimal.Decimal, decimal.Decimal("0.10")),
        (bytes, b"\x00\xff"),
        (Optional[bytes], b"ab"),
        (bytearray, bytearray(b"ab")),
        (pathlib.Path, pathlib.Path("/tmp/a")),
        (Optional[pathlib.Path], pathlib.Path("a")),
        (Colour, Colour.BLUE),
        (Mode, Mode.FAST),
        (enum.IntEnum("Level", "LOW HIGH"), 2),
        (Literal["a", "b", 3], "b"),
        (set[int], {1, 2}),
        (frozenset[str], frozenset("ab")),
        (tuple[int, dt.date], (1, dt.date(2026, 1, 2))),
        (tuple[int, ...], (1, 2, 3)),
        (list[int], [1, 2]),
        (list[set[uuid.UUID]], [{uuid.UUID(int=1)}]),
        (dict[str, int], {"a": 1}),
        (dict[int, str], {1: "a"}),
        (dict[uuid.UUID, dt.date], {uuid.UUID(int=1): dt.date(2026, 1, 2)}),
        (dict[Colour, int], {Colour.RED: 1}),
        (abc.Sequence[int], [1]),
        (abc.Mapping[str, dt.date], {"a": dt.date(2026, 1, 2)}),
        (Union[dt.datetime, None, int], NOW),
        (Union[dt.datetime, int], 5),
        (Annotated[int, msgspec.Meta(gt=0)], 5),
        (Annotated[str, msgspec.Meta(pattern="^a")], "abc"),
        (Point, Point(1, 2.0, {"a"})),
        (list[Point], [Point(1)]),
        (Optional[Point], None),
        (Node, Node(1, [Node(2, [Node(3)])])),
        (Box, Box(1, NOW)),
        (Union[Cat, Dog], Dog("rex")),
        (Options, {"width": 1, "when": dt.date(2026, 1, 2)}),
        (Pair, Pair(1, dt.date(2026, 1, 2))),
        (Model, MODEL),
        (Optional[Model], MODEL),
        (Optional[Model], None),
        (list[Model], [MODEL, MODEL]),
        (dict[str, Model], {"a": MODEL}),
        (tuple[Model, bytes], (MODEL, b"\x00\xff")),
        (Union[Model, Aliased], Aliased(Size=3)),
        (Strict, Strict(day=dt.date(2026, 1, 2), parts=(1, 2))),
        (Aliased, Aliased(Size=3)),
        (Checked, Checked(3)),
        (Annotated[int, pydantic.Field(gt=0)], 5),
        (pydantic.AnyUrl, pydantic.AnyUrl("https://example.com/")),
        (Holder, Holder(MODEL, pathlib.Path("a"))),
        (Mixed, Mixed(MODEL)),
        (tuple[Box, Model], (Box(1), MODEL)),
    ],
    ids=shown,
)
def test_round_trip(hint, value):
    of = taking(hint)
    ((back,), kwargs) = of._decode_call(of._encode_call((value,)))
    assert back == value and kwargs is None
    assert isinstance(value, int) or type(back) is type(value)
    if not isinstance(hint, TypeVar):

        def result(): ...

        result.__annotations__["return"] = hint
        of = build_plan(result, "f", Context)
        assert of._decode_result(of._encode_result(value)) == value


@pytest.mark.parametrize(
    ("hint", "value", "message"),
    [
        (int, "1", "expected int, got '1' (str)"),
        (str, 1, "expected str, got 1 (int)"),
        (str, pathlib.Path("a"), "expected str, got PosixPath('a') (PosixPath)"),
        (bool, 1, "expected bool, got 1 (int)"),
        (float, "1", "expected float, got '1' (str)"),
        (float, 10**400, "expected float, got 1000"),
        (Optional[int], "x", "expected int | None, got 'x' (str)"),
        (list, {"a": 1}, "expected list, got {'a': 1} (dict)"),
        (dict, [1], "expected dict, got [1] (list)"),
        (list[int], [1, "x"], "expected list[int], got [1, 'x'] (list): Expected `int`, got `str` - at `$[1]`"),
        (dt.datetime, "soon", "expected datetime, got 'soon' (str): Invalid RFC3339"),
        (dt.datetime, 5, "expected datetime, got 5 (int): Expected `datetime`, got `int`"),
        (bytes, "YWI=", "expected bytes, got 'YWI=' (str)"),
        (Colour, "green", "expected Colour, got 'green' (str): Invalid enum value 'green'"),
        (Literal["a"], "b", "expected Literal['a'], got 'b' (str): Invalid enum value 'b'"),
        (Annotated[int, msgspec.Meta(gt=0)], 0, "expected Annotated[int, "),
        (Point, {"x": "a"}, "expected Point, got {'x': 'a'} (dict): Expected `int`, got `str` - at `$.x`"),
        (Box, {}, "expected Box, got {} (dict): Object missing required field `size`"),
        (Options, {"when": dt.date(2026, 1, 2)} if sys.version_info >= (3, 11) else {"when": 1}, "expected Options"),
        (Model, {"when": "soon"}, "expected Model, got {'when': 'soon'} (dict): Input should be a valid datetime"),
        (list[Model], [{"price": 1}], "expected list["),
        (Annotated[int, pydantic.Field(gt=0)], 0, "expected Annotated[int, "),
        (Checked, {"n": 0}, "expected Checked, got {'n': 0} (dict): Input should be greater than 0 - at `$.n`"),
        (Holder, {"model": {"when": 1}, "path": 3}, "expected Holder"),
    ],
)
def test_wrong_values(hint, value, message):
    error = refusal(taking(hint)._encode_call, (value,))
    assert isinstance(error, taskloom.InvalidPayload) and error.code == "TL1203"
    assert error.message.startswith(f'f: argument "x": {message}')


@pytest.mark.parametrize(
    ("hint", "value", "message"),
    [
        (list[Any], [b"a"], "f: argument \"x\" at $[0]: b'a' (bytes) is not JSON"),
        (list[float], [1.0, float("nan")], 'f: argument "x" at $[1]: NaN is not JSON'),
        (Point, Point(1, float("inf")), 'f: argument "x" at $.y: infinity is not JSON'),
        (dict[int, Any], {1: {2: 3j}}, 'f: argument "x" at $.1.2: 3j (complex) is not JSON'),
        (dict[int, Any], {None: 1}, 'f: argument "x": the key NoneType cannot be written as a string'),
        (Model, Secret(token="abc"), "f: argument \"x\": Secret(token=SecretStr('**********')) (Secret) is not JSON: "),
        (int, object, "f: argument \"x\": expected int, got <class 'object'> (type)"),
    ],
)
def test_values_that_cannot_be_written(hint, value, message):
    assert refusal(taking(hint)._encode_call, (value,)).message.startswith(message)


def test_an_int_becomes_the_float_of_its_hint():
    of = taking(float)
    assert of._encode_call((3,)) == b'{"x":3.0}'
    for payload in (b'{"x":3}', b'{"x":3.0}'):
        ((back,), _) = of._decode_call(payload)
        assert back == 3.0 and type(back) is float


def test_none_as_default_admits_none():
    def f(size: int = None, when: dt.date = None): ...  # noqa: RUF013

    of = build_plan(f, "f")
    assert of._encode_call((None, None)) == b'{"size":null,"when":null}'
    assert of._decode_call(b'{"size":null,"when":"2026-01-02"}') == ((None, dt.date(2026, 1, 2)), None)


def test_json_of_another_language_is_converted():
    of = taking(Point)
    assert of._decode_call(b'{"x": {"x": 1, "y": 2, "unknown": [{}, "}"]} }') == ((Point(1, 2.0),), None)
    assert of._encode_call(({"x": 1},)) == b'{"x":{"x":1}}'


def test_error_keeps_its_cause():
    error = refusal(taking(Model)._decode_call, b'{"x":{"when":"soon"}}')
    assert 'f: argument "x": expected Model, got {"when":"soon"}: Input should be' in error.message
    assert "errors.pydantic.dev" not in error.message
    assert isinstance(error.__cause__, ValueError)


@pytest.mark.parametrize(
    ("hint", "text", "reason"),
    [
        (abc.Callable, "Callable", "Callable cannot be made from JSON"),
        (abc.Callable[[int], str], "Callable[[int], str]", "Callable cannot be made from JSON"),
        (typing.Callable[..., Any], "Callable[..., Any]", "Callable cannot be made from JSON"),
        (type(threading.Lock()), "lock", "lock cannot be made from JSON"),
        (threading.Thread, "Thread", "threading.Thread cannot be made from JSON"),
        (list[threading.Thread], "list[threading.Thread]", "threading.Thread cannot be made from JSON"),
        (Optional[threading.Thread], "Thread | None", "threading.Thread cannot be made from JSON"),
        (abc.Iterator[int], "Iterator[int]", "Iterator cannot be made from JSON"),
        (type, "type", "type cannot be made from JSON"),
        (complex, "complex", "complex cannot be made from JSON"),
        (Union[set[int], list[int]], "set[int] | list[int]", "Type unions may not contain more than one array-like"),
        (Context, None, None),
        (list[Context], "list[", "Context cannot be made from JSON"),
        ("Missing", "'Missing'", "NameError: name 'Missing' is not defined"),
        ("list[Missing]", "'list[Missing]'", "NameError: name 'Missing' is not defined"),
        ("1 +", "'1 +'", "SyntaxError"),
        (3, "3", ""),
    ],
)
def test_hints_that_are_refused_at_registration(hint, text, reason):
    if text is None:
        assert taking(hint)._encode_call(()) == b"{}"
        return
    error = refusal(taking, hint, "resize")
    assert isinstance(error, taskloom.InvalidOptions) and error.code == "TL1010"
    assert error.message.startswith(f'resize: parameter "x": hint {text}')
    assert " cannot be supported: " in error.message and reason in error.message
    assert error.hint


def test_dataclass_with_a_bad_field_is_refused():
    @dataclasses.dataclass
    class Bad:
        lock: threading.Thread

    assert "threading.Thread cannot be made from JSON" in refusal(taking, Bad).message

    @dataclasses.dataclass
    class Dangling:
        other: "Nowhere"  # noqa: F821

    assert "Nowhere" in refusal(taking, Dangling).message


def test_result_hints_are_refused_too():
    def f() -> abc.Iterator[int]: ...
    def g() -> Context: ...

    assert refusal(build_plan, f, "f", Context).message.startswith("f: result: hint Iterator[int] cannot be")
    assert refusal(build_plan, g, "g", Context).message.startswith("g: result: hint Context cannot be")

    def h() -> typing.NoReturn: ...

    build_plan(h, "h", Context)


def test_context_in_the_wrong_place():
    def rest(*ctx: Context): ...
    def more(**ctx: Context): ...
    def two(a: Context, b: Context): ...

    assert "*ctx cannot take the context" in refusal(build_plan, rest, "f", Context).message
    assert "**ctx cannot take the context" in refusal(build_plan, more, "f", Context).message
    assert refusal(build_plan, two, "f", Context).message == "f: parameters 'a', 'b' all take the context"


def test_context_by_name_when_it_is_not_imported():
    space: dict[str, Any] = {}
    for text in ("Context", "taskloom.Context", "Optional[Context]", "Context | None", "typing.Optional[tl.Context]"):
        exec(f"def f(a: int, ctx: {text!r}): ...", space)
        of = build_plan(space["f"], "f", Context)
        assert of._encode_call((1,)) == b'{"a":1}'
    exec("def f(a: 'MyContext'): ...", space)
    assert "MyContext" in refusal(build_plan, space["f"], "f", Context).message


def test_annotated_context():
    def f(ctx: Annotated[Optional[Context], "injected"] = None): ...

    assert build_plan(f, "f", Context)._decode_call(b"{}", lambda: 5) == ((5,), None)


def test_quotes_inside_a_generic():
    for hint in (list["Point"], "list['Point']", dict[str, "Optional[Point]"], Optional["Point"]):
        value = Point(1) if typing.get_origin(hint) is Union else [Point(1)]
        if typing.get_origin(hint) is dict:
            value = {"a": Point(1)}
        of = taking(hint)
        assert of._decode_call(of._encode_call((value,))) == ((value,), None)


def test_local_names():
    class Local(msgspec.Struct):
        a: int

    def f(x: "Local"): ...

    assert refusal(build_plan, f, "f").code == "TL1010"
    assert build_plan(f, "f", localns=locals())._decode_call(b'{"x":{"a":1}}') == ((Local(1),), None)


class TestCallables:
    def test_wraps(self):
        def decorator(function):
            @functools.wraps(function)
            def wrapper(*args, **kwargs):
                return function(*args, **kwargs)

            return wrapper

        @decorator
        def f(a: dt.date, b: int = 3): ...

        of = build_plan(f, "f")
        assert of._encode_call((dt.date(2026, 1, 2),)) == b'{"a":"2026-01-02"}'
        assert of._decode_call(b'{"a":"2026-01-02"}') == ((dt.date(2026, 1, 2),), None)

    def test_partial(self):
        def f(a: int, b: dt.date, c: int): ...

        of = build_plan(functools.partial(f, 1, c=3), "f")
        assert of._encode_call((dt.date(2026, 1, 2),)) == b'{"b":"2026-01-02"}'

    def test_methods_and_callables(self):
        class Handler:
            def run(self, a: "Point") -> None: ...

            @classmethod
            def make(cls, a: "Point") -> None: ...

            def __call__(self, a: "Point") -> None: ...

        for function in (Handler().run, Handler.make, Handler()):
            assert build_plan(function, "f")._decode_call(b'{"a":{"x":1}}') == ((Point(1),), None)

    def test_lambda_and_builtin(self):
        assert build_plan(lambda a, b=1: None, "f")._encode_call((1,)) == b'{"a":1}'
        assert build_plan(len, "len")._encode_call(([1],)) == b'{"obj":[1]}'
        error = refusal(build_plan, dict.fromkeys if False else max, "max")
        assert isinstance(error, taskloom.InvalidOptions) and "no signature" in error.message

    def test_generic_and_paramspec(self):
        P = typing.ParamSpec("P") if hasattr(typing, "ParamSpec") else None

        def f(*args: P.args, **kwargs: P.kwargs): ...

        assert build_plan(f, "f")._encode_call((1,), {"a": 2}) == b'{"args":[1],"a":2}'

        class Wrapper(msgspec.Struct, Generic[T]):
            item: T

        def g(x: Wrapper[dt.date]): ...

        assert build_plan(g, "g")._decode_call(b'{"x":{"item":"2026-01-02"}}') == (
            (Wrapper(dt.date(2026, 1, 2)),),
            None,
        )

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="typing.Unpack")
    def test_typed_kwargs(self):
        def f(**options: typing.Unpack[Options]): ...

        of = build_plan(f, "f")
        assert of._encode_call((), {"when": dt.date(2026, 1, 2), "width": 3}) == b'{"width":3,"when":"2026-01-02"}'
        assert of._decode_call(b'{"width":3}') == ((), {"width": 3})
        assert 'missing argument "width"' in refusal(of._encode_call, (), {}).message
        assert 'did you mean "width"' in refusal(of._encode_call, (), {"widht": 1}).hint

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters and aliases")
    def test_new_syntax(self):
        space: dict[str, Any] = {"dt": dt}
        exec(
            "type Size = int | None\ntype Day = dt.date\ndef f[V](size: Size, day: Day, any: V, quoted: 'V'): ...\n",
            space,
        )
        of = build_plan(space["f"], "f")
        assert of._decode_call(of._encode_call((None, dt.date(2026, 1, 2), "x", 1))) == (
            (None, dt.date(2026, 1, 2), "x", 1),
            None,
        )
        assert "expected" in refusal(of._encode_call, ("x", dt.date(2026, 1, 2), 1, 1)).message


def test_future_annotations():
    space: dict[str, Any] = {"__name__": "somewhere"}
    exec(
        "from __future__ import annotations\nimport datetime\ndef f(a: datetime.date, b: int | None = None): ...", space
    )
    assert build_plan(space["f"], "f")._decode_call(b'{"a":"2026-01-02"}') == ((dt.date(2026, 1, 2),), None)


def test_pydantic_is_never_imported():
    code = (
        "import sys, datetime, dataclasses, taskloom\n"
        "from taskloom._signature import build_plan\n"
        "def f(a: list[datetime.date], b: 'list[int]', c): ...\n"
        "p = build_plan(f, 'f')\n"
        "p._decode_call(p._encode_call(([datetime.date(2026, 1, 2)], [1], datetime.date(2026, 1, 2))))\n"
        "assert 'pydantic' not in sys.modules\n"
        "assert 'tomllib' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
