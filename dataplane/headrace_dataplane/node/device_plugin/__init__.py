# SPDX-License-Identifier: Apache-2.0
"""A device plugin: the kubelet gives the node's VFs to pods, by extended resources.

`plugins` is what an agent uses, `endpoint` one resource of it. `allocation` says what a container
gets, `device_files` where that is on this machine, `health` whether a device works, `pod_resources`
which pod has which. `kubelet_api` has the kubelet's messages, `protobuf` how they are on the wire.
"""
