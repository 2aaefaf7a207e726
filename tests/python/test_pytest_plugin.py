"""The pytest plugin that comes with the wheel."""

from __future__ import annotations

import textwrap

import pytest

pytest_plugins = ["pytester"]

APP = """
import taskloom

app = taskloom.App("sqlite:/nowhere/at/all.db")

@app.task(retries=1, retry=taskloom.Retry(base=1))
def greet(name: str) -> str:
    if name == "nobody":
        raise LookupError(f"there is no {name}")
    return f"hello {name}"
"""


@pytest.fixture
def project(pytester, monkeypatch):
    """A project with an app, and pytest as its users run it."""
    pytester.makepyfile(shop=APP)
    pytester.makeini("[pytest]\ntaskloom_app = shop:app\npythonpath = .\n")
    # What this run of pytest was told is not for the one inside.
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
        monkeypatch.delenv(name, raising=False)

    def run(test: str, *arguments: str):
        pytester.makepyfile(test_it=textwrap.dedent(test))
        return pytester.runpytest_subprocess("-p", "no:xdist", "-p", "no:cacheprovider", *arguments)

    return run


def test_the_app_is_in_testing_mode(project):
    result = project(
        """
        import shop

        def test_app(taskloom_app):
            assert taskloom_app is shop.app
            assert shop.greet.submit("Ada").result() == "hello Ada"

        def test_clock(taskloom_testing):
            handle = shop.greet.options(delay=3600).submit("Ada")
            taskloom_testing.advance(hours=1)
            assert handle.state == "succeeded"
            assert [each.name for each in taskloom_testing.submitted] == ["greet"]

        def test_each_test_has_its_own(taskloom_testing):
            assert taskloom_testing.submitted == []
        """
    )
    result.assert_outcomes(passed=3)


def test_the_marker(project):
    result = project(
        """
        from datetime import datetime, timezone

        import pytest
        import shop
        import taskloom

        other = taskloom.App()

        @other.task
        def noop() -> None: ...

        START = datetime(2026, 3, 1, tzinfo=timezone.utc)

        @pytest.mark.taskloom(inline=True, start=START)
        class TestMarked:
            def test_inline(self, taskloom_testing):
                assert shop.greet.submit("Ada").state == "succeeded"
                assert taskloom_testing.now == START

            @pytest.mark.taskloom(inline=False)
            def test_the_nearest_wins(self, taskloom_app):
                assert shop.greet.submit("Ada").state == "queued"

        @pytest.mark.taskloom(app=other)
        def test_another_app(taskloom_app):
            assert taskloom_app is other

        @pytest.mark.taskloom(app="test_it:other")
        def test_another_app_by_name(taskloom_app):
            assert [each.name for each in taskloom_app.handlers()] == ["noop"]
        """,
        "--strict-markers",
    )
    result.assert_outcomes(passed=4)


def test_an_overridden_fixture(project, pytester):
    pytester.makeconftest(
        """
        import pytest
        import taskloom

        @pytest.fixture
        def taskloom_app():
            app = taskloom.App()

            @app.task
            def own() -> int:
                return 1

            return app
        """
    )
    result = project(
        """
        def test_it(taskloom_app, taskloom_testing):
            handle = taskloom_app.submit("own")
            taskloom_testing.drain()
            assert handle.result() == 1
        """
    )
    result.assert_outcomes(passed=1)


def test_a_failed_test_tells_of_failed_tasks(project):
    result = project(
        """
        import shop

        def test_fails(taskloom_testing):
            handle = shop.greet.submit("nobody")
            shop.greet.submit("Ada")
            taskloom_testing.advance(60)
            assert handle.state == "succeeded"

        def test_by_hand():
            with shop.app.testing() as t:
                handle = shop.greet.submit("nobody")
                t.advance(60)
            assert handle.state == "succeeded"

        def test_passes(taskloom_testing):
            shop.greet.submit("nobody")
            taskloom_testing.advance(60)

        def test_fails_without_tasks():
            assert False
        """
    )
    result.assert_outcomes(passed=1, failed=3)
    text = result.stdout.str()
    assert text.count("taskloom: tasks that failed") == 2
    result.stdout.fnmatch_lines(
        [
            "*taskloom: tasks that failed*",
            "greet failed, attempt 2 (*)",
            '  arguments: {"name": "nobody"}',
            "  attempt 1: LookupError: there is no nobody",
            "    Traceback (most recent call last):",
            '      File "*shop.py", line 8, in greet',
            "  attempt 2: LookupError: there is no nobody",
        ]
    )
    assert "hello Ada" not in text


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("", "does not know the app"),
        ("shop", "it must be 'module:attribute'"),
        ("shop:nothing", "cannot be found"),
        ("nowhere:app", "cannot be found"),
        ("shop:greet", "no App"),
    ],
)
def test_an_app_that_cannot_be_found(project, pytester, named, said):
    pytester.makeini(f"[pytest]\ntaskloom_app = {named}\npythonpath = .\n")
    result = project("def test_it(taskloom_app): ...")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{said}*"])


def test_a_marker_that_makes_no_sense(project):
    result = project(
        """
        import pytest

        @pytest.mark.taskloom(inlined=True)
        def test_it(taskloom_app): ...
        """
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*got 'inlined'; it takes app=, inline=, start= and seed=*"])


def test_what_is_not_used_is_not_imported(project):
    """pytest loads the plugin in every project where the package is installed."""
    result = project(
        """
        import sys

        def test_it():
            assert "taskloom.pytest_plugin" in sys.modules
            assert "taskloom.testing" not in sys.modules
        """
    )
    result.assert_outcomes(passed=1)
