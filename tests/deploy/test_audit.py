"""The licences of what a plain install brings fit that of the package."""

from __future__ import annotations

import importlib.util
import re
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def _audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / "deploy" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


AUDIT = _audit()


def needed() -> list[str]:
    """The distributions that a plain install brings, and those that they bring."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    left, found = [Requirement(one) for one in project["dependencies"]], set[str]()
    while left:
        one = left.pop()
        name = re.sub(r"[-_.]+", "-", one.name).lower()
        if name in found:
            continue
        found.add(name)
        for text in metadata.requires(name) or ():
            more = Requirement(text)
            wanted = [{"extra": extra} for extra in (*one.extras, "")]
            if more.marker is None or any(more.marker.evaluate(extra) for extra in wanted):
                left.append(more)
    return sorted(found)


def licence(name: str) -> str:
    """As pip-licenses finds it: the expression, else the classifiers, else the field."""
    about = metadata.metadata(name)
    if "License-Expression" in about:
        return about["License-Expression"]
    trove = [c for c in about.get_all("Classifier") or () if c.startswith("License ::")]
    named = [c.rpartition(":: ")[2] for c in trove if not c.endswith("OSI Approved")]
    if not named and "License" in about:
        named = [about["License"]]
    return "; ".join(named)


@pytest.mark.parametrize("name", needed())
def test_the_licence_of_what_is_needed_fits(name: str) -> None:
    if name in AUDIT.EXCEPTED:
        about = metadata.metadata(name)
        said = [about[key] for key in ("License-Expression", "License") if key in about]
        assert said == [AUDIT.EXCEPTED[name]]
    else:
        assert AUDIT.fits(licence(name)), (name, licence(name))


def test_what_is_needed_is_found() -> None:
    assert {"kafka-python", "crc32c", "numpy", "onnxruntime", "msgspec"} <= set(needed())


@pytest.mark.parametrize(
    ("written", "fitting"),
    [
        ("MIT", True),
        ("MIT License", True),
        ("BSD-3-Clause AND MIT", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only", False),
        ("MIT AND GPL-3.0-only", False),
        ("Apache Software License; GNU General Public License v3 (GPLv3)", False),
        ("UNKNOWN", False),
        ("", False),
    ],
)
def test_a_licence_is_read_as_spdx_or_as_packages_write_it(written: str, fitting: bool) -> None:
    assert AUDIT.fits(written) is fitting
