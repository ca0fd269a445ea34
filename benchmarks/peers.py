"""How do other libraries compare? Each in an environment of its own, on the same stores.

    python -m benchmarks.peers [--environments FOLDER] [--install ukat ...] [--quick] [--write]

Makes the environments that are not there yet, by venv and pip, and measures. `python -m benchmarks`
makes none: a library without one is a row that says so. A program of `peer_programs/` calls the
public functions of its library whenever it is asked, in turn with gigaqc; both read the store.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import dask
import numpy as np

import gigaqc as gq
from benchmarks import gain, isnr, objects, preprocess, tsnr
from benchmarks._measure import Stored, Unavailable, slide
from benchmarks._question import SLIDE, Question

PROGRAMS = Path(__file__).with_name("peer_programs")
VARIABLE = "GIGAQC_PEERS"
"""Names the folder of the environments."""


def environments() -> Path:
    """The folder of the environments: of $GIGAQC_PEERS, else in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get(VARIABLE) or cache / "gigaqc-peers")


@dataclass(frozen=True)
class Peer:
    """A library, the program that calls it, and what pip is asked for, call by call."""

    name: str
    program: str
    pip: tuple[str, ...]
    python: tuple[int, int] = (3, 11)

    @property
    def folder(self) -> Path:
        return environments() / self.name

    @property
    def interpreter(self) -> Path:
        return self.folder / "bin" / "python"

    def install(self) -> str | None:
        """Make the environment unless it is there; the reason why it can't be made."""
        if (self.folder / "installed").exists():
            return None
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            run(self.newer_python(), "-m", "venv", str(self.folder))
            for arguments in self.pip:
                run(str(self.interpreter), "-m", "pip", "install", "-q", *arguments.split())
        except Unavailable as reason:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "failed").write_text(str(reason), encoding="utf-8")
            return str(reason)
        (self.folder / "installed").touch()
        return None

    def newer_python(self) -> str:
        """This Python, or another of the path that is new enough."""
        asked = f"import sys; sys.exit(sys.version_info < {self.python})"
        minors = range(self.python[1], self.python[1] + 4)
        for name in (sys.executable, *(f"python3.{minor}" for minor in minors)):
            with contextlib.suppress(Unavailable):
                run(name, "-c", asked)
                return name
        raise Unavailable(f"it needs Python {'.'.join(map(str, self.python))}, not found on PATH")


