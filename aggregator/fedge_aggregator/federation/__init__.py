"""One federation of this server: updates admitted durably, rounds ended, releases published."""
