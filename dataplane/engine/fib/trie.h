/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * The part of a table that workers read.
 *
 * A trie of slots. A slot holds one 4-byte entry, which is the only thing that changes under a
 * reader, and says what becomes of the addresses that get there:
 *  - RESULT: the value is this; `bits` is the length of the route that set it, so that an insert
 *    overwrites only shorter routes' results and a delete only its own route's.
 *  - GUARD: addresses within the guard's prefix, `bits` long, go on at its `hit` slot, all others
 *    at its `miss` slot, which is a RESULT. `hit` is a RESULT for a route that is alone, or the
 *    block that holds all routes of the prefix.
 *  - BLOCK: go on at the slot that byte number `bits` of the address names, of 256.
 *
 * A block sits behind a guard where it skips bytes. No guard's `hit` is a guard. A key or length
 * never changes: a new guard takes the old one's place.
 *
 * The root is an array of slots by the first 0, 16 or 24 bits. IPv6's may skip the bytes that all
 * routes but the default share; `miss` is the slot of addresses that do not share them.
 */
#ifndef HR_FIB_TRIE_H
#define HR_FIB_TRIE_H

#include "../types.h"

#include "key.h"
#include "memory.h"

enum hr_entry_type { HR_RESULT, HR_GUARD, HR_BLOCK };

#define HR_ENTRY_TYPE_SHIFT 30
#define HR_ENTRY_BITS_SHIFT 22
#define HR_ENTRY_VALUE ((1u << HR_ENTRY_BITS_SHIFT) - 1)

static inline uint32_t
hr_entry(enum hr_entry_type type, unsigned bits, uint32_t value)
{
	return (uint32_t)type << HR_ENTRY_TYPE_SHIFT | bits << HR_ENTRY_BITS_SHIFT | value;
}

static inline enum hr_entry_type
hr_entry_type(uint32_t entry)
{
	return entry >> HR_ENTRY_TYPE_SHIFT;
}

static inline unsigned
hr_entry_bits(uint32_t entry)
{
	return entry >> HR_ENTRY_BITS_SHIFT & 0xff;
}

/** RESULT: the value; GUARD, BLOCK: the index in its pool. */
static inline uint32_t
hr_entry_value(uint32_t entry)
{
	return entry & HR_ENTRY_VALUE;
}

/** The two slots of a guard. Its prefix follows, by family. */
struct hr_guard {
	uint32_t hit, miss;
};

struct hr_guard4 {
	struct hr_guard slots;
	rte_be32_t key, mask;
};
static_assert(sizeof(struct hr_guard4) == 16, "four to a cache line");

/** The mask follows from the entry's bits. */
struct hr_guard6 {
	struct hr_guard slots;
	uint64_t _pad;
	struct hr_ip6 key;
};
static_assert(sizeof(struct hr_guard6) == 32, "two to a cache line");

struct hr_block {
	uint32_t slot[256];
};

/** Pools of all tables, by what they hold. */
extern struct hr_pool hr_blocks, hr_guards4, hr_guards6;

struct hr_trie {
	uint32_t *root; /**< 1 << root_bits slots. */
	uint32_t only;  /**< The slot of a root of 0 bits. */
	uint32_t miss;  /**< Slot of addresses outside `key`'s first `skip` bytes. */
	uint8_t family;
	uint8_t root_bits; /**< 0, 16 or 24. */
	uint8_t skip;      /**< Bytes; 0 for IPv4 and for a root of 0 bits. */
	uint32_t blocks;   /**< How many it holds. */
	uint32_t guards;
	struct hr_ip6 key;
};

/** Reserve the pools, once. 0, or -ENOMEM. */
int hr_trie_init(void);
/** An empty trie. @param key what the routes share; skip bytes of it count. NULL: no memory. */
struct hr_trie *hr_trie_create(uint8_t family, unsigned root_bits, unsigned skip,
		const struct hr_ip6 *key);
/** Free a trie that no reader holds. */
void hr_trie_destroy(struct hr_trie *trie);

/** Does the root leave room for this prefix? Else the trie must be built anew with less skip. */
bool hr_trie_fits(const struct hr_trie *trie, const struct hr_ip6 *key, unsigned len);
/** Insert a route that fits. 0, or -ENOMEM with nothing changed. */
int hr_trie_insert(struct hr_trie *trie, const struct hr_ip6 *key, unsigned len, uint32_t value);
/** Replace the value of a route that is there. */
void hr_trie_replace(struct hr_trie *trie, const struct hr_ip6 *key, unsigned len, uint32_t value);
/**
 * Delete a route that is there.
 *
 * @param cover_len, cover_value the longest route around it; 0, 0 when there is none
 */
void hr_trie_delete(struct hr_trie *trie, const struct hr_ip6 *key, unsigned len,
		unsigned cover_len, uint32_t cover_value);
/** Bytes held, the share of the pools included. */
size_t hr_trie_bytes(const struct hr_trie *trie);

#define HR_TRIE_ROOT_WORD 4 /**< Bytes read to index a root; skip is at most 16 less this. */

/** Number of the root slot of an address whose bytes after the skipped ones start here. */
static inline uint32_t
hr_trie_root_index(const uint8_t *bytes, unsigned root_bits)
{
	rte_be32_t word;

	memcpy(&word, bytes, sizeof(word));
	return rte_be_to_cpu_32(word) >> (32 - root_bits);
}

#endif
