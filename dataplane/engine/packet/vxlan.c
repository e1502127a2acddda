/* SPDX-License-Identifier: Apache-2.0 */
#include "vxlan.h"

#include <netinet/in.h>

#include <rte_ip.h>
#include <rte_udp.h>

#define IP6_LEN sizeof(struct rte_ipv6_hdr)
#define VNI_IS_VALID 0x08
#define FIRST_PORT 49152

struct HR_WIRE headers {
	rte_be16_t source, destination, length, checksum;
	uint8_t flags, _reserved[3];
	rte_be32_t vni; /**< In the upper 24 bits. */
	struct rte_ether_hdr eth;
};
static_assert(sizeof(struct headers) == HR_VXLAN_LEN, "as on the wire");

void
hr_vxlan_write(uint8_t *header, const struct hr_vxlan *vxlan, uint16_t length, uint16_t ether_type,
		uint32_t hash)
{
	struct headers *h = (void *)header;

	*h = (struct headers){
			.source = rte_cpu_to_be_16(FIRST_PORT + (hash >> 18)),
			.destination = RTE_BE16(HR_VXLAN_PORT),
			.length = rte_cpu_to_be_16(HR_VXLAN_LEN + length),
			.flags = VNI_IS_VALID,
			.vni = rte_cpu_to_be_32(vxlan->vni << 8),
	};
	hr_write_ether(&h->eth, vxlan->mac, hr_mac_gateway, ether_type);
}

bool
hr_is_vxlan(const uint8_t *ip, uint32_t n)
{
	const struct headers *h = (const void *)(ip + IP6_LEN);

	return ip[6] == IPPROTO_UDP && n >= IP6_LEN + sizeof(struct rte_udp_hdr) &&
			h->destination == RTE_BE16(HR_VXLAN_PORT);
}

uint8_t
hr_vxlan_read(const uint8_t *ip, uint32_t n, uint32_t *vni)
{
	const struct headers *h = (const void *)(ip + IP6_LEN);
	const uint16_t payload = ip[4] << 8 | ip[5];

	if (n < IP6_LEN + HR_VXLAN_LEN || payload < HR_VXLAN_LEN ||
			rte_be_to_cpu_16(h->length) != payload || (h->flags & VNI_IS_VALID) == 0)
		return 0;
	*vni = rte_be_to_cpu_32(h->vni) >> 8;
	switch (h->eth.ether_type) {
	case RTE_BE16(RTE_ETHER_TYPE_IPV4):
		return IPPROTO_IPIP;
	case RTE_BE16(RTE_ETHER_TYPE_IPV6):
		return IPPROTO_IPV6;
	default:
		return 0;
	}
}
