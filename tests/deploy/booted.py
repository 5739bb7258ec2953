"""A systemd that boots in namespaces of its own, on a root that is thrown away.

Needs root and cgroup v2, beside the older ones or alone. Must not know what is to run there.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from tests.processes import wait_for

_NAMESPACES = [
    "--mount", "--pid", "--ipc", "--uts", "--net", "--cgroup", "--fork", "--kill-child",
    "--propagation=private",
]  # fmt: skip
_ENVIRONMENT = "container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin"
_DEVICES = ("null", "zero", "random", "urandom", "full", "tty")
#: What it boots into: no services but those that every service waits for.
_TARGET = "detector-test.target"


class Booted:
    """lower: the root that it reads; what it writes is in memory. folder: an empty one."""

    def __init__(self, lower: Path, folder: Path) -> None:
        self._lower, self._folder = lower, folder
        self._cgroup = _cgroup2() / f"detector-test-{os.getpid()}"
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def __enter__(self) -> Booted:
        self._cgroup.mkdir()
        script = f"echo $$ > {self._cgroup}/cgroup.procs; exec " + shlex.join(
            ["unshare", *_NAMESPACES, "sh", "-euc", "\n".join(self._script())]
        )
        with (self._folder / "console").open("wb") as console:
            self._process = subprocess.Popen(
                ["sh", "-euc", script],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_for(self._is_up, "systemd is up", timeout_s=120)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            log = self.execute("journalctl", "--no-pager", "--lines=60").stdout
            sys.stdout.write(f"-- the journal ends:\n{log}\n")
        self._end()

    @property
    def root(self) -> Path:
        """As seen from outside."""
        return Path(f"/proc/{self._pid}/root")

    def execute(
        self, *command: str, given: str = "", timeout_s: float = 240
    ) -> subprocess.CompletedProcess[str]:
        """As its root."""
        into = ["nsenter", f"--target={self._pid}", "--all", "--root", "--wd"]
        return subprocess.run(
            [*into, "env", "--ignore-environment", *_ENVIRONMENT.split(), *command],
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def shown(self, unit: str, name: str) -> str:
        """A property of a unit."""
        done = self.execute("systemctl", "show", "--value", f"--property={name}", unit)
        return done.stdout.strip()

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "console").read_text()
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        if not children.strip():
            return False
        self._pid = int(children.split()[0])
        if Path(f"/proc/{self._pid}/comm").read_text().strip() != "systemd":
            return False
        return self.execute("systemctl", "is-active", _TARGET).stdout.strip() == "active"

    def _script(self) -> Iterator[str]:
        memory = self._folder / "memory"
        root = memory / "root"
        memory.mkdir()
        yield f"mount -t tmpfs tmpfs {memory}"
        yield f"cd {memory} && mkdir upper work root"
        layers = f"lowerdir={self._lower},upperdir={memory}/upper,workdir={memory}/work"
        yield f"mount -t overlay -o {layers} overlay {root}"
        yield f"mount -t proc proc {root}/proc"
        yield f"mount --bind {root}/proc/sys {root}/proc/sys"
        yield f"mount -o remount,ro,bind {root}/proc/sys"
        yield f"mount -t sysfs -o ro sysfs {root}/sys"
        yield f"mount -t cgroup2 cgroup2 {root}/sys/fs/cgroup"
        for place in ("run", "tmp", "dev"):
            yield f"mount -t tmpfs tmpfs {root}/{place}"
        for name in _DEVICES:
            yield f"touch {root}/dev/{name} && mount --bind /dev/{name} {root}/dev/{name}"
        yield f"mkdir {root}/dev/shm {root}/dev/pts {root}/dev/mqueue {root}/dev/hugepages"
        yield f"mount -t devpts -o newinstance,ptmxmode=0666 devpts {root}/dev/pts"
        yield f"ln -s pts/ptmx {root}/dev/ptmx"
        yield f"mkdir -p {root}/var/log/journal {root}/old"
        unit = "[Unit]\\nRequires=basic.target\\nAfter=basic.target\\n"
        yield f"printf '{unit}' > {root}/etc/systemd/system/{_TARGET}"
        yield f"cd {root} && pivot_root . old"
        yield f"exec env -i {_ENVIRONMENT} /lib/systemd/systemd --system --unit={_TARGET}"

    def _end(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)  # and with it all that has started there
        self._process.wait(60)
        wait_for(lambda: _emptied(self._cgroup), "its groups are empty", timeout_s=60)


def _cgroup2() -> Path:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise AssertionError("there is no cgroup v2 here")


def _emptied(group: Path) -> bool:
    """Removes it and those below, as far as nothing runs there."""
    below = sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True)
    for path in [*below, group]:
        with contextlib.suppress(OSError):
            path.rmdir()
    return not group.exists()
