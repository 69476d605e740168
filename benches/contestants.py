"""Who takes part: our sources, the peers and the environments they run in, and the floor."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = ("files", "lossless", "sized", "raw")


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One loader."""

    name: str
    """As it stands in tables."""
    command: list[str]
    """Starts a process that answers as `serve.py` does; empty where it cannot be made."""
    source: str = ""
    """Our source; empty for the others."""
    absent: str = ""
    """Why it cannot take part, if so."""

    @property
    def ours(self) -> bool:
        """Whether it is our loader."""
        return bool(self.source)


@dataclass(frozen=True)
class Peer:
    """A loader that others made."""

    name: str
    module: str
    requirements: str = ""
    """File in peers/ with what its environment needs; none for the project's own."""


PEERS = {
    "pil": Peer("torchvision PIL", "peers.torchvision_pil"),
    "simd-pil": Peer("torchvision pillow-simd", "peers.torchvision_pil", "pillow-simd.txt"),
    "simd": Peer("pillow-simd at its best", "peers.pillow", "pillow-simd.txt"),
    "io": Peer("torchvision.io", "peers.torchvision_io"),
    "opencv": Peer("OpenCV", "peers.opencv", "opencv.txt"),
    "dali": Peer("DALI CPU", "peers.dali", "dali.txt"),
    "spdl": Peer("SPDL", "peers.spdl", "spdl.txt"),
}
DEFAULT_PEERS = ("pil", "io")
"""Those that the project's own environment has."""
REFERENCE = PEERS["pil"].name
FLOOR = "floor"


def serve(python: str | Path, module: str) -> list[str]:
    """The command of a loader in Python."""
    return [str(python), str(HERE / "serve.py"), module]


def ours(sources: list[str]) -> list[Contestant]:
    """Our loader, once for each source."""
    return [
        Contestant(name=f"geossl {source}", command=serve(sys.executable, "ours"), source=source) for source in sources
    ]


def peers(chosen: list[Peer], work: Path) -> list[Contestant]:
    """The peers, their environments made below `work` where they are not there yet, which needs the network.

    What they need of the system beside Python is in peers/install_libraries.sh.
    """
    made = []
    for peer in chosen:
        try:
            python = environment(peer.requirements, work) if peer.requirements else Path(sys.executable)
            made.append(Contestant(name=peer.name, command=serve(python, peer.module)))
        except RuntimeError as e:
            made.append(Contestant(name=peer.name, command=[], absent=str(e)))
    return made


def environment(requirements: str, work: Path) -> Path:
    """Python of the environment with these requirements. Raises RuntimeError if it cannot be made."""
    folder = work / "environments" / requirements.removesuffix(".txt")
    python = folder / "bin" / "python"
    wanted = (HERE / "peers" / requirements).read_text()
    stamp = folder / "requirements.txt"  # written last, so that an environment that failed is made anew
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    uv = Path(sys.executable).with_name("uv")
    tool = str(uv) if uv.is_file() else shutil.which("uv")
    if tool is None:
        raise RuntimeError("its environment needs uv, which is not installed")
    folder.parent.mkdir(parents=True, exist_ok=True)
    overrides = HERE / "peers" / requirements.replace(".txt", ".overrides")
    print(f"making the environment of {requirements} (needs the network) ...", file=sys.stderr)
    call([tool, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
    install = [tool, "pip", "install", "--quiet", "--python", str(python)]
    install += ["--overrides", str(overrides)] if overrides.is_file() else []
    # As pillow-simd's documentation says; without it, SSE4 is what it uses.
    compiler = {"CC": "cc -mavx2"} if "avx2" in Path("/proc/cpuinfo").read_text() else {}
    call([*install, "--requirements", str(HERE / "peers" / requirements)], compiler)
    stamp.write_text(wanted)
    return python


def floor(example: str = "floor") -> Contestant:
    """What the codecs' libraries do alone, an example of the core, compiled by cargo in the checkout."""
    cargo = shutil.which("cargo")
    if cargo is None:
        return Contestant(name=FLOOR, command=[], absent="cargo is not installed")
    root = HERE.parent
    try:
        call([cargo, "build", "--quiet", "--release", "--locked", "-p", "geossl-core", "--example", example], cwd=root)
    except RuntimeError as e:
        return Contestant(name=FLOOR, command=[], absent=str(e))
    target = Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    return Contestant(name=FLOOR, command=[str(target / "release" / "examples" / example)])


def call(command: list[str], extra: dict[str, str] | None = None, *, cwd: Path | None = None) -> None:
    """Run a command. Raises RuntimeError with the end of what it said."""
    done = subprocess.run(command, env=os.environ | (extra or {}), cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise RuntimeError(f"{Path(command[0]).name} {command[1]} failed: {said[-200:]}")
