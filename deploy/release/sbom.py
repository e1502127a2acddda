# SPDX-License-Identifier: Apache-2.0
"""Bills of materials, in JSON: what is in an image and in the plugin.

CycloneDX 1.6: https://cyclonedx.org/docs/1.6/json
"""

import json
import re
import tempfile
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.parser import HeaderParser
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from deploy.lock.__main__ import pins
from deploy.release.image import Image
from deploy.release.run import run
from deploy.release.source import PROJECT, Source

_STATUS = "var/lib/dpkg/status"
_LIST = re.compile(r"var/lib/dpkg/info/([^/:]+)(:[^/]+)?\.list")
_METADATA = re.compile(r"(?:.*/)?[^/]+\.dist-info/METADATA")
_OURS = re.compile(r"usr/(?:bin|lib/headrace)/headrace-(?:engine|cni)")


@dataclass(frozen=True)
class Component:
    """A package of Debian's or Python's, or a program of Headrace."""

    name: str
    version: str
    purl: str
    """Names it everywhere: https://github.com/package-url/purl-spec"""
    licence: str = ""
    """SPDX expression, or what its author calls it; "" where the package does not say."""
    hashes: frozenset[str] = frozenset()
    """Of the files that the lock allows, e.g. "sha256:..."."""
    needs: tuple[str, ...] = field(default=())
    """purls of what a program is linked with."""


def of_image(source: Source, image: Image, revision: str) -> str:
    """Return the bill of an image: its Debian and Python packages, and Headrace's programs.

    `revision` is the digest of its manifest.
    """
    files = image.contents(
        lambda path: (
            path in {_STATUS, "etc/os-release", "usr/lib/os-release"}
            or any(each.fullmatch(path) for each in (_LIST, _METADATA, _OURS))
        )
    )
    debian = _debian(files)
    owners = _owners(files, debian)
    programs = [
        Component(
            name=PurePath(path).name,
            version=source.version,
            purl=f"pkg:generic/{PurePath(path).name}@{source.version}",
            licence="Apache-2.0",
            needs=tuple(sorted({owners[name].purl for name in _linked(files[path])})),
        )
        for path in sorted(files)
        if _OURS.fullmatch(path)
    ]
    title = PurePath(image.name.partition(":")[0]).name
    purl = f"pkg:oci/{title}@{quote(revision, safe='')}?arch={image.architecture}"
    python = _python(
        source, {path: text for path, text in files.items() if path.startswith("opt/")}
    )
    whole = Component(image.name.rpartition(":")[0], source.version, purl, "Apache-2.0")
    return _bill(source, "container", whole, [*debian.values(), *python, *programs])


def of_plugin(source: Source, platform: str, folder: Path) -> str:
    """Return the bill of the unpacked plugin for a platform, e.g. "linux-amd64"."""
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*.dist-info/METADATA")
    }
    purl = f"pkg:generic/kubectl-headrace@{source.version}?platform={platform}"
    whole = Component("kubectl-headrace", source.version, purl, "Apache-2.0")
    return _bill(source, "application", whole, _python(source, files))


def _debian(files: Mapping[str, bytes]) -> dict[str, Component]:
    """Name of each installed package -> the package."""
    system = files.get("etc/os-release") or files["usr/lib/os-release"]
    release = dict(line.split("=", 1) for line in system.decode().splitlines() if "=" in line)
    release = {name: value.strip('"') for name, value in release.items()}
    found: dict[str, Component] = {}
    for paragraph in files[_STATUS].decode().split("\n\n"):
        about = HeaderParser().parsestr(paragraph)
        if not paragraph.strip() or not str(about["Status"]).endswith(" installed"):
            continue
        name, version = str(about["Package"]), str(about["Version"])
        qualifiers = f"arch={about['Architecture']}&distro={release['ID']}-{release['VERSION_ID']}"
        if about["Source"]:
            # For what looks up faults, which are known by source packages.
            qualifiers += f"&upstream={quote(str(about['Source']).split()[0], safe='')}"
        purl = f"pkg:deb/{release['ID']}/{quote(name)}@{quote(version, safe='')}?{qualifiers}"
        found[name] = Component(name, version, purl)
    return found


def _owners(files: Mapping[str, bytes], packages: Mapping[str, Component]) -> dict[str, Component]:
    """Name of each file below a folder lib -> the package that it is of."""
    return {
        PurePath(line).name: packages[match[1]]
        for path, text in files.items()
        if (match := _LIST.fullmatch(path)) and match[1] in packages
        for line in text.decode().splitlines()
        if "/lib/" in line
    }


def _linked(program: bytes) -> list[str]:
    """Names of the libraries that a program is linked with."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(program)
        file.flush()
        said = run("readelf", "--dynamic", "--wide", file.name)
    return re.findall(r"\(NEEDED\).*\[(.*)\]", said)


def _python(source: Source, files: Mapping[str, bytes]) -> list[Component]:
    """Python packages, by METADATA; the lock knows the hashes of their files."""
    folder = source.folder / "deploy/lock"
    lock = pins(folder / "run.txt") | pins(folder / "node.txt")
    found = []
    for path, text in sorted(files.items()):
        if not _METADATA.fullmatch(path):
            continue
        about = HeaderParser().parsestr(text.decode())
        name = re.sub(r"[-_.]+", "-", str(about["Name"])).lower()
        licence = str(about["License-Expression"] or about["License"] or "").strip()
        found.append(
            Component(
                name=name,
                version=str(about["Version"]),
                purl=f"pkg:pypi/{name}@{about['Version']}",
                licence="" if "\n" in licence else licence,
                hashes=lock[name].hashes if name in lock else frozenset(),
            )
        )
    return found


def _bill(source: Source, kind: str, whole: Component, parts: Iterable[Component]) -> str:
    parts = sorted(parts, key=lambda part: part.purl)
    at = datetime.fromtimestamp(source.seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{PROJECT}#{whole.purl}')}",
        "version": 1,
        "metadata": {"timestamp": at, "component": _component(whole, kind)},
        "components": [_component(part, "library") for part in parts],
        "dependencies": [
            {"ref": whole.purl, "dependsOn": [part.purl for part in parts]},
            *({"ref": part.purl, "dependsOn": list(part.needs)} for part in parts if part.needs),
        ],
    }
    return json.dumps(bill, indent=2) + "\n"


def _component(part: Component, kind: str) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": kind if not part.purl.startswith("pkg:generic/") else "application",
        "bom-ref": part.purl,
        "name": part.name,
        "version": part.version,
        "purl": part.purl,
    }
    if part.licence:
        component["licenses"] = [{"license": {"name": part.licence}}]
    if part.hashes:
        component["externalReferences"] = [
            {
                "type": "distribution",
                "url": f"https://pypi.org/project/{part.name}/{part.version}/",
                "hashes": [
                    {"alg": "SHA-256", "content": each.removeprefix("sha256:")}
                    for each in sorted(part.hashes)
                ],
            }
        ]
    return component
