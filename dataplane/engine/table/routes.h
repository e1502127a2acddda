/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Routes: slices of a network's routing table, as paths in its FIBs. Control thread.
 */
#ifndef HR_ROUTES_H
#define HR_ROUTES_H

#include "../control/kind.h"

/* For kinds/routes.c. */

hr_prepare_fn hr_routes_prepare;
hr_abort_fn hr_routes_abort;
hr_apply_fn hr_routes_apply;
hr_remove_fn hr_routes_remove;
/** {"network","prefix","slice","nextHops"[,"blackhole"]}; filters network, slice, prefix, match. */
hr_list_fn hr_list_route;

#endif
