/* SPDX-License-Identifier: Apache-2.0 */
#include "trie.h"

#include <errno.h>
#include <stdlib.h>

#include <rte_common.h>

#include "../rcu.h"

/* As many as an entry can name; there are fewer routes than that, and a route takes one of each. */
#define POOL_CAPACITY (1u << HR_ENTRY_BITS_SHIFT)

/* The most that one insert takes: a block, a guard before it, and one for each route below it. */
#define INSERT_BLOCKS 1
#define INSERT_GUARDS 3

struct hr_pool hr_blocks, hr_guards4, hr_guards6;

int
hr_trie_init(void)
{
	if ((hr_blocks.base == NULL &&
			    hr_pool_init(&hr_blocks, sizeof(struct hr_block), POOL_CAPACITY) !=
					    0) ||
			(hr_guards4.base == NULL &&
					hr_pool_init(&hr_guards4, sizeof(struct hr_guard4),
							POOL_CAPACITY) != 0) ||
			(hr_guards6.base == NULL &&
					hr_pool_init(&hr_guards6, sizeof(struct hr_guard6),
							POOL_CAPACITY) != 0))
		return -ENOMEM;
	return 0;
}

/** What the entry refers to is complete before a reader can see it. */
static void
store(uint32_t *slot, uint32_t entry)
{
	__atomic_store_n(slot, entry, __ATOMIC_RELEASE);
}

static size_t
root_bytes(const struct hr_trie *trie)
{
	return trie->root_bits == 0 ? 0 : sizeof(uint32_t) << trie->root_bits;
}

struct hr_trie *
hr_trie_create(uint8_t family, unsigned root_bits, unsigned skip, const struct hr_ip6 *key)
{
	struct hr_trie *trie = calloc(1, sizeof(*trie));

	if (trie == NULL)
		return NULL;
	*trie = (struct hr_trie){
			.root = &trie->only,
			.family = family,
			.root_bits = root_bits,
			.skip = skip,
			.key = hr_key_prefix(key, 8 * skip),
	};
	if (root_bits != 0) {
		trie->root = hr_array_alloc(root_bytes(trie));
		if (trie->root == NULL) {
			free(trie);
			return NULL;
		}
	}
	return trie;
}

size_t
hr_trie_bytes(const struct hr_trie *trie)
{
	return sizeof(*trie) + root_bytes(trie) + trie->blocks * sizeof(struct hr_block) +
			(size_t)trie->guards *
			(trie->family == 4 ? sizeof(struct hr_guard4) : sizeof(struct hr_guard6));
}

static struct hr_block *
block_of(uint32_t entry)
{
	return (struct hr_block *)hr_blocks.base + hr_entry_value(entry);
}

static struct hr_guard *
guard_of(const struct hr_trie *trie, uint32_t entry)
{
	if (trie->family == 4)
		return &((struct hr_guard4 *)hr_guards4.base + hr_entry_value(entry))->slots;
	return &((struct hr_guard6 *)hr_guards6.base + hr_entry_value(entry))->slots;
}

static struct hr_ip6
guard_key(const struct hr_trie *trie, const struct hr_guard *guard)
{
	if (trie->family == 4)
		return (struct hr_ip6){.w = {((const struct hr_guard4 *)guard)->key}};
	return ((const struct hr_guard6 *)guard)->key;
}

/** A block whose slots all hold the entry. */
static uint32_t
block_new(struct hr_trie *trie, unsigned byte, uint32_t fill)
{
	uint32_t entry = hr_entry(HR_BLOCK, byte, hr_pool_alloc(&hr_blocks));
	struct hr_block *block = block_of(entry);

	for (unsigned i = 0; i < RTE_DIM(block->slot); i++)
		block->slot[i] = fill;
	trie->blocks++;
	return entry;
}

