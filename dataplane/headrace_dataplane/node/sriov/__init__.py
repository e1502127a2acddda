# SPDX-License-Identifier: Apache-2.0
"""SR-IOV: the VFs of a node's NICs, made and kept as policies want them.

`desired` is what is wanted, `observed` what is there, `plan` the next step from one to the other,
`apply` does it, and `restore` puts back what was found.
"""
