/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Transactions: objects put and deleted together, or not at all.
 */
#ifndef HR_CONTROL_TXN_H
#define HR_CONTROL_TXN_H

#include "kind.h"

/**
 * Commit a transaction.
 *
 * Parses everything, checks the state that would be (references, what must be unique, limits),
 * prepares, applies. An object put with the hash it already has is left alone; deleting what is
 * not there is no error. When an object's spec changes, the one that has its only use (the interface or
 * uplink on a port) is put again.
 *
 * @param objects array of {"kind","key","hash","spec"} and {"kind","key","delete":true}
 * @param generation what hr_store_generation() says from then on
 * @param errors none so far
 * @return 0; -EINVAL with errors added and nothing changed
 */
int hr_txn_commit(const json_t *objects, int64_t generation, struct hr_errors *errors);

/** Remove every object, in reverse dependency order. For shutdown. */
void hr_txn_clear(void);

/* Below: for a kind's prepare(). */

/** The spec that an object will have after the commit; NULL when it will not exist. */
const void *hr_txn_spec(const struct hr_txn *txn, const struct hr_kind *kind, const char *key);
/** What prepare() left for an object of an earlier kind; NULL when it is not part of the commit. */
void *hr_txn_prepared(const struct hr_txn *txn, const struct hr_kind *kind, const char *key);

#endif