static uint32_t
guard_new(struct hr_trie *trie, const struct hr_ip6 *key, unsigned bits, uint32_t hit,
		uint32_t miss)
{
	struct hr_ip6 mask = hr_key_mask(bits);
	uint32_t index;

	if (trie->family == 4) {
		index = hr_pool_alloc(&hr_guards4);
		((struct hr_guard4 *)hr_guards4.base)[index] = (struct hr_guard4){
				.slots = {.hit = hit, .miss = miss},
				.key = key->w[0] & mask.w[0],
				.mask = mask.w[0],
		};
	} else {
		index = hr_pool_alloc(&hr_guards6);
		((struct hr_guard6 *)hr_guards6.base)[index] = (struct hr_guard6){
				.slots = {.hit = hit, .miss = miss},
				.key = hr_key_prefix(key, bits),
		};
	}
	trie->guards++;
	return hr_entry(HR_GUARD, bits, index);
}

static void
reclaim_block(void *index)
{
	hr_pool_free(&hr_blocks, (uintptr_t)index);
}

static void
reclaim_guard4(void *index)
{
	hr_pool_free(&hr_guards4, (uintptr_t)index);
}

static void
reclaim_guard6(void *index)
{
	hr_pool_free(&hr_guards6, (uintptr_t)index);
}

/**
 * Free the block or guard itself, which no slot names any more, when no reader can hold it. Without
 * the memory to remember it by, that is before this returns.
 */
static void
retire(struct hr_trie *trie, uint32_t entry)
{
	void *index = (void *)(uintptr_t)hr_entry_value(entry);

	if (hr_entry_type(entry) == HR_BLOCK) {
		trie->blocks--;
		hr_defer(reclaim_block, index);
	} else {
		trie->guards--;
		hr_defer(trie->family == 4 ? reclaim_guard4 : reclaim_guard6, index);
	}
}

/** Free all that an entry refers to, now. */
static void
destroy_entry(const struct hr_trie *trie, uint32_t entry)
{
	struct hr_block *block;

	switch (hr_entry_type(entry)) {
	case HR_RESULT:
		break;
	case HR_GUARD:
		destroy_entry(trie, guard_of(trie, entry)->hit);
		hr_pool_free(trie->family == 4 ? &hr_guards4 : &hr_guards6, hr_entry_value(entry));
		break;
	case HR_BLOCK:
		block = block_of(entry);
		for (unsigned i = 0; i < RTE_DIM(block->slot); i++)
			destroy_entry(trie, block->slot[i]);
		hr_pool_free(&hr_blocks, hr_entry_value(entry));
		break;
	}
}

void
hr_trie_destroy(struct hr_trie *trie)
{
	for (size_t i = 0; i < (size_t)1 << trie->root_bits; i++)
		destroy_entry(trie, trie->root[i]);
	if (trie->root_bits != 0)
		hr_array_free(trie->root, root_bytes(trie));
	free(trie);
}

/** Replace all results from these slots on that routes of min..max bits have set. */
static void
paint(struct hr_trie *trie, uint32_t *slots, size_t count, unsigned min, unsigned max,
		uint32_t result)
{
	for (size_t i = 0; i < count; i++) {
		uint32_t entry = slots[i];

		switch (hr_entry_type(entry)) {
		case HR_RESULT:
			if (hr_entry_bits(entry) >= min && hr_entry_bits(entry) <= max)
				store(&slots[i], result);
			break;
		case HR_GUARD:
			paint(trie, &guard_of(trie, entry)->hit, 1, min, max, result);
			paint(trie, &guard_of(trie, entry)->miss, 1, min, max, result);
			break;
		case HR_BLOCK:
			paint(trie, block_of(entry)->slot, RTE_DIM(block_of(entry)->slot), min, max,
					result);
			break;
		}
	}
}

/** Paint the root slots that a prefix covers, and for the default route `miss`. */
static void
paint_root(struct hr_trie *trie, const struct hr_ip6 *key, unsigned len, unsigned min,
		uint32_t result)
{
	unsigned covered = len == 0 ? 0 : len - 8 * trie->skip;
	uint32_t first =
			covered == 0 ? 0 : hr_trie_root_index(&key->b[trie->skip], trie->root_bits);

	if (len == 0)
		paint(trie, &trie->miss, 1, min, len, result);
	paint(trie, trie->root + first, (size_t)1 << (trie->root_bits - covered), min, len, result);
}

/** The slot of the root that an address ends up at; it shares the skipped bytes. */
static uint32_t *
root_slot(const struct hr_trie *trie, const struct hr_ip6 *key)
{
	if (trie->root_bits == 0)
		return trie->root;
	return &trie->root[hr_trie_root_index(&key->b[trie->skip], trie->root_bits)];
}

