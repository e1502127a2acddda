# SPDX-License-Identifier: Apache-2.0
"""Reservation: an address of a network that no Interface gets."""

from headrace_api.attachment import ObjectRef
from headrace_api.base import ApiModel, ObjectStatus, Resource, column
from headrace_api.types import TenantAddress


class ReservationSpec(ApiModel):
    """What is reserved."""

    network_ref: ObjectRef
    """The VirtualNetwork, in the same namespace."""
    address: TenantAddress
    """The address."""


class Reservation(Resource):
    """An address of a network that no Interface gets."""

    PLURAL = "reservations"
    SHORT_NAME = "rsv"
    COLUMNS = (column("Network", ".spec.networkRef.name"), column("Address", ".spec.address"))

    spec: ReservationSpec
    status: ObjectStatus | None = None
