"""The matrix products of a layer: all libraries compute the same, and their operations are counted."""

import math

import torch
import torch.nn.functional as F
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from seqlab.cli.products import _libraries, products_flops, products_seconds


def test_every_library_computes_the_product() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(7, 5, generator=generator), torch.randn(3, 5, generator=generator).t()
    for multiply in _libraries(a, b):
        found = multiply()
        assert isinstance(found, torch.Tensor)
        assert_close(found.to_dense() if found.is_mkldnn else found, a @ b)


def test_operations_are_those_of_a_linear_layer_and_its_gradients() -> None:
    """As torch counts them."""
    x, weight = torch.randn(11, 5, requires_grad=True), torch.randn(8, 5, requires_grad=True)
    with FlopCounterMode(display=False) as counted:
        F.linear(x, weight).sum().backward()
    assert products_flops([weight], 11) == counted.get_total_flops()


def test_products_take_some_time() -> None:
    seconds = products_seconds([torch.randn(8, 5, requires_grad=True), torch.randn(8, 3)], 11, 2)
    assert 0 < seconds < math.inf
