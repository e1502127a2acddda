/* SPDX-License-Identifier: Apache-2.0 */
#include "underlay.h"

#include "../control/addr.h"

#define VNI_SHIFT 40

struct hr_underlay hr_underlay;

bool
hr_underlay_has(const struct hr_ip6 *address)
{
	for (uint16_t i = 0; i < hr_underlay.n_prefixes; i++)
		if (hr_prefix_has6(&hr_underlay.prefixes[i], address))
			return true;
	return false;
}

struct hr_ip6
hr_underlay_source(const struct hr_ip6 *own, const struct hr_ip6 *destination, uint32_t vni)
{
	struct hr_ip6 source = *own;

	if (hr_underlay_has(own) && hr_underlay_has(destination) &&
			(destination->q[1] & HR_VNI_BITS) != 0)
		source.q[1] = (own->q[1] & ~HR_VNI_BITS) |
				rte_cpu_to_be_64((uint64_t)vni << VNI_SHIFT);
	return source;
}

struct hr_ip6
hr_underlay_source_mask(void)
{
	uint8_t longest = 0;

	if (!hr_underlay.source_check)
		return (struct hr_ip6){0};
	for (uint16_t i = 0; i < hr_underlay.n_prefixes; i++)
		longest = RTE_MAX(longest, hr_underlay.prefixes[i].len);
	return (struct hr_ip6){
			.q = {rte_cpu_to_be_64(UINT64_MAX << (64 - longest)), HR_VNI_BITS},
	};
}