def run(*command: str) -> None:
    """Run a command; its last words are the reason when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Unavailable(str(error)) from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")] or said
        raise Unavailable(errors[-1] if errors else f"exit status {done.returncode}")


class Process:
    """A library in a process of its own, which computes when asked."""

    def __init__(self, peer: Peer, *paths: Path, seconds: float = 1200) -> None:
        self.peer, self.paths, self.seconds = peer, paths, seconds
        self.version = ""
        self._process: subprocess.Popen[str] | None = None

    def __call__(self, function: str, out: Path | None = None) -> None:
        """Compute, and save what was computed."""
        if self._process is None:
            self._start()
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer says so too
            print(json.dumps([function, out and str(out)]), file=self._process.stdin, flush=True)
        self._answer()

    def result(self, function: str) -> np.ndarray:
        """What it computes."""
        out = self.paths[0].with_name(f"{self.peer.name}.npy")
        self(function, out)
        return np.load(out)

    def _start(self) -> None:
        failed = self.peer.folder / "failed"
        if failed.exists():
            raise Unavailable(f"{self.peer.name} was not installed: {failed.read_text()}")
        if not self.peer.interpreter.exists():
            raise Unavailable(f"{self.peer.name} is not installed (`python -m benchmarks.peers`)")
        command = [str(self.peer.interpreter), "-P", str(PROGRAMS / "serve.py")]
        command += [str(PROGRAMS / self.peer.program), *map(str, self.paths)]
        hidden = {"PYTHONPATH", "PYTHONHOME"}
        environment = {k: v for k, v in os.environ.items() if k not in hidden}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True,
            env={**environment, "DASK_NUM_WORKERS": str(dask.config.get("num_workers", 2))},
        )  # fmt: skip
        self.version = self._answer()["version"]

    def _answer(self) -> dict[str, str]:
        assert self._process is not None and self._process.stdout is not None
        timer = threading.Timer(self.seconds, self._process.kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        status = f"it ended with exit status {self._process.wait()}" if not line else ""
        found: dict[str, str] = json.loads(line) if line else {"error": status}
        if "error" in found:
            raise Unavailable(f"{self.peer.name} failed: {found['error']}")
        return found

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate("")


class Given(NamedTuple):
    """What gigaqc gets, and the other library."""

    own: Any
    process: Process


class Pair(NamedTuple):
    """A function there, its name and itself here, and how far results may be compared."""

    theirs: str
    name: str
    ours: Callable[[Any], Any]
    agree: Callable[[np.ndarray, np.ndarray], str] | None = None


def against(
    peer: Peer, name: str, of: str, stores: Callable[..., Any], *pairs: Pair, **sizes: Any
) -> Question:
    """The question of a library."""

    def prepare(folder: Path, **size: Any) -> Iterator[Given]:
        own = stores(folder, **size)
        paths = (own.path,) if isinstance(own, Stored) else (own.label_path, own.stored.path)
        with contextlib.closing(Process(peer, *paths)) as process:
            yield Given(own, process)

    functions: dict[str, Callable[[Given], Any]] = {}
    notes = {}
    for pair in pairs:
        there = f"{peer.name}'s `{pair.theirs}`"
        functions[there] = lambda given, pair=pair: given.process(pair.theirs)
        functions[pair.name] = lambda given, pair=pair: pair.ours(given.own)
        notes[there] = lambda given, pair=pair: note(pair, given)
    return Question(
        name=name, group="peers", of=of, prepare=prepare, functions=functions, notes=notes, runs=3,
        pairs=tuple((pair.name, f"{peer.name}'s `{pair.theirs}`") for pair in pairs), **sizes,
    )  # fmt: skip


def note(pair: Pair, given: Given) -> str:
    """Version, and whether the results agree."""
    if pair.agree is None:
        return given.process.version
    try:
        theirs = given.process.result(pair.theirs)
    except Unavailable as reason:
        return f"{given.process.version}; {reason}"
    return f"{given.process.version}; {pair.agree(np.asarray(pair.ours(given.own)), theirs)}"


def largest(ours: np.ndarray, theirs: np.ndarray) -> str:
    """The largest difference, over the largest value."""
    apart = np.abs(ours.ravel() - theirs.ravel()).max() / np.abs(theirs).max()
    return f"results differ by at most {apart:.0e} of the largest" if apart else "results equal"


def medians(ours: np.ndarray, theirs: np.ndarray) -> str:
    """For definitions that differ in details."""
    return f"median {np.nanmedian(ours):.4g} here, {np.nanmedian(theirs):.4g} there"


SKIMAGE = Peer("scikit-image", "scikit_image.py", ("scikit-image zarr",))
DASK_IMAGE = Peer("dask-image", "dask_image.py", ("dask-image zarr",))
SQUIDPY = Peer("squidpy", "squidpy_qc.py", ("squidpy zarr",))
HARPY = Peer("harpy-analysis", "harpy_pixels.py", ("harpy-analysis zarr",))
BOTTLENECK = Peer("bottleneck", "bottleneck_mad.py", ("bottleneck zarr",))
SMLMLP = Peer("smlmlp", "smlmlp_gain.py", ("smlmlp zarr",), python=(3, 12))
UKAT = Peer("ukat", "ukat_snr.py", ("--no-deps ukat", "nibabel scikit-learn zarr"))
PEERS = {
    peer.name: peer for peer in (SKIMAGE, DASK_IMAGE, SQUIDPY, HARPY, BOTTLENECK, SMLMLP, UKAT)
}


def blur(stored: Stored) -> np.ndarray:
    return gq.gaussian_blur(stored.image, 2).values


def rescale(stored: Stored) -> np.ndarray:
    return gq.normalize_percentiles(stored.image, 1, 99, clip=True, ignore_zeros=False).values


def means(found: objects.Objects) -> np.ndarray:
    return gq.object_table(found.labels, found.stored.image)["mean_0"].to_numpy()


LARGE = {"full": {"side": 2048, "channels": 4}, "quick": {"side": 512, "channels": 2}}
FRAMES = {"full": {"frames": 400, "side": 512}, "quick": {"frames": 100, "side": 128}}
LABELS = "{side} x {side} labels and {channels} channels, reading included"
QUESTIONS = (
    against(
        SKIMAGE, "scikit-image", SLIDE + ", reading included", slide,
        Pair("gaussian", "`gaussian_blur`", blur, largest),
        Pair("rescale_intensity", "`normalize_percentiles`", rescale, largest),
        **LARGE,
    ),
    against(
        SKIMAGE, "regionprops", LABELS, objects.prepare,
        Pair("regionprops_table", "`object_table`", means, largest), **LARGE,
    ),
    against(
        DASK_IMAGE, "dask-image", SLIDE + ", reading included", slide,
        Pair("ndfilters.gaussian_filter", "`gaussian_blur`", blur, largest), **LARGE,
    ),
    against(
        DASK_IMAGE, "dask-image-labels", "{side} x {side} labels and a channel, reading included",
        objects.prepare,
        Pair("ndmeasure.mean", "`object_table`", means, largest),
        full={"side": 512, "channels": 1}, quick={"side": 256, "channels": 1},
    ),
    against(
        SQUIDPY, "squidpy", SLIDE + ", tiles of 256, reading included", slide,
        Pair(
            "qc_image", "`focus`",
            lambda s: gq.focus(s.image, tile=256)["variance_of_laplacian"].values, medians,
        ),
        full={"side": 2048, "channels": 1}, quick={"side": 512, "channels": 1},
    ),
    against(
        HARPY, "harpy", SLIDE + ", written", slide,
        Pair("pixel_clustering_preprocess", "`pixel_clustering_preprocess`",
             lambda s: gq.open_image(preprocess.prepared(s)), medians),
        full={"side": 4096, "channels": 4}, quick={"side": 512, "channels": 2},
    ),
    against(
        BOTTLENECK, "bottleneck", gain.SERIES + ", reading included", gain.together,
        Pair(
            "median", "`gain_map`", lambda s: gq.gain_map(s.image).compute()["gain"],
            lambda ours, theirs: "median and MAD, no fit",
        ),
        **FRAMES,
    ),
    against(
        SMLMLP, "smlmlp", gain.SERIES + ", reading included", gain.together,
        Pair(
            "detect_gain", "`gain_map`", lambda s: gq.gain_map(s.image).compute()["gain"], medians
        ),
        **FRAMES,
    ),
    against(
        UKAT, "ukat-tsnr", gain.SERIES + ", reading included",
        lambda folder, **size: tsnr.prepare(folder, **size, together="all frames"),
        Pair(
            "Tsnr", "`tsnr_map`",
            lambda s: gq.tsnr_map(s.image, baseline="intercept", invalid="zero").values, largest,
        ),
        **FRAMES,
    ),
    against(
        UKAT, "ukat-isnr", "{side} x {side} x {side} int16, reading included",
        lambda folder, **size: isnr.prepare(folder, **size, dtype="int16"),
        Pair("Isnr", "`isnr`", lambda s: gq.isnr(s.image)["isnr"].values, medians),
        full={"side": 192}, quick={"side": 64},
    ),
)  # fmt: skip


def main() -> None:
    """Install, then measure."""
    from benchmarks.__main__ import main as measure

    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--environments", type=Path)
    parser.add_argument("--install", nargs="*", choices=PEERS, default=list(PEERS))
    options, rest = parser.parse_known_args()
    if options.environments:
        os.environ[VARIABLE] = str(options.environments.absolute())
    for name in options.install:
        print(f"{name}: {PEERS[name].install() or 'installed'}", flush=True)
    measure(["--only", "peers", *rest])


if __name__ == "__main__":
    main()
