/* SPDX-License-Identifier: Apache-2.0 */
/** @file What a table is made of. */
#ifndef HR_FIB_PRIVATE_H
#define HR_FIB_PRIVATE_H

#include "trie.h"

struct hr_fib {
	struct hr_trie *trie; /**< What workers read; published. */
	struct hr_rib *rib;   /**< The routes; the control thread's own. */
	uint8_t family;
};

/** Routes from which on a table's root has 16 and 24 bits. Tests lower them. */
extern uint32_t hr_fib_root16_routes, hr_fib_root24_routes;

#endif
