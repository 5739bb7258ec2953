"""What a plain install brings, looked at: `make audit`.

Writes to build/audit a bill of materials (CycloneDX), the licences, and what is known to be
vulnerable, of the package and what it needs and of nothing else: it is installed alone beside the
tools that look. Ends with 1 where a licence does not fit, where something vulnerable is
known, or where a tool fails; where nobody could be asked for the latter it says so and ends with 0.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
HOME = ROOT / ".venv-audit"
OUT = ROOT / "build" / "audit"

#: Of libraries that may be used, linked and shipped beside Apache-2.0, as SPDX names them.
FITTING = frozenset(
    {
        "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "HPND", "ISC", "MIT",
        "MIT-CMU", "MPL-2.0", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib", "ZPL-2.1",
    }
)  # fmt: skip

#: Packages whose licence is on no list, and may be needed all the same. crc32c is a library of its
#: own, unchanged, that kafka-python imports if it is there; it may be exchanged or left out, and an
#: image that holds it passes on its licence with it.
EXCEPTED = {"crc32c": "LGPL-2.1-or-later"}

#: What packages write instead.
_ALSO = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "the unlicense (unlicense)": "Unlicense",
}


def fits(licence: str) -> bool:
    """Whether a licence, as SPDX or as packages write it, may stand beside Apache-2.0: each of
    those joined by AND or by a semicolon, one of those joined by OR."""
    together = re.split(r"\s+and\s+|;", licence, flags=re.IGNORECASE)
    return all(
        any(_is_fitting(one) for one in re.split(r"\s+or\s+", part, flags=re.IGNORECASE))
        for part in together
    )


def _is_fitting(name: str) -> bool:
    plain = name.strip().strip("()").strip()
    whole = name.strip()
    known = {_ALSO.get(plain.lower(), plain), _ALSO.get(whole.lower(), whole)}
    return bool(known & FITTING)


def main() -> int:
    OUT.mkdir(parents=True, exist_ok=True)
    plain, tools = HOME / "plain", HOME / "tools"
    venv.create(tools, with_pip=True)
    venv.create(plain)  # without pip: it is not part of what is looked at
    python = plain / "bin" / "python"
    _install(tools, tools / "bin" / "python", "pip>=24", *_extra("audit"))
    _install(tools, python, ROOT)
    _run(tools / "bin" / "cyclonedx-py", "environment", python, "-o", OUT / "sbom.json")
    failed = _licences(tools, python) + _vulnerable(tools, plain)
    print(f"{OUT.relative_to(ROOT)}: sbom.json, licences.json, vulnerable.json")
    return 1 if failed else 0


def _licences(tools: Path, python: Path) -> int:
    written = OUT / "licences.json"
    _run(
        tools / "bin" / "pip-licenses",
        *("--python", python, "--format", "json", "--output-file", written),
    )
    packages = json.loads(written.read_text())
    wrong = [p for p in packages if p["Name"] not in EXCEPTED and not fits(p["License"])]
    for one in wrong:
        print(f"licence: {one['Name']} {one['Version']}: {one['License']!r} is not on the list")
    print(
        f"licences: {len(packages) - len(wrong)} of {len(packages)} fit Apache-2.0 (among them, "
        f"excepted: {EXCEPTED})"
    )
    return len(wrong)


def _vulnerable(tools: Path, plain: Path) -> int:
    """How many packages have known faults; 0 too where nobody could be asked."""
    [site] = plain.glob("lib/python3*/site-packages")
    written = OUT / "vulnerable.json"
    written.unlink(missing_ok=True)
    done = subprocess.run(
        [
            tools / "bin" / "pip-audit",
            *("--path", site, "--format", "json", "--output", written, "--progress-spinner", "off"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if not written.exists():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        print(f"vulnerabilities: NOT LOOKED UP, the service could not be asked: {last[:200]}")
        return 0
    found = json.loads(written.read_text())["dependencies"]
    found = [one for one in found if one["name"] != "detector"]
    asked = [one for one in found if "skip_reason" not in one]
    wrong = [one for one in asked if one["vulns"]]
    for one in wrong:
        names = ", ".join(fault["id"] for fault in one["vulns"])
        print(f"vulnerable: {one['name']} {one['version']}: {names}")
    print(f"vulnerabilities: {len(wrong)} of {len(asked)} packages have known ones")
    if len(asked) < len(found):
        print(
            f"vulnerabilities: NOT LOOKED UP, the service does not know {len(found) - len(asked)}"
        )
    return len(wrong)


def _extra(name: str) -> list[str]:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: list[str] = project["optional-dependencies"][name]
    return found


def _install(tools: Path, python: Path, *packages: object) -> None:
    pip = (tools / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check")
    _run(*pip, "--python", python, "install", "--upgrade", *packages)


def _run(*command: object) -> None:
    """Not from here: what lies about here is not what is installed."""
    subprocess.run([str(part) for part in command], check=True, cwd=HOME)


if __name__ == "__main__":
    sys.exit(main())
