/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * The routes of one table, by prefix: an open-addressing hash that only the control thread reads.
 * 12 bytes a slot for IPv4, 24 for IPv6; slots are between an eighth and three quarters full.
 */
#ifndef HR_FIB_RIB_H
#define HR_FIB_RIB_H

#include "../types.h"

struct hr_rib {
	uint32_t *slots;
	uint32_t count;
	uint8_t size_bits;    /**< log2 of the slots; 0 when there are none. */
	uint8_t slot_words;   /**< Words of a slot. */
	uint32_t by_length[]; /**< Routes of each length, up to the family's longest. */
};

/** One route, valid until the next insert or delete. */
struct hr_route {
	struct hr_ip6 key; /**< IPv4: the first word; the rest is zero. */
	uint8_t len;
	uint32_t value;
	uint32_t owner;
};

/** An empty RIB. NULL: out of memory. */
struct hr_rib *hr_rib_create(uint8_t family);
void hr_rib_destroy(struct hr_rib *rib);

/** The route of exactly this prefix. */
bool hr_rib_get(const struct hr_rib *rib, const struct hr_ip6 *key, uint8_t len,
		struct hr_route *route);
/** The longest route that is shorter than len and holds the key. */
bool hr_rib_cover(const struct hr_rib *rib, const struct hr_ip6 *key, uint8_t len,
		struct hr_route *route);
/** Add a route, or replace its value and owner, which cannot fail. 0, or -ENOMEM, nothing changed. */
int hr_rib_put(struct hr_rib *rib, const struct hr_route *route);
/** Remove a route that is there. */
void hr_rib_remove(struct hr_rib *rib, const struct hr_ip6 *key, uint8_t len);
/** The next route from *at on, which starts at 0. False after the last. */
bool hr_rib_next(const struct hr_rib *rib, size_t *at, struct hr_route *route);
/** Bytes held. */
size_t hr_rib_bytes(const struct hr_rib *rib);

#endif
