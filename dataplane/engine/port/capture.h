/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Files that net_pcap reads and writes.
 */
#ifndef HR_PORT_CAPTURE_H
#define HR_PORT_CAPTURE_H

#include "device.h"

/** See to the files that devargs name. @return 0, or -errno */
int hr_capture_see_files(const char *devargs, struct hr_why *why);

#endif
