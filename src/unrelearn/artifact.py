"""Content-addressed store: the output of a stage is a folder named by what went into it.

    <root>/<stage>/<key>/            finished: manifest.json lists every file with its sha256
    <root>/<stage>/<key>.partial/    being computed, or left by an interrupted run, which the next
                                     one resumes
    <root>/<stage>/<key>.lock        held (flock) by the one process that computes; the kernel frees
                                     it when that dies

Large files that are the same in an artefact and in its parents are one file with several names
(hard links), and every folder stays whole.

A finished folder appears by one rename after everything in it was flushed to disk, so a
half-written artefact can not be mistaken for a finished one. The idea of a configuration hash as
the name of a result is dora's (Defossez et al.); here the *full* resolved configuration is hashed,
not its difference from the defaults.
"""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from unrelearn import distributed
from unrelearn.errors import UsageError

MANIFEST = "manifest.json"
# sub-folder of a .partial folder for what only a resumed run needs; not part of the artefact
RESUME = ".resume"
SHARED = 2**20  # bytes from which a file is no second time on disk


@dataclass(frozen=True)
class Spec:
    """What an artefact is made of.

    Args:
        stage: "pretrain", "unlearn", ...
        version: raised when the code of the stage changes what it computes.
        config: the resolved slice of the configuration that the stage reads; plain JSON types.
        parents: keys of the artefacts it reads.
    """

    stage: str
    version: int
    config: dict[str, Any]
    parents: tuple[str, ...] = field(default=())

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits of the sha256 of everything above."""
        text = json.dumps(
            [self.stage, self.version, self.config, list(self.parents)],
            sort_keys=True,
            allow_nan=False,
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Artifact:
    """A finished, verified artefact. `reused` says whether it was found rather than computed by
    this process.
    """

    path: Path
    manifest: dict[str, Any]
    reused: bool

    @property
    def key(self) -> str:
        return str(self.manifest["key"])

    @property
    def stage(self) -> str:
        return str(self.manifest["stage"])

    @property
    def meta(self) -> dict[str, Any]:
        meta: dict[str, Any] = self.manifest["meta"]
        return meta


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else _sha256(file)
        )


def _sha256(file: BinaryIO) -> str:  # Python 3.10 has no file_digest
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def write_json(path: Path, value: object) -> None:
    """Write JSON so that the file is either the old or the new one, never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "w") as file:
        json.dump(value, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def fsync(path: Path) -> None:
    """Have a file or folder on disk, before anything is renamed."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _owner() -> str:
    job = os.environ.get("SLURM_JOB_ID")
    return f"host {socket.gethostname()}, pid {os.getpid()}" + (f", Slurm job {job}" if job else "")


class Store:
    """The artefacts below one folder.

    Args:
        root: outputs/artifacts.
        rebuild: compute damaged artefacts again (the damaged folder is kept beside, renamed)
            instead of stopping.
        say: prints one line for the user.
    """

    def __init__(self, root: Path, *, rebuild: bool = False, say: Callable[[str], None] = print):
        self.root = Path(root)
        self.rebuild = rebuild
        self.say = say
        self._verified: dict[Path, Artifact] = {}

    def path(self, spec: Spec) -> Path:
        return self.root / spec.stage / spec.key

    def find(self, spec: Spec) -> Artifact | None:
        """The finished artefact, every file checked against its sha256 (once per process); None if
        there is none.

        Raises:
            UsageError: a file is missing or changed.
        """
        path = self.path(spec)
        if path in self._verified:
            return self._verified[path]
        if not path.exists():
            return None
        damage = self._damage(path)
        if damage:
            if not self.rebuild:
                raise UsageError(
                    f"{path}: damaged artefact: {damage}. Type the same command with rebuild=true"
                    " added to compute it again (the damaged folder is kept beside it)."
                )
            aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
            try:
                path.rename(aside)
            except FileNotFoundError:  # another process has just done it
                return None
            self.say(f"{path.name}: damaged ({damage}), moved to {aside.name}")
            return None
        artifact = Artifact(path, json.loads((path / MANIFEST).read_text()), reused=True)
        self._verified[path] = artifact
        return artifact

    @staticmethod
    def _damage(path: Path) -> str | None:
        try:
            manifest = json.loads((path / MANIFEST).read_text())
            files = manifest["files"] = dict(manifest["files"])
            if manifest["key"] != path.name:
                return f"{MANIFEST} belongs to {manifest['key']}"
            if MANIFEST in files and files.pop(MANIFEST) != _digest(manifest):
                return f"{MANIFEST} does not match its sha256"
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"{MANIFEST} can not be read ({type(error).__name__})"
        for name, expected in files.items():
            if not (path / name).is_file():
                return f"{name} is missing"
            if sha256(path / name) != expected:
                return f"{name} does not match its sha256"
        return None

    def there(self, spec: Spec) -> Artifact:
        """A finished artefact that must be there. Raises: KeyError."""
        artifact = self.find(spec)
        if artifact is None:
            raise KeyError(f"{spec.stage}/{spec.key}")
        return artifact

    def build(self, spec: Spec, compute: Callable[[Path], dict[str, Any]]) -> Artifact:
        """Return the artefact, computing it if it is not there.

        compute(folder) writes files into the folder, which may hold what an interrupted run left,
        and returns plain metadata for the manifest. Under several processes all of them call
        build(): the first one decides, locks and finishes, all of them compute.
        """
        if distributed.on_main(lambda: self.find(spec) is not None):
            return self.there(spec)
        path = self.path(spec)
        partial = path.with_name(path.name + ".partial")
        with self._lock(path) if distributed.is_main() else contextlib.nullcontext():
            # another process may have finished it while this one waited for the lock
            if distributed.on_main(lambda: self.find(spec) is not None):
                return self.there(spec)
            if distributed.is_main():
                partial.mkdir(parents=True, exist_ok=True)
            distributed.barrier()
            meta = compute(partial)
            if distributed.is_main():
                self._finish(spec, partial, path, meta)
            distributed.barrier()
        artifact = Artifact(path, json.loads((path / MANIFEST).read_text()), reused=False)
        self._verified[path] = artifact
        return artifact

    def _finish(self, spec: Spec, partial: Path, path: Path, meta: dict[str, Any]) -> None:
        names = sorted(p.relative_to(partial).as_posix() for p in partial.rglob("*") if p.is_file())
        # hidden: RESUME, and what write_json was writing when a process was killed
        names = [
            name
            for name in names
            if name != MANIFEST and not any(p.startswith(".") for p in name.split("/"))
        ]
        manifest: dict[str, Any] = {
            "stage": spec.stage,
            "version": spec.version,
            "key": spec.key,
            "config": spec.config,
            "parents": list(spec.parents),
            "files": {name: sha256(partial / name) for name in names},
            "meta": {
                **meta,
                "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "by": _owner(),
            },
        }
        manifest["files"][MANIFEST] = _digest(manifest)
        write_json(partial / MANIFEST, manifest)
        mode = (partial / MANIFEST).stat().st_mode
        for name in names:  # safetensors makes files that nobody else may read
            (partial / name).chmod(stat.S_IMODE(mode))
        for written in [*partial.rglob("*"), partial]:
            fsync(written)
        partial.rename(path)
        fsync(path.parent)
        shutil.rmtree(path / RESUME, ignore_errors=True)
        self._share(path, manifest)  # not before: work that is done again would write into a parent

    def _share(self, path: Path, manifest: dict[str, Any]) -> None:
        """Have a large file that a parent or this artefact itself already holds as a link to that
        one: what a method left as it was takes no room, and stays when the parent goes.
        """
        files = {path / name: digest for name, digest in manifest["files"].items()}
        large = [file for file in files if file.stat().st_size >= SHARED]
        parents = manifest["parents"] if large else []
        known: dict[str, Path] = {}
        for parent in (folder for key in parents for folder in self.root.glob(f"*/{key}")):
            with contextlib.suppress(OSError, ValueError):  # damaged: whoever reads it will say so
                there = json.loads((parent / MANIFEST).read_text())["files"]
                known |= {digest: parent / name for name, digest in there.items()}
        for file in large:
            same, link = known.setdefault(files[file], file), file.with_name(f".{file.name}.link")
            with contextlib.suppress(OSError):  # a file system without links: it stays a copy
                # one that was damaged since would damage this one too
                if same != file and sha256(same) == files[file]:
                    os.link(same, link)
                    os.replace(link, file)

    @contextlib.contextmanager
    def _lock(self, path: Path) -> Iterator[None]:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock, owner = FileLock(str(path) + ".lock"), path.with_name(path.name + ".owner")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            name = ""
            for _ in range(40):  # it may not have signed yet, or finish at this very moment
                with contextlib.suppress(OSError):
                    name = owner.read_text()
                if name:
                    break
                time.sleep(0.05)
            name = name or "another process"
            self.say(
                f"waiting for {path.parent.name}/{path.name}, which is being computed by {name}"
            )
            lock.acquire(poll_interval=0.2)
        try:
            owner.write_text(_owner())
            yield
        finally:
            with contextlib.suppress(OSError):
                owner.unlink()
            lock.release()
