/* SPDX-License-Identifier: Apache-2.0 */
#include "path_mtu.h"

#include "../control/addr.h"
#include "../control/list.h"
#include "../control/map.h"
#include "../kinds/uplink.h"

/** What an uplink has at least: endpoints need not heed less than HR_MTU_MIN inside. */
#define LEAST (HR_MTU_MIN + HR_UNDERLAY_OVERHEAD)

static struct said {
	struct hr_ip6 underlay;
	uint16_t mtu;
	uint64_t until;
} all_said[HR_PATH_MTUS_MAX];

static unsigned n_said;
static struct hr_map by_underlay;

/** What is said of an address, new if need be; NULL: too much is, or no memory is left. */
static struct said *
said_of(const struct hr_ip6 *underlay)
{
	struct said *said = hr_map_get(&by_underlay, underlay, sizeof(*underlay));

	if (said != NULL)
		return said;
	if (n_said == HR_PATH_MTUS_MAX || hr_map_reserve(&by_underlay, n_said + 1) != 0)
		return NULL;
	said = &all_said[n_said++];
	said->underlay = *underlay;
	hr_map_put(&by_underlay, &said->underlay, sizeof(said->underlay), said);
	return said;
}

bool
hr_path_mtu_lower(const struct hr_ip6 *underlay, uint16_t mtu, uint64_t now_ms)
{
	struct said *said;

	if (mtu < HR_MTU_MIN) /* RFC 8201 4 */
		return false;
	mtu = RTE_MAX(mtu, LEAST);
	if (mtu >= hr_path_mtu(underlay))
		return false;
	said = said_of(underlay);
	if (said == NULL)
		return false;
	said->mtu = mtu;
	said->until = now_ms + HR_PATH_MTU_MS;
	return true;
}

uint16_t
hr_path_mtu(const struct hr_ip6 *underlay)
{
	const struct said *said = hr_map_get(&by_underlay, underlay, sizeof(*underlay));

	return said == NULL ? UINT16_MAX : said->mtu;
}

/** The last one takes its place. */
static void
forget(struct said *said)
{
	const struct said *last = &all_said[--n_said];

	hr_map_remove(&by_underlay, &said->underlay, sizeof(said->underlay));
	if (said != last) {
		hr_map_remove(&by_underlay, &last->underlay, sizeof(last->underlay));
		*said = *last;
		hr_map_put(&by_underlay, &said->underlay, sizeof(said->underlay), said);
	}
}

void
hr_path_mtu_forget(const struct hr_ip6 *underlay)
{
	struct said *said = hr_map_get(&by_underlay, underlay, sizeof(*underlay));

	if (said != NULL)
		forget(said);
}

bool
hr_path_mtu_expire(uint64_t now_ms, struct hr_ip6 *underlay)
{
	for (unsigned i = 0; i < n_said; i++) {
		if (now_ms < all_said[i].until)
			continue;
		*underlay = all_said[i].underlay;
		forget(&all_said[i]);
		return true;
	}
	return false;
}

json_t *
hr_list_path_mtu(const json_t *filter, size_t cursor, size_t limit, size_t *next,
		struct hr_errors *errors)
{
	json_t *items = json_array();
	char underlay[HR_ADDR_TEXT];

	RTE_SET_USED(errors);
	*next = 0;
	for (size_t i = cursor; i < n_said; i++) {
		hr_ip6_format(&all_said[i].underlay, underlay);
		if (!hr_filter_text(filter, "underlay", underlay))
			continue;
		if (json_array_size(items) == limit) {
			*next = i;
			break;
		}
		json_array_append_new(items,
				json_pack("{s:s, s:i}", "underlay", underlay, "mtu",
						all_said[i].mtu));
	}
	return items;
}
