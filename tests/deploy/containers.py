"""An image without an engine: the steps of a Dockerfile in a root of their own, and what comes of
them, started as an engine would.

Namespaces, chroot and mounts of this machine; needs root. Must not know what is in the image.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tests.deploy.dockerfile import Copy, Run, Stage, Step, Told, context_files, stages

_NAMESPACES = ["--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]
#: In the root of a step, and gone after it.
_CERTIFICATES = "/run/certificates.crt"
_OWN_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_DEVICES = ("null", "zero", "random", "urandom")
_STEP_S = 1800.0

#: Where no other network is, this one works.
_LOOPBACK_UP = (
    "import fcntl, socket, struct\n"
    "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh', b'lo', 1))"
)


def unavailable_reason() -> str | None:
    """One line that says why no image can be built here, or None."""
    if os.geteuid() != 0:
        return "only root can make a root directory of its own"
    missing = [p for p in ("debootstrap", "unshare", "chroot", "nsenter") if not shutil.which(p)]
    return f"{', '.join(missing)} not found" if missing else None


def debian(suite: str, work: Path) -> Path:
    """The root of Debian's smallest, made once and kept."""
    root = work / f"debian-{suite}"
    if not (root / "complete").exists():
        shutil.rmtree(root, ignore_errors=True)
        _run(["debootstrap", "--variant=minbase", suite, str(root)])
        (root / "complete").touch()
    return root


class Build:
    """bases: image name -> root."""

    def __init__(self, dockerfile: Path, context: Path, work: Path, bases: Mapping[str, Path]):
        self._stages = stages(dockerfile.read_text())
        ignore = dockerfile.with_name(dockerfile.name + ".dockerignore").read_text()
        self._context, self._files = context, context_files(context, ignore)
        self._work, self._roots = work, dict(bases)

    def run(self) -> tuple[Path, Told]:
        """Every step of every stage. Returns the image's root and what it says of itself."""
        for stage in self._stages:
            self._roots[stage.name] = self._build(stage)
        last = self._stages[-1]
        return self._roots[last.name], last.told

    def _build(self, stage: Stage) -> Path:
        root = self._work / f"stage-{stage.name}"
        shutil.rmtree(root, ignore_errors=True)
        _run(["cp", "-a", "--reflink=auto", str(self._roots[stage.base]), str(root)])
        workdir = "/"
        for step in stage.steps:
            workdir = self._step(root, step, workdir)
        return root

    def _step(self, root: Path, step: Step, workdir: str) -> str:
        if isinstance(step, Run):
            run_in(root, step.command, step.told)
        elif isinstance(step, Copy):
            self._copy(root, step, workdir)
        else:
            _inside(root, step.path).mkdir(parents=True, exist_ok=True)
            return step.path
        return workdir

    def _copy(self, root: Path, step: Copy, workdir: str) -> None:
        target = _inside(root, os.path.join(workdir, step.target))  # noqa: PTH118 (inside the root)
        if step.stage is not None:
            (source,) = step.sources
            target.parent.mkdir(parents=True, exist_ok=True)
            _run(["cp", "-a", str(_inside(self._roots[step.stage], source)), str(target)])
            return
        for source in step.sources:
            self._copy_from_context(Path(source), target)

    def _copy_from_context(self, source: Path, target: Path) -> None:
        files = [f for f in self._files if f == source or source in f.parents]
        if not files:
            raise FileNotFoundError(f"{source} is not in the build context")
        for file in files:
            place = target / (file.name if file == source else file.relative_to(source))
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self._context / file, place)
            os.chown(place, 0, 0)


