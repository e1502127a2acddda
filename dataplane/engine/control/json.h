/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What `list` replies of all kinds share.
 */
#ifndef HR_CONTROL_JSON_H
#define HR_CONTROL_JSON_H

#include "store.h"

void hr_json_append_addr(json_t *array, const struct hr_addr *addr);
void hr_json_append_ip6(json_t *array, const struct hr_ip6 *ip6);
void hr_json_append_prefix(json_t *array, const struct hr_prefix *prefix);
json_t *hr_json_mac(const struct rte_ether_addr *mac);

#endif
