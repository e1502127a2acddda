/* SPDX-License-Identifier: Apache-2.0 */
#include "types.h"

const char *const hr_drop_names[HR_DROP_COUNT] = {
#define HR_DROP_NAME(id, name, text) [HR_DROP_##id] = (name),
		HR_DROPS(HR_DROP_NAME)
#undef HR_DROP_NAME
};

const char *const hr_drop_texts[HR_DROP_COUNT] = {
#define HR_DROP_TEXT(id, name, text) [HR_DROP_##id] = (text),
		HR_DROPS(HR_DROP_TEXT)
#undef HR_DROP_TEXT
};
