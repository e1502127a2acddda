# SPDX-License-Identifier: Apache-2.0
"""A release, verified as its users do it: tools of others read all of it."""

import gzip
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.lock.__main__ import pins
from deploy.release import image, oci, plugin, signature
from deploy.release.__main__ import IMAGES, make, must_be_of
from deploy.release.run import run
from deploy.release.source import Source, checkout
from headrace_cli.errors import CommandError
from tests.cluster.cluster import REPOSITORY, build
from tests.cluster.gotools import go_tools
from tests.cluster.images import Images, build_images
from tests.cluster.sandbox import until

HERE = ("linux", {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine])
PYTHON = ".".join(map(str, sys.version_info[:2]))
"""One is enough here: a release has each."""


@dataclass(frozen=True)
class Release:
    """A release of HEAD, with the plugin for this machine."""

    folder: Path
    source: Source
    layouts: dict[str, Path]
    digests: dict[str, str]
    """By place in a registry, as the release notes have them."""

    def file(self, pattern: str) -> Path:
        (found,) = self.folder.glob(pattern)
        return found


@pytest.fixture(scope="module")
def images() -> Images:
    return build_images()


@pytest.fixture(scope="module")
def helm(images: Images) -> str:
    return str(build() / "bin/helm")


@pytest.fixture(scope="module")
def release(images: Images, helm: str, tmp_path_factory: pytest.TempPathFactory) -> Release:
    work = tmp_path_factory.mktemp("release")
    source = checkout(REPOSITORY, work / "source")
    folder = work / "out"
    folder.mkdir()
    layouts = make(source, images.operator.tar.parent, folder, helm, [HERE], [PYTHON])
    notes = (folder / "NOTES.md").read_text()
    digests = dict(re.findall(r"^\| (\S+):\S+ \| `(sha256:.*)` \|$", notes, re.MULTILINE))
    signature.write_checksums(folder)
    return Release(folder, source, layouts, digests)


def test_checksums_are_of_all_files(release: Release) -> None:
    said = run("sha256sum", "--check", "--strict", "SHA256SUMS", folder=release.folder)
    names = {line.removesuffix(": OK") for line in said.splitlines()}
    assert names == {path.name for path in release.folder.iterdir()} - {"SHA256SUMS"}
    assert len(names) > 10


def key(folder: Path, name: str) -> Path:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
    return folder / name


def test_the_signature_is_verified_as_the_page_says(release: Release, tmp_path: Path) -> None:
    page = (REPOSITORY / "docs/release.md").read_text()
    (command,) = re.findall(r"^ssh-keygen -Y verify (?:.*\\\n)*.*", page, re.MULTILINE)
    sums = Path(shutil.copy(release.folder / "SHA256SUMS", tmp_path))
    public = key(tmp_path, "ours").with_suffix(".pub").read_text()
    signers = tmp_path / "allowed_signers"
    signers.write_text(f'{signature.SIGNER} namespaces="{signature.NAMESPACE}" {public}')
    signature.sign(sums, tmp_path / "ours", signers)

    def verify() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ("bash", "-c", command), cwd=tmp_path, capture_output=True, text=True, check=False
        )

    assert f'Good "{signature.NAMESPACE}" signature for {signature.SIGNER}' in verify().stdout
    sums.write_text(sums.read_text().replace("0", "1", 1))
    assert verify().returncode != 0


def test_nobody_else_signs(release: Release, tmp_path: Path) -> None:
    sums = Path(shutil.copy(release.folder / "SHA256SUMS", tmp_path))
    with pytest.raises(CommandError, match=r"is not a key of release@headrace\.dev"):
        signature.sign(sums, key(tmp_path, "theirs"), REPOSITORY / signature.SIGNERS)
    assert not (tmp_path / "SHA256SUMS.sig").exists()


