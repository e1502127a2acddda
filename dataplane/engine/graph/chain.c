/* SPDX-License-Identifier: Apache-2.0 */
#include "chain.h"

bool
hr_chain_gather(struct rte_mbuf *m)
{
	struct rte_mbuf *next;

	while ((next = m->next) != NULL) {
		const uint16_t n = RTE_MIN(rte_pktmbuf_tailroom(m), next->data_len);

		memcpy(rte_pktmbuf_mtod_offset(m, void *, m->data_len),
				rte_pktmbuf_mtod(next, const void *), n);
		m->data_len += n;
		next->data_off += n;
		next->data_len -= n;
		if (next->data_len > 0)
			return false;
		m->next = next->next;
		m->nb_segs--;
		rte_pktmbuf_free_seg(next);
	}
	return true;
}

void
hr_chain_cut(struct rte_mbuf *m, uint32_t length)
{
	struct rte_mbuf *last = m;
	uint32_t left = length;
	uint16_t n = 1;

	for (; left > last->data_len && last->next != NULL; n++) {
		left -= last->data_len;
		last = last->next;
	}
	rte_pktmbuf_free(last->next);
	last->next = NULL;
	last->data_len = left;
	m->nb_segs = n;
	m->pkt_len = length;
}
