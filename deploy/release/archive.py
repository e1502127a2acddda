# SPDX-License-Identifier: Apache-2.0
"""Archives that have the same bytes whenever they are made of the same files."""

import gzip
import io
import tarfile
from pathlib import Path


def pack(folder: Path, target: Path, seconds: int) -> None:
    """Pack what is in a folder, dated `seconds` since the epoch; a name in .gz is compressed."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            member = archive.gettarinfo(path, str(path.relative_to(folder)))
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime = seconds
            # Whatever the umask of who packs it.
            member.mode = 0o755 if member.mode & 0o100 else 0o644
            if member.isreg():
                with path.open("rb") as file:
                    archive.addfile(member, file)
            else:
                archive.addfile(member)
    content = packed.getvalue()
    target.write_bytes(
        gzip.compress(content, compresslevel=6, mtime=seconds)
        if target.suffix == ".gz"
        else content
    )
