"""Who could have made this picture: generators, inversion, calibration, replay, changed copies, the verifier."""
