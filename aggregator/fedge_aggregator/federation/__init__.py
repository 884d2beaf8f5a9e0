# SPDX-License-Identifier: Apache-2.0
"""One federation: updates admitted durably, rounds ended, releases published; HTTP and enrolment are left to others."""
