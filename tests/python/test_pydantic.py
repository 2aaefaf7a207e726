"""pydantic models as parameters and results, from a submit to its result."""

from __future__ import annotations

import datetime as dt
import enum
import json
from decimal import Decimal
from typing import Annotated, Generic, Literal, TypeVar, Union
from uuid import UUID

import pytest

import taskloom
from helpers import LONG, refusal, shown

pydantic = pytest.importorskip("pydantic")

T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"


class Item(pydantic.BaseModel):
    sku: str
    price: Decimal
    count: int = pydantic.Field(default=1, gt=0)


class Order(pydantic.BaseModel):
    id: UUID
    placed: dt.datetime
    items: list[Item]
    by_name: dict[str, Item] = pydantic.Field(default_factory=dict)
    first: Item | None = None
    color: Color = Color.RED


class Aliased(pydantic.BaseModel):
    size: int = pydantic.Field(alias="Size")
    kind: str = pydantic.Field(validation_alias="theKind", serialization_alias="theKind")


class Renamed(pydantic.BaseModel):
    """Its names differ between reading and writing unless both know the alias."""

    model_config = pydantic.ConfigDict(populate_by_name=True, alias_generator=lambda name: name.upper())
    size: int


class Checked(pydantic.BaseModel):
    low: int
    high: int

    @pydantic.field_validator("low")
    @classmethod
    def not_negative(cls, value: int) -> int:
        if value < 0:
            raise ValueError("low is below 0")
        return value

    @pydantic.model_validator(mode="after")
    def in_order(self) -> Checked:
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


class Box(pydantic.BaseModel, Generic[T]):
    value: T


class Frozen(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)
    day: dt.date


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"
    tricks: list[str] = pydantic.Field(default_factory=list)


class Tree(pydantic.BaseModel):
    name: str
    below: list[Tree] = pydantic.Field(default_factory=list)


class Ids(pydantic.RootModel[list[int]]):
    pass


class Computed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="ignore")
    width: int
    _secret: int = pydantic.PrivateAttr(default=3)

    @pydantic.computed_field
    @property
    def area(self) -> int:
        return self.width**2


@pydantic.dataclasses.dataclass
class Point:
    x: int
    y: int = 0


Pet = Annotated[Union[Cat, Dog], pydantic.Field(discriminator="kind")]  # noqa: UP007
ITEM = Item(sku="a", price=Decimal("1.50"))
ORDER = Order(
    id=UUID(int=7),
    placed=dt.datetime(2026, 3, 1, tzinfo=dt.timezone.utc),
    items=[ITEM, Item(sku="b", price=Decimal("0.10"), count=2)],
    by_name={"a": ITEM},
    first=ITEM,
)

CASES = [
    (Item, ITEM),
    (Order, ORDER),
    (Aliased, Aliased(Size=3, theKind="x")),
    (Renamed, Renamed(size=3)),
    (Checked, Checked(low=1, high=2)),
    (Box[int], Box[int](value=3)),
    (Box[Item], Box[Item](value=ITEM)),
    (Box[list[dt.date]], Box[list[dt.date]](value=[dt.date(2026, 1, 2)])),
    (Frozen, Frozen(day=dt.date(2026, 1, 2))),
    (Pet, Dog(tricks=["sit"])),
    (Tree, Tree(name="a", below=[Tree(name="b", below=[Tree(name="c")])])),
    (Ids, Ids([1, 2])),
    (Computed, Computed(width=3)),
    (Point, Point(1, 2)),
    (list[Item], [ITEM, ITEM]),
    (dict[str, Order], {"one": ORDER}),
    (Item | None, None),
    (Item | None, ITEM),
    (tuple[Item, int], (ITEM, 3)),
    (dict[str, list[Item | None]], {"a": [ITEM, None]}),
]


