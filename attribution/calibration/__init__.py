"""What a generator can do, measured: post-processing classes, many inversions, the calibration document."""
