"""One federation: updates admitted durably, rounds ended, releases published; HTTP and enrolment are left to others."""
