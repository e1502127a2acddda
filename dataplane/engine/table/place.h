/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Routes in a network's tables, put there by commits. Control thread.
 *
 * What apply() puts there cannot fail, for prepare() holds its place: a route in the new owner's name
 * that leads where addresses of the prefix are led already, so that none is led elsewhere meanwhile.
 * A place that is held stays when its former owner deletes what it had there.
 */
#ifndef HR_PLACE_H
#define HR_PLACE_H

#include "vrf.h"

/**
 * Hold the place of a route, unless it is one's own already.
 *
 * @param owner whose the route will be
 * @param own whose it may be now to be one's own; `owner` for none but the same
 * @param former whose it was; 0: there was none
 * @return 0, or -ENOMEM with nothing changed
 */
int hr_place_hold(struct hr_vrf *vrf, const struct hr_prefix *prefix, uint32_t owner, uint32_t own,
		uint32_t *former);
/** Give back what hr_place_hold() took, as it was; the last one first. Cannot fail. */
void hr_place_release(struct hr_vrf *vrf, const struct hr_prefix *prefix, uint32_t owner,
		uint32_t own, uint32_t former);
/** Put a route where it is held or one's own, with the caller's count of its path. Cannot fail. */
void hr_place_put(struct hr_vrf *vrf, const struct hr_prefix *prefix, uint32_t owner, uint32_t adj);
/** Delete a route if it is the owner's. Cannot fail. */
void hr_place_delete(struct hr_vrf *vrf, const struct hr_prefix *prefix, uint32_t owner);

#endif
