/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Bulk lookups. All addresses of a burst take one step at a time together, so that their loads
 * overlap. As long as all have the same kind of step to take, that is one plain loop; then those
 * that are not done are kept in two lists, by the kind of their next step. So no branch depends
 * on a single address.
 *
 * Entries are loaded relaxed: what an entry names is reached by an address computed from it, and
 * such loads are not reordered (on arm64 either). ThreadSanitizer does not know that.
 */
#include "fib.h"

#include <rte_common.h>

#include "../rcu.h"
#include "fib_private.h"

#ifdef __SANITIZE_THREAD__
#define LOAD_ORDER __ATOMIC_ACQUIRE
#else
#define LOAD_ORDER __ATOMIC_RELAXED
#endif

static inline uint32_t
load(const uint32_t *slot)
{
	return __atomic_load_n(slot, LOAD_ORDER);
}

/** Address number i of a burst takes one step from an entry: the next entry. */
typedef uint32_t (*step_fn)(uint32_t entry, const void *addrs, unsigned i);

static __rte_always_inline uint32_t
block_step(uint32_t entry, const uint8_t *addr)
{
	const struct hr_block *block =
			(const struct hr_block *)hr_blocks.base + hr_entry_value(entry);

	return load(&block->slot[addr[hr_entry_bits(entry)]]);
}

static __rte_always_inline uint32_t
block_step4(uint32_t entry, const void *addrs, unsigned i)
{
	return block_step(entry, (const uint8_t *)((const rte_be32_t *)addrs + i));
}

static __rte_always_inline uint32_t
block_step6(uint32_t entry, const void *addrs, unsigned i)
{
	return block_step(entry, ((const struct hr_ip6 *const *)addrs)[i]->b);
}

static __rte_always_inline uint32_t
guard_step4(uint32_t entry, const void *addrs, unsigned i)
{
	const struct hr_guard4 *guard =
			(const struct hr_guard4 *)hr_guards4.base + hr_entry_value(entry);
	/* Both are loaded, so that the choice needs no branch. */
	uint32_t hit = load(&guard->slots.hit), miss = load(&guard->slots.miss);

	return ((((const rte_be32_t *)addrs)[i] ^ guard->key) & guard->mask) == 0 ? hit : miss;
}

static __rte_always_inline bool
within(const struct hr_ip6 *addr, const struct hr_ip6 *key, const struct hr_ip6 *mask)
{
	uint64_t q[2];

	memcpy(q, addr, sizeof(q)); /* of any alignment */
	return (((q[0] ^ key->q[0]) & mask->q[0]) | ((q[1] ^ key->q[1]) & mask->q[1])) == 0;
}

static struct hr_ip6 masks[129];

RTE_INIT(masks_init)
{
	for (unsigned len = 0; len < RTE_DIM(masks); len++)
		masks[len] = hr_key_mask(len);
}

static __rte_always_inline uint32_t
guard_step6(uint32_t entry, const void *addrs, unsigned i)
{
	const struct hr_guard6 *guard =
			(const struct hr_guard6 *)hr_guards6.base + hr_entry_value(entry);
	uint32_t hit = load(&guard->slots.hit), miss = load(&guard->slots.miss);

	return within(((const struct hr_ip6 *const *)addrs)[i], &guard->key,
			       &masks[hr_entry_bits(entry)])
			? hit
			: miss;
}

/** Numbers of addresses. One more than a burst: pushing always writes, and then counts. */
struct list {
	uint8_t at[HR_BURST + 1];
};

static __rte_always_inline unsigned
push(struct list *list, unsigned count, unsigned i, bool wanted)
{
	list->at[count] = i;
	return count + wanted;
}

