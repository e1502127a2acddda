/* SPDX-License-Identifier: Apache-2.0 */
#include "traffic_class.h"

#include <string.h>

#include "icmp.h"

/** RFC 3168 5. */
enum {
	NOT_ECT,
	ECT1,
	ECT0,
	CE,
	DROP,
};

/** RFC 6040 figure 4, by inner and outer. */
static const uint8_t combined[4][4] = {
		[NOT_ECT] = {[NOT_ECT] = NOT_ECT, [ECT0] = NOT_ECT, [ECT1] = NOT_ECT, [CE] = DROP},
		[ECT0] = {[NOT_ECT] = ECT0, [ECT0] = ECT0, [ECT1] = ECT1, [CE] = CE},
		[ECT1] = {[NOT_ECT] = ECT1, [ECT0] = ECT1, [ECT1] = ECT1, [CE] = CE},
		[CE] = {[NOT_ECT] = CE, [ECT0] = CE, [ECT1] = CE, [CE] = CE},
};

bool
hr_ecn_decapsulate(const uint8_t *outer, uint8_t *inner)
{
	const uint8_t had = hr_traffic_class(inner) & HR_ECN_MASK;
	const uint8_t has = combined[had][hr_traffic_class6(outer) & HR_ECN_MASK];
	uint16_t old, new, checksum;

	if (has == DROP)
		return false;
	if (has == had)
		return true;
	if (inner[0] >> 4 == 6) {
		inner[1] ^= (had ^ has) << 4;
		return true;
	}
	memcpy(&old, inner, sizeof(old));
	inner[1] ^= had ^ has;
	memcpy(&new, inner, sizeof(new));
	memcpy(&checksum, inner + 10, sizeof(checksum));
	checksum = hr_checksum_update(checksum, old, new);
	memcpy(inner + 10, &checksum, sizeof(checksum));
	return true;
}
