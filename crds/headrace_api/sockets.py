# SPDX-License-Identifier: Apache-2.0
"""Where an Interface's Unix socket is: in a directory that is the Interface's alone."""

from collections.abc import Mapping

from .attachment import Attachment, AttachmentType

#: Where the directories are, unless the chart's dataplane.hostDirectory says otherwise.
SOCKETS_DIRECTORY = "/var/lib/headrace/sockets"
#: Environment variable that tells an agent of another place.
SOCKETS_VARIABLE = "HEADRACE_SOCKETS_DIRECTORY"
#: Name of the socket in the Interface's directory, by type of attachment; other types have none.
SOCKET_NAMES: Mapping[AttachmentType, str] = {
    AttachmentType.MEMIF: "memif.sock",
    AttachmentType.VHOST_USER: "vhost-user.sock",
    AttachmentType.VIRTIO_USER: "vhost-user.sock",
}


def socket_directory(key: str, root: str = SOCKETS_DIRECTORY) -> str:
    """Directory for the socket of an Interface (namespace/name), whatever its attachment."""
    return f"{root}/{key}"


def with_socket(attachment: Attachment, directory: str) -> Attachment:
    """The attachment with the path of its socket: as given, else the default in `directory`.

    The default may be longer than a socket's path can be (SOCKET_BYTES).
    """
    name = SOCKET_NAMES.get(attachment.type)
    if name is None or attachment.socket_path:
        return attachment
    path = {"socket_path": f"{directory}/{name}"}
    return attachment.model_copy(
        update={
            member: value.model_copy(update=path)
            for member in ("memif", "vhost_user", "virtio_user")
            if (value := getattr(attachment, member))
        }
    )
