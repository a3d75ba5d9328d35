"""Recording: `wrap`, `record`, `generation` and `append` over one core."""