/** From a burst's entries after the first step, in `value`, to its values. */
static __rte_always_inline void
finish(const void *addrs, uint32_t *value, unsigned n, step_fn block, step_fn guard)
{
	struct list blocks, guards;
	unsigned n_blocks = 0, n_guards = 0;

	for (;;) {
		uint32_t any = 0, all = UINT32_MAX;

		for (unsigned i = 0; i < n; i++) {
			any |= value[i];
			all &= value[i];
		}
		if (hr_entry_type(any) == HR_RESULT)
			break;
		if (hr_entry_type(all) == HR_BLOCK) {
			for (unsigned i = 0; i < n; i++)
				value[i] = block(value[i], addrs, i);
		} else if (hr_entry_type(all) == HR_GUARD) {
			for (unsigned i = 0; i < n; i++)
				value[i] = guard(value[i], addrs, i);
		} else {
			for (unsigned i = 0; i < n; i++) {
				n_blocks = push(&blocks, n_blocks, i,
						hr_entry_type(value[i]) == HR_BLOCK);
				n_guards = push(&guards, n_guards, i,
						hr_entry_type(value[i]) == HR_GUARD);
			}
			break;
		}
	}
	while (n_blocks + n_guards != 0) {
		unsigned count = n_guards;

		n_guards = 0;
		for (unsigned j = 0; j < count; j++) {
			unsigned i = guards.at[j];

			value[i] = guard(value[i], addrs, i);
			/* No guard leads to a guard. */
			n_blocks = push(&blocks, n_blocks, i, hr_entry_type(value[i]) == HR_BLOCK);
		}
		count = n_blocks;
		n_blocks = 0;
		for (unsigned j = 0; j < count; j++) {
			unsigned i = blocks.at[j];

			value[i] = block(value[i], addrs, i);
			n_blocks = push(&blocks, n_blocks, i, hr_entry_type(value[i]) == HR_BLOCK);
			n_guards = push(&guards, n_guards, i, hr_entry_type(value[i]) == HR_GUARD);
		}
	}
	for (unsigned i = 0; i < n; i++)
		value[i] = hr_entry_value(value[i]);
}

void
hr_fib4_lookup(const struct hr_fib *fib, const rte_be32_t *addr, uint32_t *value, unsigned n)
{
	const struct hr_trie *trie = hr_read(fib->trie);
	uint32_t entry;

	switch (trie->root_bits) {
	case 24:
		for (unsigned i = 0; i < n; i++)
			value[i] = load(&trie->root[rte_be_to_cpu_32(addr[i]) >> 8]);
		break;
	case 16:
		for (unsigned i = 0; i < n; i++)
			value[i] = load(&trie->root[rte_be_to_cpu_32(addr[i]) >> 16]);
		break;
	default:
		entry = load(trie->root);
		if (hr_entry_type(entry) == HR_GUARD) {
			const struct hr_guard4 *guard = (const struct hr_guard4 *)hr_guards4.base +
					hr_entry_value(entry);
			uint32_t hit = load(&guard->slots.hit), miss = load(&guard->slots.miss);
			rte_be32_t key = guard->key, mask = guard->mask;

			for (unsigned i = 0; i < n; i++)
				value[i] = ((addr[i] ^ key) & mask) == 0 ? hit : miss;
		} else {
			for (unsigned i = 0; i < n; i++)
				value[i] = entry;
		}
	}
	finish(addr, value, n, block_step4, guard_step4);
}

void
hr_fib6_lookup(const struct hr_fib *fib, const struct hr_ip6 *const *addr, uint32_t *value,
		unsigned n)
{
	const struct hr_trie *trie = hr_read(fib->trie);
	uint32_t entry;

	if (trie->root_bits != 0) {
		const struct hr_ip6 key = trie->key, mask = masks[8 * trie->skip];
		const uint32_t *root = trie->root;
		unsigned bits = trie->root_bits, skip = trie->skip;
		uint32_t miss = load(&trie->miss);

		for (unsigned i = 0; i < n; i++) {
			entry = load(&root[hr_trie_root_index(&addr[i]->b[skip], bits)]);
			value[i] = within(addr[i], &key, &mask) ? entry : miss;
		}
	} else {
		entry = load(trie->root);
		if (hr_entry_type(entry) == HR_GUARD) {
			const struct hr_guard6 *guard = (const struct hr_guard6 *)hr_guards6.base +
					hr_entry_value(entry);
			const struct hr_ip6 key = guard->key, mask = masks[hr_entry_bits(entry)];
			uint32_t hit = load(&guard->slots.hit), miss = load(&guard->slots.miss);

			for (unsigned i = 0; i < n; i++)
				value[i] = within(addr[i], &key, &mask) ? hit : miss;
		} else {
			for (unsigned i = 0; i < n; i++)
				value[i] = entry;
		}
	}
	finish(addr, value, n, block_step6, guard_step6);
}
