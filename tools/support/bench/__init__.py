# SPDX-License-Identifier: Apache-2.0
"""The parts of tools/bench: one module for each section, and what they share."""