def unpack(layout: Path, folder: Path) -> dict[str, Any]:
    """Unpack a layout whose blobs are what their names say; return its manifest."""
    with tarfile.open(layout) as packed:
        packed.extractall(folder, filter="data")
    for blob in (folder / "blobs/sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    assert json.loads((folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads((folder / "index.json").read_text())["manifests"]
    manifest: dict[str, Any] = json.loads(read(folder, entry))
    for each in (manifest["config"], *manifest["layers"]):
        assert len(read(folder, each)) == each["size"]
    return manifest


def read(folder: Path, descriptor: dict[str, Any]) -> bytes:
    return (folder / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()


@pytest.mark.parametrize("name", IMAGES)
def test_images_are_those_that_were_built(
    release: Release, images: Images, name: str, tmp_path: Path
) -> None:
    manifest = unpack(release.layouts[name], tmp_path)
    config = json.loads(read(tmp_path, manifest["config"]))
    built: image.Image = getattr(images, name)
    assert config["config"]["Labels"] == built.labels
    revision = built.labels["org.opencontainers.image.revision"]
    assert revision.removesuffix("-modified") == release.source.revision
    assert config["architecture"] == built.architecture == HERE[1]
    diffs = []
    for layer in manifest["layers"]:
        assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
        content = gzip.decompress(read(tmp_path, layer))
        diffs.append(f"sha256:{hashlib.sha256(content).hexdigest()}")
    assert config["rootfs"]["diff_ids"] == diffs


def test_images_of_another_commit_are_refused(release: Release, images: Images) -> None:
    folder = images.operator.tar.parent
    other = Source(release.source.folder, "0" * 40, 0, release.source.version, "")
    with pytest.raises(CommandError, match=f"operator.tar is of .*, HEAD is {'0' * 40}"):
        must_be_of(other, folder)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A registry with TLS on this machine, as HOST:PORT."""
    with socket.create_server(("localhost", 0)) as free:
        address = f"localhost:{free.getsockname()[1]}"
    run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-keyout", "key.pem", "-out", "ca.pem", "-days", "2", "-subj", "/CN=localhost"),
        *("-addext", "subjectAltName=DNS:localhost"),
        folder=tmp_path,
    )
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
        "http": {
            "addr": address,
            "tls": {"certificate": str(tmp_path / "ca.pem"), "key": str(tmp_path / "key.pem")},
        },
    }
    (tmp_path / "registry.yaml").write_text(json.dumps(settings))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    log = tmp_path / "registry.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ("docker-registry", "serve", tmp_path / "registry.yaml"), stdout=output, stderr=output
        )
    try:
        until(lambda: process.poll() is not None or "listening on" in log.read_text(), "it listens")
        assert process.poll() is None, log.read_text()
        yield address
    finally:
        process.terminate()
        process.wait()


def test_a_registry_has_what_was_pushed(
    release: Release, registry: str, helm: str, tmp_path: Path
) -> None:
    version = release.source.version
    for name in ("charts/headrace", "operator"):
        oci.push(release.layouts[name], f"{registry}/headrace/{name}:{version}")
        reference = f"docker://{registry}/headrace/{name}:{version}"
        manifest = run("skopeo", "inspect", "--raw", reference)
        assert f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}" == release.digests[name]
    chart = f"oci://{registry}/headrace/charts/headrace"
    run(helm, "pull", chart, "--version", version, "--destination", str(tmp_path))
    pulled = tmp_path / f"headrace-{version}.tgz"
    assert pulled.read_bytes() == release.file("headrace-*.tgz").read_bytes()


def parts(bill: Path, kind: str) -> dict[str, str]:
    """Name -> version of the components of a kind, e.g. "deb"."""
    return {
        each["name"]: each["version"]
        for each in json.loads(bill.read_text())["components"]
        if each["purl"].startswith(f"pkg:{kind}/")
    }


@pytest.mark.parametrize("name", IMAGES)
def test_bills_name_what_images_have_installed(
    release: Release, images: Images, name: str, tmp_path: Path
) -> None:
    built: image.Image = getattr(images, name)
    bill = release.file(f"{name}-*.cdx.json")
    for path, content in built.contents(
        lambda path: path.startswith("var/lib/dpkg/") or path.endswith("/METADATA")
    ).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    listed = run(
        *("dpkg-query", f"--admindir={tmp_path}/var/lib/dpkg", "--show"),
        *("--showformat", "${db:Status-Status} ${Package} ${Version}\n"),
    )
    installed = (line.split()[1:] for line in listed.splitlines() if line.startswith("installed "))
    debian = parts(bill, "deb")
    assert debian == dict(installed)
    assert "libc6" in debian
    packages = [
        json.loads(run(sys.executable, "-m", "pip", "list", "--format=json", "--path", str(path)))
        for path in tmp_path.glob("opt/headrace/lib/*/site-packages")
    ]
    python = parts(bill, "pypi")
    canonical = {
        re.sub("[-_.]+", "-", each["name"]).lower(): each["version"]
        for found in packages
        for each in found
    }
    assert python == canonical
    assert ("headrace" in python) == (name != "toolbox")
    locks = REPOSITORY / "deploy/lock"
    lock = pins(locks / "run.txt") | pins(locks / "node.txt")
    assert {name: lock[name].version for name in python if name != "headrace"} == {
        name: version for name, version in python.items() if name != "headrace"
    }


def test_the_bill_has_what_the_engine_is_linked_with(release: Release) -> None:
    bill = json.loads(release.file("dataplane-*.cdx.json").read_text())
    references = [each["bom-ref"] for each in bill["components"]]
    assert len(references) == len(set(references))
    needs = {each["ref"]: set(each["dependsOn"]) for each in bill["dependencies"]}
    version = release.source.version
    linked = needs[f"pkg:generic/headrace-engine@{version}"]
    assert linked < set(references)
    names = {each.partition("/")[2].partition("/")[2].partition("@")[0] for each in linked}
    assert {"libc6", "libjansson4"} < names
    assert [name for name in names if re.fullmatch(r"librte-graph\d+", name)]
    assert f"pkg:generic/headrace-cni@{version}" in references


def test_the_same_commit_makes_the_same_bytes(release: Release, helm: str, tmp_path: Path) -> None:
    source = checkout(REPOSITORY, tmp_path / "source")
    again = tmp_path / "again"
    again.mkdir()
    run(helm, "package", str(source.folder / "helm/headrace"), "--destination", str(again))
    package = again / f"headrace-{source.version}.tgz"
    oci.chart(source, package, again / release.layouts["charts/headrace"].name)
    tar = REPOSITORY / "build/test-images/operator.tar"
    oci.image(source, tar, again / release.layouts["operator"].name)
    wheel = plugin.wheel(source, again)
    name = release.file("kubectl-headrace-*.tar.gz").name
    plugin.archive(source, wheel, HERE, again / name, [PYTHON])
    assert len(list(again.iterdir())) == 5
    for path in again.iterdir():
        assert path.read_bytes() == (release.folder / path.name).read_bytes(), path.name


def test_krew_installs_the_plugin(release: Release, tmp_path: Path) -> None:
    krew = go_tools(Path(__file__).with_name("krew"))
    manifest = release.file("headrace.yaml")
    run(str(krew / "validate-krew-manifest"), "-skip-install", "-manifest", str(manifest))
    environment = {
        "KREW_ROOT": str(tmp_path),
        "PATH": f"{tmp_path}/bin:{build()}/bin:{os.environ['PATH']}",
    }
    archive = release.file("kubectl-headrace-*.tar.gz")
    words = ("install", f"--manifest={manifest}", f"--archive={archive}")
    run(str(krew / "krew"), *words, environment=environment)
    said = run("kubectl", "headrace", "version", environment=environment)
    assert f"headrace {release.source.version}" in said
    found = parts(release.file("kubectl-headrace-*.cdx.json"), "pypi")
    assert found["headrace"] == release.source.version
    assert (
        found["pydantic-core"] == pins(REPOSITORY / "deploy/lock/run.txt")["pydantic-core"].version
    )
