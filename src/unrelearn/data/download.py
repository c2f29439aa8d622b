"""Fetch one published file: resumable, checksum verified, atomic."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path

from filelock import FileLock

from unrelearn import progress
from unrelearn.errors import UsageError

CHUNK_BYTES = 1 << 18


def fetch(urls: list[str], checksum: str, destination: Path, timeout_s: float = 10.0) -> None:
    """Download to destination from the first url that delivers the right bytes.

    Bytes arrive in `<destination>.part`, which a later call continues; destination appears only
    once the checksum ("md5:..." or "sha256:...") holds. Several processes may call this at once:
    one downloads, the others wait for it. Raises UsageError (one line) when no url delivers.
    """
    failures: list[str] = []
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{destination}.lock"):
            failures += _tried(urls, checksum, destination, timeout_s)
    except OSError as error:
        failures.append(str(error))
    if not destination.exists():
        raise UsageError(
            f"cannot download {destination.name}: {'; '.join(failures)}".replace("\n", " ")
        )


def _tried(urls: list[str], checksum: str, destination: Path, timeout_s: float) -> list[str]:
    """Why the file did not come from those urls that were tried before it came."""
    failures = []
    for url in urls:
        if destination.exists():
            break
        try:
            _fetch_from(url, checksum, destination, timeout_s)
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"{url}: {error}")
    return failures


def _fetch_from(url: str, checksum: str, destination: Path, timeout_s: float) -> None:
    part = destination.with_name(f"{destination.name}.part")
    resumed = part.exists()
    _transfer(url, part, timeout_s)
    if resumed and _checksum(part, checksum) != checksum:
        part.unlink()  # the old half may come from a broken transfer: once more from the start
        _transfer(url, part, timeout_s)
    actual = _checksum(part, checksum)
    if actual != checksum:
        part.unlink()
        raise OSError(f"got a file with {actual} instead of {checksum}")
    os.replace(part, destination)


def _transfer(url: str, part: Path, timeout_s: float) -> None:
    """Append to part what it still lacks of url, or fetch all of it from a server that does not
    resume.
    """
    done = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "unrelearn"} | ({"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=timeout_s
        )
    except urllib.error.HTTPError as error:
        if done and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # there is no more to get; the checksum decides
        raise
    with response:
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            done = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        with (
            progress.bar(f"fetch {part.stem}, bytes", total or done, done) as advance,
            part.open("ab" if done else "wb") as file,
        ):
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                advance(len(chunk))
    if total is not None and part.stat().st_size < total:
        raise OSError(
            f"the connection ended after {part.stat().st_size} of {total} bytes; the next try goes"
            " on there"
        )


def _checksum(path: Path, like: str) -> str:
    """The checksum of a file in the algorithm of `like`, written the same way."""
    algorithm = like.partition(":")[0]
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return f"{algorithm}:{digest.hexdigest()}"
