# SPDX-License-Identifier: Apache-2.0
"""Makes what a release consists of, in dist/release: docs/release.md has the list.

HEAD must have the tag of its version, and nothing may be uncommitted. deploy/images/build.sh builds
the images, and reads its own variables from the environment: BASE, BUILDER.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from deploy.release import image, oci, plugin, sbom, signature
from deploy.release.run import run
from deploy.release.source import Source, checkout, must_be_released
from headrace_cli.errors import CommandError

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGES = ("operator", "dataplane", "connectivity", "toolbox")
_BUILT = REPOSITORY / "build/images"


def make(
    source: Source,
    images: Path,
    out: Path,
    helm: str,
    platforms: Iterable[tuple[str, str]] = tuple(plugin.PLATFORMS),
    pythons: Sequence[str] = plugin.PYTHONS,
) -> dict[str, Path]:
    """Write all but checksums and signature into an empty folder.

    `images` has operator.tar and so on (docker-archive), `helm` is the program. Returns the OCI
    layouts by where they belong in a registry, e.g. "charts/headrace". Raises CommandError.
    """
    version = source.version
    layouts: dict[str, Path] = {}
    digests: dict[str, str] = {}

    run(helm, "package", str(source.folder / "helm/headrace"), "--destination", str(out))
    layouts["charts/headrace"] = out / f"headrace-chart-{version}.oci.tar"
    digests["charts/headrace"] = oci.chart(
        source, out / f"headrace-{version}.tgz", layouts["charts/headrace"]
    )
    crds = sorted((source.folder / "crds").glob("*.yaml"))
    (out / f"headrace-crds-{version}.yaml").write_text(
        "".join(f"---\n{path.read_text()}" for path in crds)
    )

    for name in IMAGES:
        one = image.read(images / f"{name}.tar")
        stem = f"{name}-{version}-linux-{one.architecture}"
        layouts[name] = out / f"{stem}.oci.tar"
        digests[name] = oci.image(source, one.tar, layouts[name])
        (out / f"{stem}.cdx.json").write_text(sbom.of_image(source, one, digests[name]))

    package = plugin.wheel(source, out)
    archives: dict[tuple[str, str], Path] = {}
    for platform in platforms:
        stem = "-".join(("kubectl-headrace", version, *platform))
        archives[platform] = out / f"{stem}.tar.gz"
        plugin.archive(source, package, platform, archives[platform], pythons)
        with tempfile.TemporaryDirectory() as folder, tarfile.open(archives[platform]) as packed:
            packed.extractall(folder, filter="data")
            (out / f"{stem}.cdx.json").write_text(
                sbom.of_plugin(source, "-".join(platform), Path(folder))
            )
    (out / "headrace.yaml").write_text(plugin.manifest(source, archives))

    table = "".join(f"| {name}:{version} | `{digest}` |\n" for name, digest in digests.items())
    (out / "NOTES.md").write_text(
        f"{source.notes}\n## Digests\n\n| in the registry | manifest |\n| --- | --- |\n{table}"
    )
    return layouts


def must_be_of(source: Source, images: Path) -> None:
    """Raise CommandError unless the images were built from the commit."""
    for name in IMAGES:
        labels = image.read(images / f"{name}.tar").labels
        revision = labels["org.opencontainers.image.revision"]
        if revision != source.revision:
            raise CommandError(f"{images / name}.tar is of {revision}, HEAD is {source.revision}")


def main(arguments: list[str] | None = None) -> int:
    """Make a release; status 1 where it may not be."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.release",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--key",
        type=Path,
        metavar="FILE",
        help="SSH key to sign with: deploy/release/allowed_signers",
    )
    add("--registry", metavar="HOST/PATH", help="push chart and images there, too")
    add("--images", type=Path, metavar="FOLDER", help="ready images of this commit")
    add("--out", type=Path, default=REPOSITORY / "dist/release", help="folder; %(default)s")
    add("--helm", default="helm", metavar="PROGRAM", help="Helm 4; default: helm")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            source = checkout(REPOSITORY, Path(folder) / "source")
            must_be_released(REPOSITORY, source)
            if not options.images:
                subprocess.run(
                    REPOSITORY / "deploy/images/build.sh",
                    # With the names that the chart has.
                    env={**os.environ, "OUT": str(_BUILT), "REGISTRY": "", "TAG": ""},
                    check=True,
                )
            images = options.images or _BUILT
            must_be_of(source, images)
            shutil.rmtree(options.out, ignore_errors=True)
            options.out.mkdir(parents=True)
            layouts = make(source, images, options.out, options.helm)
            sums = signature.write_checksums(options.out)
            if options.key:
                signature.sign(sums, options.key, source.folder / signature.SIGNERS)
        for name, layout in layouts.items() if options.registry else ():
            reference = f"{options.registry}/{name}:{source.version}"
            print(f"pushing {reference}")
            oci.push(layout, reference)
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    except CommandError as error:
        print(f"deploy.release: {error}", file=sys.stderr)
        return 1
    for path in sorted(options.out.iterdir()):
        print(f"{path.stat().st_size / 1e6:8.1f} MB  {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