@pytest.mark.parametrize(("hint", "value"), CASES, ids=shown)
def test_there_and_back(app, hint, value):
    seen = []

    def work(value):
        seen.append(value)
        return value

    work.__annotations__ = {"value": hint, "return": hint}
    task = app.task(work)
    with app:
        result = task.submit(value).result(timeout=LONG)
        assert app.get(app.list()[0].id).result() == value
    assert seen == [value]
    assert type(seen[0]) is type(value)
    assert result == value
    assert type(result) is type(value)


def test_async_handlers_keywords_and_many(app):
    @app.task
    async def total(order: Order, *extra: Item, **named: Item) -> Item:
        items = [*order.items, *extra, *named.values()]
        assert all(type(item) is Item for item in items)
        return Item(sku="sum", price=sum((item.price for item in items), Decimal(0)))

    with app:
        assert total.submit(ORDER, ITEM, x=ITEM).result(timeout=LONG).price == Decimal("4.60")
        assert total.submit_many([{"order": ORDER}, ORDER])[1].result(timeout=LONG).price == Decimal("1.60")


def test_by_name_as_another_language_would(app):
    """Plain JSON is taken for what the hint says."""

    @app.task
    def count(order: Order) -> int:
        assert isinstance(order.placed, dt.datetime)
        return sum(item.count for item in order.items)

    with app:
        payload = json.loads(ORDER.model_dump_json())
        assert app.submit("count", {"order": payload}).result(timeout=LONG) == 3


@pytest.mark.parametrize(
    ("hint", "value", "words"),
    [
        (Item, {"sku": "a"}, ["value", "price"]),
        (Item, {"sku": "a", "price": "1", "count": 0}, ["value", "count", "greater than 0"]),
        (Item, 3, ["value", "3"]),
        (Order, {**json.loads(ORDER.model_dump_json()), "id": "x"}, ["value", "id", "UUID"]),
        (list[Item], [ITEM, {"sku": "b", "price": "x"}], ["value", "[1].price"]),
        (Checked, {"low": -1, "high": 2}, ["value", "low is below 0", ".low"]),
        (Checked, {"low": 3, "high": 2}, ["value", "low is above high"]),
        (Box[int], {"value": "x"}, ["value", ".value"]),
        (Frozen, {"day": "2026-01-02", "more": 1}, ["value", ".more"]),
        (Pet, {"kind": "fish"}, ["value", "fish"]),
    ],
    ids=shown,
)
def test_what_does_not_fit_is_refused_at_the_submit(app, hint, value, words):
    def work(value):
        return 1

    work.__annotations__ = {"value": hint, "return": int}
    error = refusal(app.task(work).submit, value)
    assert isinstance(error, taskloom.InvalidPayload)
    for word in words:
        assert word in str(error), str(error)
    assert "errors.pydantic.dev" not in str(error)
    assert app.list() == []


def test_a_result_that_does_not_fit(app):
    @app.task
    def work() -> Item:
        return {"sku": "a"}  # type: ignore[return-value]

    with app:
        error = refusal(work.submit().result, timeout=LONG)
    assert error.type == "InvalidPayload"
    assert "price" in error.message


def test_a_model_that_was_changed_into_nonsense_is_refused(app):
    @app.task
    def work(item: Item) -> int:
        return 1

    item = ITEM.model_copy(update={"price": object()})
    assert isinstance(refusal(work.submit, item), taskloom.InvalidPayload)


def test_without_a_hint_it_arrives_as_json(app):
    @app.task
    def work(value):
        return value

    with app:
        assert work.submit(ITEM).result(timeout=LONG) == {"sku": "a", "price": "1.50", "count": 1}


def test_a_secret_is_not_written(app):
    class Login(pydantic.BaseModel):
        password: pydantic.SecretStr

    @app.task
    def work(login: Login) -> int:
        return 1

    error = refusal(work.submit, Login(password="hunter2"))
    assert isinstance(error, taskloom.InvalidPayload)
    assert "hunter2" not in str(error)
