# SPDX-License-Identifier: Apache-2.0
"""Who selects whom is the same looked at change by change, and from scratch."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from headrace_compiler.selection import Selection

NAMES, KEYS, LABELS = "abc", "xyz", "12"
CHANGES = st.one_of(
    st.tuples(st.sampled_from(NAMES), st.sampled_from([*LABELS, ""])),
    st.tuples(st.sampled_from(KEYS), st.sampled_from([*LABELS, ""])),
)


@given(st.lists(st.lists(CHANGES, max_size=4), max_size=6))
def test_each_change_is_looked_at_and_nothing_else_is(story: list[list[tuple[str, str]]]) -> None:
    selection = Selection()
    selectors: dict[str, str] = {}
    labels: dict[str, str] = {}
    looks: list[tuple[str, str]] = []

    def selects(name: str, label: str) -> Callable[[str], bool]:
        def look(key: str) -> bool:
            looks.append((name, key))
            return labels.get(key) == label

        return look

    def from_scratch() -> dict[str, set[str]]:
        return {
            key: {name for name, label in selectors.items() if labels.get(key) == label}
            for key in KEYS
        }

    for changes in story:
        before, given_again = from_scratch(), {name for name, _ in changes if name in NAMES}
        turned = {key for key, _ in changes if key in KEYS}
        for who, label in changes:
            if who in NAMES:
                selection.select(who, selects(who, label) if label else None)
                selectors.pop(who, None)
                if label:
                    selectors[who] = label
            else:
                labels.pop(who, None)
                if label:
                    labels[who] = label
                selection.look_at([who])
        looks.clear()
        changed = selection.settle(labels)
        after = from_scratch()
        assert {key: {*selection.selecting(key)} for key in KEYS} == after
        assert changed == {
            key for key in KEYS if after[key] != before[key] or before[key] & given_again
        }
        assert all(name in given_again or key in turned for name, key in looks)
        assert len(looks) == len({*looks})