bool
hr_trie_fits(const struct hr_trie *trie, const struct hr_ip6 *key, unsigned len)
{
	return len == 0 || RTE_MIN(hr_key_common(key, &trie->key), len) >= 8u * trie->skip;
}

/** Insert below a slot that the first `depth` bits, whole bytes, lead to. */
static void
insert_at(struct hr_trie *trie, uint32_t *slot, unsigned depth, const struct hr_ip6 *key,
		unsigned len, uint32_t result)
{
	for (;;) {
		uint32_t entry = *slot;

		if (len <= depth) {
			paint(trie, slot, 1, 0, len, result);
			return;
		}
		if (hr_entry_type(entry) == HR_RESULT) {
			store(slot, guard_new(trie, key, len, result, entry));
			return;
		}
		if (hr_entry_type(entry) == HR_BLOCK) {
			slot = &block_of(entry)->slot[key->b[depth / 8]];
			depth += 8;
			if (len < depth) {
				paint(trie, slot, 1u << (depth - len), 0, len, result);
				return;
			}
			continue;
		}

		struct hr_guard *guard = guard_of(trie, entry);
		struct hr_ip6 other = guard_key(trie, guard);
		unsigned other_len = hr_entry_bits(entry);
		unsigned shorter = RTE_MIN(len, other_len);
		unsigned common = RTE_MIN(hr_key_common(key, &other), shorter);

		if (common == other_len &&
				(len == other_len || hr_entry_type(guard->hit) == HR_BLOCK)) {
			slot = &guard->hit;
			depth = other_len;
			continue;
		}

		/* Where they part, a block holds what the guard held and the new route. The guard
		 * is not reused: its miss slot will mean fewer addresses than to those who read it
		 * where it is now.
		 */
		unsigned byte = common / 8;
		uint32_t block = block_new(trie, byte, guard->miss);

		if (hr_entry_type(guard->hit) == HR_RESULT)
			insert_at(trie, &block, 8 * byte, &other, other_len, guard->hit);
		else
			block_of(block)->slot[other.b[byte]] = other_len == 8 * (byte + 1)
					? guard->hit
					: guard_new(trie, &other, other_len, guard->hit,
							  guard->miss);
		insert_at(trie, &block, 8 * byte, key, len, result);
		store(slot,
				8 * byte == depth ? block
						  : guard_new(trie, key, 8 * byte, block,
								    guard->miss));
		retire(trie, entry);
		return;
	}
}

/** Takes nothing from the pools for a route that is there: it has its slots. */
static void
put(struct hr_trie *trie, const struct hr_ip6 *key, unsigned len, uint32_t value)
{
	unsigned depth = 8 * trie->skip + trie->root_bits;
	uint32_t result = hr_entry(HR_RESULT, len, value);

	if (len <= depth)
		paint_root(trie, key, len, 0, result);
	else
		insert_at(trie, root_slot(trie, key), depth, key, len, result);
}

int
hr_trie_insert(struct hr_trie *trie, const struct hr_ip6 *key, unsigned len, uint32_t value)
{
	if (!hr_pool_has(&hr_blocks, INSERT_BLOCKS) ||
			!hr_pool_has(trie->family == 4 ? &hr_guards4 : &hr_guards6, INSERT_GUARDS))
		return -ENOMEM;
	put(trie, key, len, value);
	return 0;
}

void
hr_trie_replace(struct hr_trie *trie, const struct hr_ip6 *key, unsigned len, uint32_t value)
{
	put(trie, key, len, value);
}

/** What a block holds beside the result of the route around it. */
struct content {
	uint32_t cover;   /**< The result of routes not longer than the block's prefix. */
	unsigned covered; /**< Slots that hold it. */
	uint32_t other;   /**< The one other entry, if all other slots hold the same. */
	unsigned first;   /**< The first slot that does. */
	bool mixed;       /**< They do not. */
};

