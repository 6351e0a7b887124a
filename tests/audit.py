"""Ask PyPI for known vulnerabilities of the pinned packages: ``python -m tests.audit`` (``make audit``).

The exit status is 0 only when every package was audited and none is known to be vulnerable.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

COMMAND = ("-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner", "off", "-f", "json", "-r")


def findings(report: Mapping[str, Any]) -> list[str]:
    """Return what is wrong in a report of pip-audit, a line each."""
    packages = report["dependencies"]
    skipped = [package for package in packages if "skip_reason" in package]
    lines = [
        f"{package['name']} {package['version']}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions']) or 'none'}"
        for package in packages
        for flaw in package.get("vulns", ())
    ]
    if not packages or len(skipped) == len(packages):
        return [
            f"Nothing was audited: PyPI has data of none of {len(packages)} packages, as where a mirror answers for it."
        ]
    if skipped:
        lines += [f"{package['name']}: {package['skip_reason']}" for package in skipped]
        lines.append(f"{len(skipped)} of {len(packages)} packages were not audited.")
    return lines


def main() -> int:
    """Audit ``constraints.txt``."""
    done = subprocess.run([sys.executable, *COMMAND, "constraints.txt"], capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        print(f"{done.stderr}Nothing was audited: pip-audit failed.")
        return 1
    lines = findings(report)
    print("\n".join(lines or [f"{len(report['dependencies'])} packages were audited; no vulnerability is known."]))
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
