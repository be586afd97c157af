"""StyleGAN-XL in plain PyTorch, and a reader of its published checkpoints that executes nothing in them."""

from lis.generators.stylegan_xl.checkpoint import read_checkpoint, write_checkpoint
from lis.generators.stylegan_xl.generator import StyleGANXL
from lis.generators.stylegan_xl.geometry import GeneratorSpec, geometry
from lis.generators.stylegan_xl.published import imagenet, imagenet256, stylegan_xl
