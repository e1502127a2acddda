/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Longest prefix match: a path-compressed multibit trie of 8-bit strides.
 *
 * One control thread changes a table in place while workers look up: every change a reader can
 * see is one aligned 4-byte store, and memory a reader may still hold is freed through hr_defer().
 * Memory follows the routes: a lone route costs 16 bytes (IPv4) or 32 (IPv6) and its share of the
 * control thread's hash, routes close to each other share blocks of 1 KiB. From 4096 routes on the
 * root is an array of 256 KiB, from 65536 on of 64 MiB, which lookups pass in one load; the insert
 * or delete that crosses such a size builds the table anew beside the one in use.
 *
 * Tables, like hr_defer(), belong to one control thread; only lookups are for workers. An address
 * looked up during a change has its old or its new answer. hr_rcu_init() comes first.
 */
#ifndef HR_FIB_H
#define HR_FIB_H

#include "../types.h"

struct hr_fib; /**< One family's table of one network. */

/** A new, empty table. @param family 4 or 6. @return NULL when out of memory. */
struct hr_fib *hr_fib_create(uint8_t family);
/** Free a table that no worker reads any more (call after a grace period). */
void hr_fib_destroy(struct hr_fib *fib);

/**
 * Insert a route, or replace its value and owner. Nothing that replaces fails, as no delete does.
 *
 * @param addr prefix address, network byte order, host bits zero; its family is the table's
 * @param len 0..32 or 0..128
 * @param value what lookups return: 0..2^22-1
 * @param owner who put it: any number; kept for hr_fib_delete() and hr_fib_get()
 * @param old_value where the replaced value goes, 0 when the route is new; may be NULL
 * @return 0, or -ENOMEM with the table unchanged
 */
int hr_fib_insert(struct hr_fib *fib, const struct hr_addr *addr, uint8_t len, uint32_t value,
		uint32_t owner, uint32_t *old_value);

/**
 * Delete a route if it is the owner's.
 *
 * @param value where the deleted route's value goes; may be NULL
 * @return 0; -ENOENT when there is none, or it belongs to another owner
 */
int hr_fib_delete(struct hr_fib *fib, const struct hr_addr *addr, uint8_t len, uint32_t owner,
		uint32_t *value);

/** The route of exactly this prefix: 0 and *value, *owner (each may be NULL), or -ENOENT. */
int hr_fib_get(const struct hr_fib *fib, const struct hr_addr *addr, uint8_t len, uint32_t *value,
		uint32_t *owner);

/** What lookups of a prefix's addresses would return without it and what is in it; 0 for none. */
uint32_t hr_fib_cover(const struct hr_fib *fib, const struct hr_addr *addr, uint8_t len);

/** Visit every route, in no order. Stops early when the visitor returns true; it may not insert
 * or delete. */
typedef bool (*hr_fib_visit)(const struct hr_prefix *prefix, uint32_t value, uint32_t owner,
		void *arg);
void hr_fib_walk(const struct hr_fib *fib, hr_fib_visit visit, void *arg);

/** Routes held. */
uint32_t hr_fib_count(const struct hr_fib *fib);
/** Bytes held by this table, its share of the pools included. */
size_t hr_fib_bytes(const struct hr_fib *fib);

/**
 * Look up n addresses; value[i] is the longest match's value, 0 for none. Any worker; n is 1..64.
 * @param addr IPv4 addresses in network byte order
 */
void hr_fib4_lookup(const struct hr_fib *fib, const rte_be32_t *addr, uint32_t *value, unsigned n);
/** The same for IPv6. @param addr pointers to the addresses, of any alignment */
void hr_fib6_lookup(const struct hr_fib *fib, const struct hr_ip6 *const *addr, uint32_t *value,
		unsigned n);

#endif
