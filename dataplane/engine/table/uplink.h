/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What settings change of uplinks. Control thread.
 */
#ifndef HR_UPLINK_H
#define HR_UPLINK_H

/** Let workers know again which addresses are the node's own, on every uplink. */
void hr_uplinks_publish(void);

#endif
