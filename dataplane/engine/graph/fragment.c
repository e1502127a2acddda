/* SPDX-License-Identifier: Apache-2.0 */
#include "fragment.h"

#include "../packet/flow_hash.h"
#include "../packet/ip.h"
#include "../packet/traffic_class.h"
#include "nodes.h"
#include "rewrite.h"

#define HEADER_MIN sizeof(struct rte_ipv4_hdr)
#define HEADER_MAX 60 /**< With all the options that its length has room for. */

#define UNIT 8 /**< Bytes that offsets are counted in. */

#define OPTION_END 0
#define OPTION_NOP 1
#define OPTION_COPIED 0x80 /**< Of its type: every fragment has it. */

/**
 * Write the header that all fragments but the first have: of the options those that are copied.
 * @return its length, bytes
 */
static unsigned
later_header(const uint8_t *header, unsigned length, uint8_t *later)
{
	unsigned n = HEADER_MIN, size;

	memset(later, OPTION_END, HEADER_MAX);
	memcpy(later, header, HEADER_MIN);
	for (unsigned at = HEADER_MIN; at < length && header[at] != OPTION_END; at += size) {
		if (header[at] == OPTION_NOP) {
			size = 1;
			continue;
		}
		size = at + 1 < length ? header[at + 1] : 0;
		if (size < 2 || at + size > length)
			break;
		if ((header[at] & OPTION_COPIED) == 0)
			continue;
		memcpy(later + n, header + at, size);
		n += size;
	}
	n = RTE_ALIGN_CEIL(n, 4);
	later[0] = 0x40 | n / 4;
	return n;
}

/** Write one fragment: `n` bytes of the packet from `at` on, after a header. */
static void
write_fragment(struct rte_mbuf *piece, const struct rte_mbuf *m, const uint8_t *header,
		unsigned length, uint32_t at, uint16_t n, uint16_t offset)
{
	struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(piece, struct rte_ipv4_hdr *, HR_L2_LEN);
	uint8_t *to = (uint8_t *)ip + length;
	const void *from = rte_pktmbuf_read(m, at, n, to);

	if (from != to)
		memcpy(to, from, n);
	memcpy(ip, header, length);
	ip->total_length = rte_cpu_to_be_16(length + n);
	ip->fragment_offset = rte_cpu_to_be_16(offset);
	ip->hdr_checksum = 0;
	ip->hdr_checksum = (uint16_t)~rte_raw_cksum(ip, length);
	piece->data_len = piece->pkt_len = HR_L2_LEN + length + n;
}

static void
rewrite(struct rte_mbuf *piece, const struct hr_adj *adj)
{
	const uint8_t *ip = rte_pktmbuf_mtod_offset(piece, const uint8_t *, HR_L2_LEN);

	if (adj->ready_op == HR_OP_ETH)
		hr_rewrite_eth(piece, adj, RTE_BE16(RTE_ETHER_TYPE_IPV4));
	else if (adj->ready_op == HR_OP_VXLAN)
		hr_rewrite_vxlan(piece, adj - hr_adjs);
	else
		hr_rewrite_encap(piece, adj, hr_length4(ip), IPPROTO_IPIP, hr_traffic_class4(ip),
				hr_flow_hash4(ip));
}

void
hr_fragment(struct hr_worker *worker, struct rte_mbuf *m, const struct hr_adj *adj)
{
	const uint8_t *ip = rte_pktmbuf_mtod_offset(m, const uint8_t *, HR_L2_LEN);
	const uint32_t room = RTE_MIN(hr_adj_mtu(adj),
			(uint32_t)rte_pktmbuf_data_room_size(hr_pool) - RTE_PKTMBUF_HEADROOM -
					HR_L2_LEN);
	const unsigned length = (ip[0] & 0xf) * 4;
	const uint32_t data = m->pkt_len - HR_L2_LEN - length;
	uint8_t whole[HEADER_MAX], later[HEADER_MAX];
	struct rte_mbuf *pieces[HR_BURST];
	uint32_t step, n, bytes = 0;
	const uint8_t *header = rte_pktmbuf_read(m, HR_L2_LEN, length, whole);
	unsigned later_length;
	uint16_t field;

	/* Each fragment is given a good checksum: who made a tunnel's packets may not have. */
	if (header == NULL || rte_raw_cksum(header, length) != 0xffff) {
		hr_drop(worker, m, HR_DROP_IP4_CHECKSUM);
		return;
	}
	field = hr_fragment_field(header);
	/* An offset that began anew would overwrite what came before it. */
	if ((field & RTE_IPV4_HDR_OFFSET_MASK) + data / UNIT > RTE_IPV4_HDR_OFFSET_MASK) {
		hr_drop(worker, m, HR_DROP_IP4_HEADER);
		return;
	}
	step = room < length ? 0 : RTE_ALIGN_FLOOR(room - length, UNIT);
	n = step == 0 ? UINT32_MAX : (data + step - 1) / step;
	if (n > HR_BURST || rte_pktmbuf_alloc_bulk(hr_pool, pieces, n) != 0) {
		hr_drop(worker, m, HR_DROP_MTU);
		return;
	}
	later_length = later_header(header, length, later);
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t at = i * step;
		const uint16_t more = i + 1 < n ? RTE_IPV4_HDR_MF_FLAG : 0;

		write_fragment(pieces[i], m, i == 0 ? header : later,
				i == 0 ? length : later_length, HR_L2_LEN + length + at,
				RTE_MIN(step, data - at), (field + at / UNIT) | more);
		rewrite(pieces[i], adj);
		bytes += pieces[i]->pkt_len;
	}
	hr_tx_send(worker, adj->port, pieces, n, bytes);
	rte_pktmbuf_free(m);
}
