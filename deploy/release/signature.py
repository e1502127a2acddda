# SPDX-License-Identifier: Apache-2.0
"""Checksums, and their signature: what `sha256sum --check` and `ssh-keygen -Y verify` read."""

import hashlib
from pathlib import Path

from deploy.release.run import run
from headrace_cli.errors import CommandError

NAMESPACE = "headrace-release"
"""What is signed, so that a signature of something else does not pass: ssh-keygen(1), -n."""
SIGNER = "release@headrace.dev"
SIGNERS = "deploy/release/allowed_signers"
"""Whose signature counts, in the repository."""


def write_checksums(folder: Path) -> Path:
    """Write SHA256SUMS of all files of a folder into it, and return it."""
    sums = folder / "SHA256SUMS"
    names = sorted(path.name for path in folder.iterdir() if path != sums)
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    sums.write_text("".join(f"{digest}  {name}\n" for name, digest in digests.items()))
    return sums


def sign(file: Path, key: Path, signers: Path) -> Path:
    """Sign a file with an SSH key (or the public part of an agent's); return the signature's file.

    Raises CommandError, also where `signers` (ALLOWED SIGNERS of ssh-keygen(1)) lacks the key.
    """
    run("ssh-keygen", "-Y", "sign", "-f", str(key), "-n", NAMESPACE, str(file))
    signature = file.with_name(f"{file.name}.sig")
    verify = ("ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", SIGNER, "-n", NAMESPACE)
    try:
        run(*verify, "-s", str(signature), stdin=file.read_text())
    except CommandError as error:
        signature.unlink()
        raise CommandError(f"{key} is not a key of {SIGNER} in {signers.name}: {error}") from None
    return signature
