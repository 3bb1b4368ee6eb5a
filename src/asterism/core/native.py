"""Inner loops in C++, compiled once for this machine's processor; where they cannot be, nothing but speed is lost."""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess  # nosec B404
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

#: 0 in this variable of the environment: only Python, NumPy and torch are asked.
SWITCH: Final = "ASTERISM_NATIVE"
_CACHE: Final = "ASTERISM_CACHE"
_FLAGS: Final = ("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-w")
_COMPILERS: Final = ("c++", "g++", "clang++")
_SECONDS: Final = 120.0

logger = logging.getLogger(__name__)

Function = Any  # of a library; the kinds of its arguments are checked when it is called


@cache
def library(source: Path) -> ctypes.CDLL | None:
    """The compiled functions of a C++ file; None where they are switched off or cannot be had, with one warning.

    Compiled code is kept under the folder that ASTERISM_CACHE names, else under `~/.cache/asterism`, by the hash of
    source, processor, compiler and content: a damaged file is compiled again, and where no compiler is left that of any
    serves. A compiler is looked for in the variable CXX, then on the path.
    """
    if os.environ.get(SWITCH) == "0":
        return None
    compiler = next(
        (found for one in (os.environ.get("CXX"), *_COMPILERS) if one and (found := shutil.which(one))), None
    )
    try:
        return _loaded(source, compiler)
    except (OSError, subprocess.SubprocessError) as error:
        _warn(f"{source.name} cannot be compiled ({_last_line(error)})" if compiler else "there is no C++ compiler")
        return None


@cache
def _warn(why: str) -> None:
    logger.warning("%s, so answers take three to seven times as long; install g++, or set %s=0", why, SWITCH)


def function(source: Path, name: str, arguments: Sequence[Any], result: Any = None) -> Function | None:
    """A function of a C++ file with ctypes' kinds of its arguments and result; None as in `library`."""
    found = library(source)
    if found is None:
        return None
    made = ctypes.CFUNCTYPE(result, *arguments)((name, found))
    return made


def _loaded(source: Path, compiler: str | None) -> ctypes.CDLL:
    text = b"".join(file.read_bytes() for file in (source, *_headers(source)))
    of_source = _hash(text, repr((_FLAGS, _processor())).encode())
    of_compiler = "*" if compiler is None else _hash(_output([compiler, "--version"]).encode())
    name = f"{source.stem}-{of_source}-{of_compiler}"
    for file in _whole(_folder(), name):
        with suppress(OSError):
            return ctypes.CDLL(str(file))
    if compiler is None:
        raise FileNotFoundError("no C++ compiler")
    return ctypes.CDLL(str(_compiled(source, compiler, name)))


def _headers(source: Path) -> Iterator[Path]:
    """What a source may include: what stands beside it, and what is here for all."""
    for folder in dict.fromkeys((source.parent, Path(__file__).parent)):
        yield from sorted(folder.glob("*.h"))


def _whole(folder: Path | None, name: str) -> Iterator[Path]:
    """The kept files of a name whose content is what their names say: to load part of one may end the process."""
    for file in () if folder is None else folder.glob(f"{name}-*.so"):
        with suppress(OSError):
            if file.stem.endswith(_hash(file.read_bytes())):
                yield file


def _compiled(source: Path, compiler: str, name: str) -> Path:
    folder = _writable(_folder())
    with tempfile.TemporaryDirectory(dir=folder) as made:
        new = Path(made) / "new.so"
        _output([compiler, *_FLAGS, f"-I{Path(__file__).parent}", "-o", str(new), str(source)])
        return new.replace(folder / f"{name}-{_hash(new.read_bytes())}.so")


def _hash(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _folder() -> Path | None:
    """Where compiled code is kept; None for a user without a home."""
    named = os.environ.get(_CACHE)
    try:
        return (Path(named) if named else Path.home() / ".cache" / "asterism") / "native"
    except RuntimeError:
        return None


def _writable(folder: Path | None) -> Path:
    """The folder, or one of this process where that cannot be written."""
    if folder is None:
        return _own_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return _own_folder()
    return folder if os.access(folder, os.W_OK) else _own_folder()


@cache
def _own_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="asterism-native-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _processor() -> str:
    """What tells processors apart that understand different instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return platform.machine() + next((one for one in lines if one.startswith(("flags", "Features"))), "")


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)  # nosec B603
    return done.stdout


def _last_line(error: Exception) -> str:
    text = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[-1] if lines else type(error).__name__)
