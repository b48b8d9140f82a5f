"""Many runs: sweeps, searches, the statistics and the pages that compare them."""
