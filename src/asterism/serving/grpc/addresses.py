"""Where a gRPC server listens: `unix:/folder/name.sock` on one machine, `host:port` between machines; and the names."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import stat
import tempfile
from pathlib import Path
from typing import Final

from asterism.core.errors import ConfigError

MODEL_SERVICE: Final = "asterism.v1.ModelService"
FEATURE_SERVICE: Final = "asterism.v1.FeatureService"
SLATE_SERVICE: Final = "asterism.v1.SlateService"

_UNIX: Final = "unix:"
_LONGEST_PATH: Final = 100  # the kernel takes 107 bytes
_READ_OTHERWISE = re.compile(r"[%?#]")  # gRPC takes what these begin for an escape, a query or a fragment
_HOST_AND_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):([0-9]{1,5})")


def checked(address: str) -> str:
    """The same address; raises `ConfigError` where it is none."""
    found = _HOST_AND_PORT.fullmatch(address)
    if address.removeprefix(_UNIX) and address.startswith(_UNIX):
        if len(os.fsencode(address.removeprefix(_UNIX))) > _LONGEST_PATH:
            raise ConfigError(f"the path of {address} is longer than {_LONGEST_PATH} bytes; name a shorter one")
        if _READ_OTHERWISE.search(address):
            raise ConfigError(f"the path of {address} holds %, ? or #, which gRPC cannot read; name another one")
        return address
    if found is None or int(found[2]) > 65_535:
        raise ConfigError(f"{address!r} is no address; write unix:/folder/engine.sock or host:port")
    return address


def socket_path(address: str) -> Path | None:
    """The file of a Unix socket; None for a host and port."""
    return Path(address.removeprefix(_UNIX)) if address.startswith(_UNIX) else None


def socket_in(folder: Path, name: str) -> str:
    """The address of a socket in a folder; in a short folder of this user where its own path can be none."""
    path = folder.resolve() / name
    if len(os.fsencode(path)) <= _LONGEST_PATH and not _READ_OTHERWISE.search(str(path)):
        return f"{_UNIX}{path}"
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return f"{_UNIX}{Path(tempfile.gettempdir()) / f'asterism-{os.getuid()}' / digest}"


def make_room(address: str) -> None:
    """Make the folder of a socket, and take away what a dead process left there.

    Raises `ConfigError` where a living process listens, where the file is no socket, or where the folder cannot be had.
    """
    path = socket_path(address)
    if path is None:
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.parent.stat().st_uid != os.getuid() and path.parent.parent == Path(tempfile.gettempdir()):
            raise ConfigError(f"{path.parent} belongs to somebody else; name another place with --listen")
        if not path.exists():
            return
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise ConfigError(f"{path} is a file and no socket; name another place with --listen")
        if _is_listening(path):
            raise ConfigError(f"{path} is in use by another process; stop it, or name another place with --listen")
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be listened on ({error}); name another place with --listen") from error


def take_away(address: str) -> None:
    """Remove a socket's file, if there is one."""
    path = socket_path(address)
    if path is not None:
        with contextlib.suppress(OSError):
            path.unlink()


def _is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
