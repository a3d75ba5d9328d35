"""A JPEG file compared as what it holds: coefficients, tables and sampling, not the pixels that a decoder makes of it.

file       read_jpeg(): a baseline file's coefficients, strictly
scan       its entropy-coded part
forward    from a picture to the coefficients that an encoder would round, differentiable
residual   least squares and the dead zone of a file's coefficients
likelihood how probable they are for a picture, and a test of fit
"""
