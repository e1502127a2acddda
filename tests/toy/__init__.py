# SPDX-License-Identifier: Apache-2.0
"""A kind of object that Headrace has not: one model, one module of the compiler, one page.

`python -m tests.toy MODULE WORDS...` runs a program of Headrace that has it.
"""
