"""How a comparison is measured.

A comparison has two sides, ours and a peer's, that do the same work in this process. A machine that is shared does not
stand still for the minute that this takes, so the two run in alternating rounds, and what is reported is the median of
the rounds' ratios with its spread: absolute figures move, ratios hardly do.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

Figures = dict[str, float]
"""What one run of a side measured, by the name of the metric."""


@dataclass(frozen=True)
class Settings:
    """What a side needs to know about this run of the benchmarks."""

    quick: bool
    directory: Path  # where stores go, on a real disk

    def scaled(self, count: int) -> int:
        return max(count // 10, 1) if self.quick else count


Side = Callable[[Settings], Figures]

Turns = Callable[[Settings, bool], Iterator[tuple[Figures, Figures]]]
"""A round in which both sides take turns: what each of them, ours and the peer, measured in each turn. Told whether only the
peer is to run; then ours are left out."""


@dataclass(frozen=True)
class Metric:
    """One figure of a comparison, and what it must reach with the garbage collector on.

    The ratio is ours divided by the peer's, whether more or less is better.
    """

    name: str
    unit: str
    ratio_at_least: float | None = None
    ratio_at_most: float | None = None
    ours_at_most: float | None = None
    ours_at_least: float | None = None

    @property
    def bound(self) -> str:
        if self.ratio_at_least is not None:
            return f"≥ {self.ratio_at_least:g}×"
        if self.ratio_at_most is not None:
            return f"≤ {self.ratio_at_most:g}×"
        if self.ours_at_most is not None:
            return f"≤ {self.ours_at_most:g} {self.unit}"
        if self.ours_at_least is not None:
            return f"≥ {self.ours_at_least:,g}{'' if self.unit == '×' else ' '}{self.unit}"
        return ""


@dataclass(frozen=True)
class Comparison:
    name: str  # for --only
    title: str
    peer_name: str
    ours: Side
    peer: Side
    metrics: tuple[Metric, ...]
    collector: tuple[bool, ...] = (True, False)
    max_rounds: int = 99


@dataclass(frozen=True)
class Interleaved:
    """A comparison whose sides take turns within a round too, where one run of a side takes so long that the machine
    may change before the other's."""

    name: str
    title: str
    peer_name: str
    turns: Turns
    metrics: tuple[Metric, ...]
    collector: tuple[bool, ...] = (True,)
    max_rounds: int = 99


@dataclass(frozen=True)
class Row:
    """One metric of one comparison, over all rounds and turns. ``ours`` is empty where only the peers ran."""

    comparison: Comparison | Interleaved
    metric: Metric
    collector: bool
    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        return [ours / peer if peer else float("inf") for ours, peer in zip(self.ours, self.peer)]

    @property
    def passed(self) -> bool | None:
        """Whether the bound is kept; None where there is none to keep."""
        if not self.ours or not self.collector or not self.metric.bound:
            return None
        ratio, ours = statistics.median(self.ratios), statistics.median(self.ours)
        metric = self.metric
        return (
            (metric.ratio_at_least is None or ratio >= metric.ratio_at_least)
            and (metric.ratio_at_most is None or ratio <= metric.ratio_at_most)
            and (metric.ours_at_most is None or ours <= metric.ours_at_most)
            and (metric.ours_at_least is None or ours >= metric.ours_at_least)
        )


@contextmanager
def _collector(enabled: bool) -> Iterator[None]:
    """Starts from a clean heap, so that no side pays for what the one before it left."""
    gc.collect()
    if not enabled:
        gc.disable()
    try:
        yield
    finally:
        gc.enable()


def measure(
    comparison: Comparison | Interleaved,
    settings: Settings,
    rounds: int,
    *,
    peers_only: bool,
    tell: Callable[[str], None],
) -> list[Row]:
    rows: list[Row] = []
    for enabled in comparison.collector:
        new = [Row(comparison, metric, enabled) for metric in comparison.metrics]
        for number in range(min(rounds, comparison.max_rounds)):
            tell(f"{comparison.name}, collector {'on' if enabled else 'off'}, round {number + 1}")
            if isinstance(comparison, Interleaved):
                with _collector(enabled):
                    for ours, peer in comparison.turns(settings, peers_only):
                        for row in new:
                            row.peer.append(peer[row.metric.name])
                            if not peers_only:
                                row.ours.append(ours[row.metric.name])
                continue
            sides = ["peer"] if peers_only else ["ours", "peer"]
            for side in sides if number % 2 == 0 else sides[::-1]:  # nobody always goes first
                run = comparison.ours if side == "ours" else comparison.peer
                with _collector(enabled):
                    figures = run(settings)
                for row in new:
                    (row.ours if side == "ours" else row.peer).append(figures[row.metric.name])
        rows += new
    return rows


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self.start

    def per_second(self, count: int) -> float:
        return count / self.seconds()


def percentile(samples: list[float], percent: int) -> float:
    return sorted(samples)[min(len(samples) * percent // 100, len(samples) - 1)]


def check(found: object, expected: object) -> None:
    """A benchmark that computes the wrong thing measures nothing."""
    if found != expected:
        raise RuntimeError(f"the tasks gave {found!r}; {expected!r} is right")