class Container:
    """An image that runs: a read-only root, no capabilities, a network of its own.

    mounts: read-only, place inside -> folder; writable: empty folders in memory, of its user.
    """

    def __init__(
        self,
        root: Path,
        told: Told,
        log: Path,
        *,
        mounts: Mapping[str, Path],
        writable: Sequence[str],
        environment: Mapping[str, str],
    ) -> None:
        self._root, self.told, self._log = root, told, log
        self._environment = told.environment | dict(environment)
        self._mounts, self._writable = mounts, writable
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Container:
        command = [*self._user(), *self.told.entrypoint, *self.told.command]
        script = "\n".join([*self._script(), f"exec {shlex.join(command)}"])
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["unshare", *_NAMESPACES, "--net", "sh", "-euc", script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.kill()  # and with it what it has started
        self._process.wait(60)
        if error is not None:
            sys.stdout.write(f"-- the container's log:\n{self.log()[-4000:]}\n")

    @property
    def pid(self) -> int:
        """As this machine counts."""
        assert self._process is not None
        number = self._process.pid
        return int(Path(f"/proc/{number}/task/{number}/children").read_text().split()[0])

    def status(self) -> dict[str, str]:
        """Of the first process, as the kernel tells."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def execute(
        self, *command: str, given: str = "", timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """A command beside it, as its user."""
        into = ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--ipc"]
        return subprocess.run(
            [*into, *self._user(), *command],
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def health(self) -> int:
        """What the image's own check ends with."""
        assert self.told.healthcheck
        return self.execute(*self.told.healthcheck).returncode

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def stop(self, *, timeout_s: float = 60) -> int:
        """As an engine does: its signal, then its exit code."""
        assert self._process is not None
        self.signal(signal.Signals[self.told.stop_signal])
        return self._process.wait(timeout_s)

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def _user(self) -> list[str]:
        user, group = self.told.user.split(":")
        variables = [f"{name}={value}" for name, value in self._environment.items()]
        return [
            "chroot", str(self._root),
            "setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups",
            "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs",
            "env", "--ignore-environment", f"--chdir={self.told.workdir}", *variables,
        ]  # fmt: skip

    def _script(self) -> list[str]:
        root, (user, group) = str(self._root), self.told.user.split(":")
        lines = [
            f"{shlex.quote(sys.executable)} -c {shlex.quote(_LOOPBACK_UP)}",
            f"mount --bind {root} {root}",
            f"mount -o remount,ro,bind {root}",
            f"mount -t proc proc {root}/proc",
            *_devices(root),
        ]
        memory = f"mount -t tmpfs -o uid={user},gid={group} tmpfs"
        lines += [f"{memory} {root}{place}" for place in self._writable]
        for place, folder in self._mounts.items():
            inside = f"{root}{place}"
            lines += [
                f"mkdir -p {inside}",
                f"mount --bind {folder} {inside}",
                f"mount -o remount,ro,bind {inside}",
            ]
        return lines


def run_in(root: Path, command: str, told: Told) -> None:
    """A RUN step: the network and the registries' settings of this machine, as a build has them."""
    place = str(root)
    lines = [
        f"mount -t proc proc {place}/proc",
        *_devices(place),
        f"mount -t tmpfs tmpfs {place}/run",
        f"cp -L /etc/resolv.conf {place}/run/resolv.conf",
        f"touch {place}/etc/resolv.conf",
        f"mount --bind {place}/run/resolv.conf {place}/etc/resolv.conf",
    ]
    passed = {k: v for k, v in os.environ.items() if k in {"PIP_INDEX_URL", "PIP_TRUSTED_HOST"}}
    if _OWN_CERTIFICATES.exists():
        lines.append(f"cp {_OWN_CERTIFICATES} {place}{_CERTIFICATES}")
        passed["PIP_CERT"] = _CERTIFICATES
    variables = [f"{k}={v}" for k, v in {**told.environment, **passed}.items()]
    inner = [
        "chroot", place, "env", "--ignore-environment", f"--chdir={told.workdir}",
        "DEBIAN_FRONTEND=noninteractive", *variables, "sh", "-c", command,
    ]  # fmt: skip
    lines.append(f"exec {shlex.join(inner)}")
    _run(["unshare", *_NAMESPACES, "sh", "-euc", "\n".join(lines)])


def _devices(root: str) -> list[str]:
    lines = [f"mount -t tmpfs tmpfs {root}/dev"]
    for name in _DEVICES:
        lines += [f"touch {root}/dev/{name}", f"mount --bind /dev/{name} {root}/dev/{name}"]
    return lines


def _inside(root: Path, place: str) -> Path:
    return root / place.lstrip("/")


def _run(command: list[str]) -> None:
    """Raises AssertionError with the end of what the command said."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=_STEP_S,
        check=False,
    )
    assert done.returncode == 0, f"{shlex.join(command)[-600:]}\n{done.stdout[-4000:]}"
