/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Frames that came in several buffers, as memif's peers may send them. All nodes take it that
 * headers, and what tx is given, are in one: so frames are gathered where they are taken in.
 */
#ifndef HR_CHAIN_H
#define HR_CHAIN_H

#include <rte_mbuf.h>

/**
 * Move what a chain has into its first buffer, as far as that goes, and free the others.
 *
 * @return false when it does not hold all: the frame is then larger than any port's MTU
 */
bool hr_chain_gather(struct rte_mbuf *m);

/** Keep the first bytes of a chain that has more, and free the buffers of the others. */
void hr_chain_cut(struct rte_mbuf *m, uint32_t length);

#endif
