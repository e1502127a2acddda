/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * The multicast groups that each port has to hear: those in which neighbours are asked for what the
 * port answers. Control thread.
 */
#ifndef HR_GROUP_H
#define HR_GROUP_H

/** A port's role, or the addresses that live here, changed. Cheap: nothing is done yet. */
void hr_groups_changed(void);

/** Have all ports join what they have to hear now, when that changed. Called by the control loop. */
void hr_groups_poll(void);

#endif
