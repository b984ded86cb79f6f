"""What each level of a trained HiSS network contributes: ablation, spectrum, horizons, memory."""
