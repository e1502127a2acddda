# SPDX-License-Identifier: Apache-2.0
"""OCI layouts of chart and images, and how they get into a registry.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

import hashlib
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from deploy.release.archive import pack
from deploy.release.run import run
from deploy.release.source import PROJECT, Source

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
# What Helm looks for: https://helm.sh/docs/topics/registries
_CHART_CONFIG = "application/vnd.cncf.helm.config.v1+json"
_CHART_CONTENT = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


def chart(source: Source, package: Path, target: Path) -> str:
    """Write the OCI layout of a packaged chart as a tar; return the manifest's digest."""
    about = yaml.safe_load((source.folder / "helm/headrace/Chart.yaml").read_text())
    with tempfile.TemporaryDirectory() as folder:
        layout = Path(folder)

        def blob(media_type: str, content: bytes) -> dict[str, Any]:
            digest = hashlib.sha256(content).hexdigest()
            (layout / "blobs/sha256" / digest).write_bytes(content)
            return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

        (layout / "blobs/sha256").mkdir(parents=True)
        created = datetime.fromtimestamp(source.seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        label = "org.opencontainers.image"
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": blob(_CHART_CONFIG, json.dumps(about).encode()),
            "layers": [blob(_CHART_CONTENT, package.read_bytes())],
            "annotations": {
                f"{label}.created": created,
                f"{label}.description": about["description"],
                f"{label}.revision": source.revision,
                f"{label}.source": PROJECT,
                f"{label}.title": about["name"],
                f"{label}.version": source.version,
            },
        }
        entry = blob(_MANIFEST, json.dumps(manifest).encode())
        entry["annotations"] = {f"{label}.ref.name": source.version}
        index = {"schemaVersion": 2, "manifests": [entry]}
        (layout / "index.json").write_text(json.dumps(index))
        (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        pack(layout, target, source.seconds)
    return str(entry["digest"])


def image(source: Source, docker_archive: Path, target: Path) -> str:
    """Write the OCI layout of an image as a tar; return the manifest's digest.

    Raises CommandError.
    """
    with tempfile.TemporaryDirectory() as folder:
        _skopeo(f"docker-archive:{docker_archive}", f"oci:{folder}:{source.version}")
        pack(Path(folder), target, source.seconds)
        index = json.loads((Path(folder) / "index.json").read_text())
    (entry,) = index["manifests"]
    return str(entry["digest"])


def push(layout: Path, reference: str) -> None:
    """Push a tar with an OCI layout to REGISTRY/NAME:TAG, as it is. Raises CommandError."""
    _skopeo("--preserve-digests", f"oci-archive:{layout}", f"docker://{reference}")


def _skopeo(*words: str) -> None:
    # Without a policy of who signs: the images are ours, from a file.
    run("skopeo", "--insecure-policy", "copy", "--quiet", *words)
