"""Where a round is computed: column blocks of its rows, in threads or on a cluster."""
