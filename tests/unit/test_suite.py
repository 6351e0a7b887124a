"""The tests themselves: what they need, what they report; the audit of packages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import audit, conftest

pytest_plugins = ("pytester",)


@pytest.mark.parametrize("every", ["", "1"])
def test_a_missing_package_fails_where_all_are_promised(
    every: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERY_PACKAGE", every)
    pytester.makeconftest(Path(conftest.__file__).read_text(encoding="utf-8"))
    pytester.makeini("[pytest]\nmarkers = needs(*packages): packages\n")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.needs("json", "no_such_package")
        def test_absent():
            pass

        @pytest.mark.needs("json")
        def test_present():
            pass
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, **{"errors" if every else "skipped": 1})
    assert "processor: " in result.stdout.str()


def test_the_machine_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    line = conftest.machine()
    for part in ("processor: ", " cores; torch ", "threads: ", "ONEDNN_MAX_CPU_ISA=AVX2"):
        assert part in line


def package(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "version": "1.0", **more}


@pytest.mark.parametrize(
    ("packages", "expected"),
    [
        ([package("a", vulns=[]), package("b", vulns=[])], []),
        ([package("a", skip_reason="not found"), package("b", skip_reason="not found")], ["Nothing was audited"]),
        ([], ["Nothing was audited"]),
        ([package("a", skip_reason="not found"), package("b", vulns=[])], ["a: not found", "1 of 2 packages were not"]),
        ([package("a", vulns=[{"id": "CVE-1", "fix_versions": ["1.1"]}])], ["a 1.0: CVE-1, fixed in 1.1"]),
    ],
)
def test_an_audit_that_did_not_happen_is_no_success(packages: list[dict[str, Any]], expected: list[str]) -> None:
    lines = audit.findings({"dependencies": packages})
    assert len(lines) == len(expected)
    assert all(line.startswith(part) for line, part in zip(lines, expected, strict=True))
