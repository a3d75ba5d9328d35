"""`pytorch-dcgan`: the generator of PyTorch's DCGAN example and of the many that were trained with it, 64x64.

main.0.weight [latent, 8 width, 4, 4]   main.1.* BatchNorm   ...   main.12.weight [width, channels, 4, 4]
"""

from __future__ import annotations

from ....schemas.errors import SetupError
from .keys import Converted, Keys, Options, placed

SAMPLING = {"output_range": [-1, 1], "rounding": "mul255_add0.5_floor"}


def convert(keys: Keys, options: Options) -> Converted:
    """The names are already ours; sizes are read from the first and last weight."""
    weights = {index: keys.take(f"main.{index}.weight", -1, -1, 4, 4) for index in (0, 3, 6, 9, 12)}
    latent, widest = weights[0].shape[:2]
    width = weights[12].shape[0]
    if widest != 8 * width:
        raise SetupError(f"{widest} channels after the first layer and {width} before the last are no 64x64 DCGAN's")
    state = {f"main.{index}.weight": tensor for index, tensor in weights.items()}
    for index in (1, 4, 7, 10):
        state |= placed(f"main.{index}", keys.batch_norm(f"main.{index}"))
    config = {"latent": latent, "width": width, "channels": weights[12].shape[1]}
    return Converted("dcgan-64", config, state, dict(SAMPLING))
