# SPDX-License-Identifier: Apache-2.0
"""`kubectl headrace` for krew: an archive for each platform, and the manifest that names them."""

import filecmp
import hashlib
import json
import shutil
import string
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from deploy.release.archive import pack
from deploy.release.run import run
from deploy.release.source import PROJECT, Source
from headrace_cli.errors import CommandError

PLATFORMS = {
    ("linux", "amd64"): "x86_64-manylinux_2_28",
    ("linux", "arm64"): "aarch64-manylinux_2_28",
    ("darwin", "amd64"): "x86_64-apple-darwin",
    ("darwin", "arm64"): "aarch64-apple-darwin",
}
"""Operating system and architecture, as krew names them -> the platform as uv names it."""
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def wheel(source: Source, target: Path) -> Path:
    """Build the wheel of Headrace in a folder, and return it. Raises CommandError."""
    run(
        *(sys.executable, "-m", "hatchling", "build", "--target", "wheel"),
        *("--directory", str(target)),
        folder=source.folder,
        environment={"SOURCE_DATE_EPOCH": str(source.seconds)},
    )
    return target / f"headrace-{source.version}-py3-none-any.whl"


def archive(
    source: Source,
    package: Path,
    platform: tuple[str, str],
    target: Path,
    pythons: Iterable[str] = PYTHONS,
) -> None:
    """Pack the plugin for one platform, with all that it needs but Python.

    `package` is Headrace's wheel. The other packages are those of the lock, from the package index.
    Raises CommandError.
    """
    with tempfile.TemporaryDirectory() as folder:
        plugin = Path(folder) / "plugin"
        plugin.mkdir()
        shutil.copy(source.folder / "LICENSE", plugin)
        launcher = plugin / "kubectl-headrace"
        shutil.copy(source.folder / "deploy/krew/launcher.py", launcher)
        launcher.chmod(0o755)
        for python in pythons:
            one = Path(folder) / python
            lock = source.folder / "deploy/lock/run.txt"
            _install(
                one, PLATFORMS[platform], python, "--require-hashes", "--requirements", str(lock)
            )
            _install(one, PLATFORMS[platform], python, "--no-deps", str(package))
            _add(one, plugin / "lib")
        pack(plugin, target, source.seconds)


def _install(target: Path, platform: str, python: str, *what: str) -> None:
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-config"]
    command += ["--target", str(target), "--python-platform", platform]
    command += ["--python-version", python, "--only-binary", ":all:"]
    run(*command, *what)


def _add(one: Path, library: Path) -> None:
    """Add what is installed for one Python: compiled modules have it in their names."""
    for path in sorted(one.rglob("*")):
        name = path.relative_to(one)
        if path.is_dir() or not _needed(name):
            continue
        target = library / name
        about = name.parts[0].endswith(".dist-info")
        if target.exists() and not about and not filecmp.cmp(path, target, shallow=False):
            raise CommandError(f"{name} differs between releases of Python")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def _needed(name: Path) -> bool:
    if name.parts[0].endswith(".dist-info"):
        return name.name in {"METADATA", "entry_points.txt"} or "licenses" in name.parts
    if name.parts[0] in {"bin", ".lock"}:
        return False
    # Typed API of the Kubernetes client: 75 MB that images leave out, too.
    typed = name.parts[0] == "kubernetes" and name.parts[-3:-1] in {
        ("client", "api"),
        ("client", "models"),
    }
    return not typed or name.name == "__init__.py"


def manifest(source: Source, archives: Mapping[tuple[str, str], Path]) -> str:
    """Return krew's manifest for the archives of the platforms."""
    platforms = [
        {
            "selector": {"matchLabels": {"os": system, "arch": architecture}},
            "uri": f"{PROJECT}/releases/download/v{source.version}/{path.name}",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bin": "kubectl-headrace",
        }
        for (system, architecture), path in archives.items()
    ]
    template = string.Template((source.folder / "deploy/krew/headrace.yaml").read_text())
    # JSON is YAML.
    return template.substitute(
        version=source.version, platforms=json.dumps(platforms, indent=2).replace("\n", "\n  ")
    )