static struct content
block_content(uint32_t entry)
{
	const struct hr_block *block = block_of(entry);
	unsigned depth = 8 * hr_entry_bits(entry);
	struct content c = {.first = RTE_DIM(block->slot)};

	for (unsigned i = 0; i < RTE_DIM(block->slot); i++) {
		uint32_t e = block->slot[i];

		if (hr_entry_type(e) == HR_RESULT && hr_entry_bits(e) <= depth) {
			c.cover = e;
			c.covered++;
		} else if (c.first == RTE_DIM(block->slot)) {
			c.first = i;
			c.other = e;
		} else if (e != c.other) {
			c.mixed = true;
			break;
		}
	}
	return c;
}

/**
 * What may stand for a block that holds but one thing: nothing, a lone route, a deeper block.
 *
 * @param key any address of the block
 * @param miss of the guard that the block is behind, NULL without one: unless it is what the
 * block's own slots hold, a guard cannot stand for both
 * @param simple where it goes: a RESULT or a GUARD
 * @return false when there is no such entry, or no guard for it
 */
static bool
simplify_block(struct hr_trie *trie, uint32_t entry, const struct hr_ip6 *key, const uint32_t *miss,
		uint32_t *simple)
{
	struct content c = block_content(entry);
	unsigned byte = hr_entry_bits(entry);

	if (c.mixed || c.covered == 0)
		return false;
	if (c.covered == RTE_DIM(block_of(entry)->slot)) {
		*simple = c.cover;
		return true;
	}
	if (miss != NULL && *miss != c.cover)
		return false;
	if (hr_entry_type(c.other) == HR_GUARD) {
		*simple = c.other;
		return guard_of(trie, c.other)->miss == c.cover;
	}

	unsigned len = hr_entry_type(c.other) == HR_RESULT ? hr_entry_bits(c.other) : 8 * byte + 8;
	struct hr_ip6 prefix = *key;

	/* The same result twice is two routes of one length, and one value. */
	if (RTE_DIM(block_of(entry)->slot) - c.covered != 1u << (8 * byte + 8 - len) ||
			!hr_pool_has(trie->family == 4 ? &hr_guards4 : &hr_guards6, 1))
		return false;
	prefix.b[byte] = c.first;
	*simple = guard_new(trie, &prefix, len, c.other, c.cover);
	return true;
}

/** Take out of a slot what a delete has left without a purpose. True when the slot changed. */
static bool
simplify(struct hr_trie *trie, uint32_t *slot, const struct hr_ip6 *key)
{
	uint32_t entry = *slot, simple;

	if (hr_entry_type(entry) == HR_RESULT)
		return false;
	if (hr_entry_type(entry) == HR_BLOCK) {
		if (!simplify_block(trie, entry, key, NULL, &simple))
			return false;
		store(slot, simple);
		retire(trie, entry);
		return true;
	}

	struct hr_guard *guard = guard_of(trie, entry);
	uint32_t hit = guard->hit;
	bool stays;

	if (hr_entry_type(hit) != HR_BLOCK)
		simple = hit;
	else if (!simplify_block(trie, hit, key, &guard->miss, &simple))
		return false;
	stays = hr_entry_type(simple) == HR_RESULT && simple != guard->miss;
	store(stays ? &guard->hit : slot, simple);
	if (hr_entry_type(hit) == HR_BLOCK)
		retire(trie, hit);
	if (!stays)
		retire(trie, entry);
	return !stays;
}

void
hr_trie_delete(struct hr_trie *trie, const struct hr_ip6 *key, unsigned len, unsigned cover_len,
		uint32_t cover_value)
{
	uint32_t cover = hr_entry(HR_RESULT, cover_len, cover_value);
	unsigned depth = 8 * trie->skip + trie->root_bits;
	uint32_t *path[2 * sizeof(key->b)], *slot;
	unsigned steps = 0;

	if (len <= depth) {
		paint_root(trie, key, len, len, cover);
		return;
	}
	slot = root_slot(trie, key);
	while (len > depth) {
		uint32_t entry = *slot;

		path[steps++] = slot;
		if (hr_entry_type(entry) == HR_GUARD) {
			slot = &guard_of(trie, entry)->hit;
			depth = hr_entry_bits(entry);
			if (depth == len)
				break;
			entry = *slot;
		}
		slot = &block_of(entry)->slot[key->b[depth / 8]];
		depth += 8;
	}
	paint(trie, slot, 1u << (depth - len), len, len, cover);
	while (steps > 0 && simplify(trie, path[--steps], key))
		;
}
