"""Networks of many agents at once: forward and backward passes written out as matrix products.

``network(model)`` serves ``nn.Sequential`` models of the layers in its patterns; for any other it
returns None, and the caller goes the general way (``torch.func.vmap``).

Layout. The weights of m agents are one matrix ``params`` (m, d), a row an agent; layers read
their columns of it where they lie. Activations are (m, n, ...): n samples an agent. A stage maps
(params, x) to its output and its backward pass. That one adds the stage's weight gradients to a
``Step``, which is again a matrix (m, d), and returns the gradient of x.

What makes it fast (one core; CPU time for 1,000 agents with 4 samples and the 13,106-parameter
classifier, about 60 ms in all, of which 8 are the kernel's for new memory; ``vmap`` takes 200 ms,
a plain loop 1,700 ms):

- No autograd: gradients go straight to where they are wanted, scaled and added by the matrix
  product itself. As tensors of their own, concatenated and subtracted, they cost 20 ms more.
- One row in ``params`` means that all agents have the same weights, as in the first step: each
  product with activations is then one large product (1.5 ms less), and filters are laid out once.
- Convolutions are matrix products too, see :func:`convolution`. LeNet's reach 50 to 120 GFLOP/s,
  products with zeros not counted, where torch's own reach 20 to 45, and grouped ones less.
- Pooling takes the maximum of slices, before bias and ReLU, which commute with it and so have a
  quarter of the data: 2 ms against 12 ms for ``max_pool2d`` alone. Its way back, two comparisons
  in place, takes 4 ms against 30 ms with masks.
- In ``inference_mode`` torch keeps no books about views: of the 600 us that a call takes before
  there is anything to compute, a fifth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from torch import nn

from fedjury.learning.weights import tensors


class Step(NamedTuple):
    """Where gradients go: ``into`` (m, d) becomes ``keep * into - rate * gradient``.

    With ``keep`` 0 it is never read, so that it may hold anything.
    """

    into: torch.Tensor
    rate: float
    keep: float

    def add(self, first: int, gradient: torch.Tensor) -> None:
        """Take the gradient (m, ...) of the parameters from column ``first`` on."""
        into = _columns(self.into, first, gradient.shape[1:])
        if self.keep:
            into.mul_(self.keep).sub_(gradient, alpha=self.rate)
        else:
            torch.mul(gradient, -self.rate, out=into)

    def add_product(self, first: int, left: torch.Tensor, right: torch.Tensor) -> None:
        """Take ``left @ right`` (m, i, j) as such a gradient; the product writes it in place."""
        into = _columns(self.into, first, (left.shape[1], right.shape[2]))
        into.baddbmm_(left, right, beta=self.keep, alpha=-self.rate)


Backward = Callable[[torch.Tensor, Step, bool], torch.Tensor]
"""Gradient of the output, step, whether the gradient of the input is wanted -> that gradient.

It must be called once at most: it works in the memory of the forward pass.
"""

Stage = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, Backward]]
"""Weights (m or 1, d), input (m, n, ...) -> output (m, n, ...), and the way back.

Forward alone, inputs of m models may be (1, n, ...) too.
"""


class Network(NamedTuple):
    """A model as stages."""

    stages: Sequence[Stage]

    @torch.inference_mode()
    def logits(self, params: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return what the models (m or 1, d) answer to inputs (m, n, C, H, W): (m, n, classes).

        Inputs (1, n, C, H, W) are those of all models, and are laid out once.
        """
        for stage in self.stages:
            x, _ = stage(params, x)
        return x

    @torch.inference_mode()
    def widest(self, params: torch.Tensor, x: torch.Tensor) -> int:
        """Return the numbers in the largest output of a stage, of one model (1, d) and ``x``.

        What is only flattened is not computed, and may be the same for all models.
        """
        most = 0
        for stage in self.stages:
            x, _ = stage(params, x)
            most = most if stage is flatten else max(most, x.numel())
        return most

    @torch.inference_mode()
    def descend(
        self,
        params: torch.Tensor,
        x: torch.Tensor,
        y: torch.Tensor,
        step: Step,
        shares: torch.Tensor | None = None,
    ) -> None:
        """Take the gradients of the mean cross-entropy on inputs (m, n, C, H, W), labels (m, n).

        ``step.into`` may be ``params`` itself. ``shares`` (m, n): what each sample counts in place
        of an n-th.
        """
        way_back: list[Backward] = []
        for stage in self.stages:
            x, backward = stage(params, x)
            way_back.append(backward)
        g = x.softmax(2)
        g.scatter_add_(2, y.unsqueeze(2), g.new_full((*y.shape, 1), -1.0))
        g = g.div_(y.shape[1]) if shares is None else g.mul_(shares.unsqueeze(2))
        for i, backward in reversed(list(enumerate(way_back))):
            g = backward(g, step, i > 0)


def network(model: nn.Module) -> Network | None:
    """Return a model as stages, or None if it has a layer or setting that no stage serves.

    None too where a layer is frozen or stands there twice: the columns are those of all layers.
    """
    every = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    if type(model) is not nn.Sequential or every != [tensor.name for tensor in tensors(model)]:
        return None
    layers = list(model)
    stages: list[Stage] = []
    first = 0
    while layers:
        match layers:
            case [
                nn.Conv2d(stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1) as layer,
                nn.ReLU(),
                nn.MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False),
                *layers,
            ]:
                stages.append(convolution(layer, first))
            case [nn.Linear() as layer, nn.ReLU(), *layers]:
                stages.append(linear(layer, first, relu=True))
            case [nn.Linear() as layer, *layers]:
                stages.append(linear(layer, first, relu=False))
            case [nn.Flatten(start_dim=1, end_dim=-1) as layer, *layers]:
                stages.append(flatten)
            case _:
                return None
        if getattr(layer, "bias", layer) is None:
            return None
        first += sum(p.numel() for p in layer.parameters())
    return Network(stages)


def flatten(_: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, Backward]:
    """Make each sample (C, H, W) one vector."""
    return x.flatten(2), lambda g, _, __: g.unflatten(2, x.shape[2:])


def linear(layer: nn.Linear, first: int, *, relu: bool) -> Stage:
    """Build a linear layer whose parameters start at column ``first``, with ReLU or without."""
    bias = first + layer.weight.numel()

    def forward(params: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, Backward]:
        w = _columns(params, first, layer.weight.shape)
        z = _times(x, w.mT).add_(_columns(params, bias, (1, layer.out_features)))
        z = z.relu_() if relu else z

        def backward(g: torch.Tensor, step: Step, wanted: bool) -> torch.Tensor:
            g = _relu_backward(g, z) if relu else g
            gx = _times(g, w) if wanted else g  # before the step, which may write into w
            step.add_product(first, g.mT, x)
            step.add(bias, g.sum(1))
            return gx

        return z, backward

    return forward


def convolution(layer: nn.Conv2d, first: int) -> Stage:
    """Build a convolution with ReLU and 2x2 pooling, its parameters from column ``first`` on.

    The image is cut into overlapping tiles, whose outputs are strips two pixels high and ``wide``
    pixels wide. One matrix (tile, strip) then maps every tile to its outputs: it holds each filter
    as often as the strip has pixels, along diagonals, and zeros between. Strips cost
    multiplications by zero, but tiles overlap less than the windows of single pixels do, which
    take longer to copy than to multiply, and products are of shapes that suit the processor.

    Columns of the matrix are ordered (row, column parity, column // 2, channel), so that the four
    pixels that are pooled together lie in four long slices.
    """
    count, channels, *kernel = layer.weight.shape
    bias = first + layer.weight.numel()

    def forward(params: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, Backward]:
        wide = strip_width(x.shape[4] - kernel[1] + 1, channels)
        tiles = _tiles(x.permute(0, 1, 3, 4, 2), kernel, wide)
        filters = params.new_zeros(len(params), *tiles.shape[4:], 2, 2, wide // 2, count)
        w = _columns(params, first, layer.weight.shape).permute(0, 3, 4, 2, 1).contiguous()
        _diagonals(filters, kernel).copy_(w[:, None, None, None])
        rows, matrix = tiles.flatten(4).flatten(1, 3), filters.flatten(4).flatten(1, 3)
        pixels = _times(rows, matrix).unflatten(2, (2, 2, -1))
        z, unpool = _pool(pixels)
        by_channel = z.view(len(z), -1, count)
        by_channel.add_(_columns(params, bias, (1, count))).relu_()
        pooled = z.view(len(z), *tiles.shape[1:3], -1, count)

        def backward(g: torch.Tensor, step: Step, wanted: bool) -> torch.Tensor:
            g = _relu_backward(g.permute(0, 1, 3, 4, 2).reshape(z.shape), z)
            step.add(bias, g.view_as(by_channel).sum(1))
            unpool(g)
            g = pixels.flatten(2)
            along = _diagonals(torch.bmm(rows.mT, g).view(len(g), *filters.shape[1:]), kernel)
            # Halves first: torch sums over several strided axes ten times as slowly.
            half = along[:, 0] + along[:, 1]
            step.add(first, (half[:, 0] + half[:, 1]).sum(1).permute(0, 4, 3, 1, 2))
            if not wanted:
                return g
            gx = g.new_zeros(*x.shape[:2], *x.shape[3:], channels)
            _add_tiles(gx, _times(g, matrix.mT).view_as(tiles), wide)
            return gx.permute(0, 1, 4, 2, 3)

        return pooled.permute(0, 1, 4, 2, 3), backward

    return forward


def strip_width(outputs: int, channels: int) -> int:
    """Return how wide a strip of a convolution's outputs is: even, and a divisor.

    With one channel up to 8 pixels: narrower strips mean more copying, wider ones more zeros.
    With several channels 2 pixels: their products are wide enough, and multiply fewest zeros.

    Measured, there and back, in ms: the classifier's first convolution, 4,000 samples, takes 50,
    20, 26 with 2, 8, 24 pixels; LeNet's first, 1,000 samples, 13, 10, 19; its second 13 with 2
    and 31 with 8.
    """
    even = outputs // 2 * 2
    return next(w for w in (8, 6, 4, 2) if even % w == 0 and (channels == 1 or w == 2))


def _tiles(x: torch.Tensor, kernel: Sequence[int], wide: int) -> torch.Tensor:
    """Copy images (m, n, H, W, C) to tiles (m, n, down, across, height, width, C)."""
    tall = x.unfold(2, kernel[0] + 1, 2)
    return tall.unfold(3, kernel[1] + wide - 1, wide).permute(0, 1, 2, 3, 5, 6, 4).contiguous()


def _add_tiles(x: torch.Tensor, tiles: torch.Tensor, wide: int) -> None:
    """Add tiles (m, n, down, across, height, width, C) to where they came from in images."""
    _, _, down, across, height, width, _ = tiles.shape
    for i in range(down):
        for j in range(across):
            at = x.narrow(2, 2 * i, height).narrow(3, wide * j, width)
            at.add_(tiles[:, :, i, j])


def _diagonals(matrix: torch.Tensor, kernel: Sequence[int]) -> torch.Tensor:
    """View all copies of the filters in (m, height, width, C, 2, 2, u, O) of ``convolution``.

    The view is (m, 2, 2, u, *kernel, C, O): a pixel further down or to the right, the filter is a
    row or column further down or to the right.
    """
    m, _, _, channels, _, _, half, count = matrix.shape
    s = matrix.stride()
    pixel = s[1] + s[4], s[2] + s[5], 2 * s[2] + s[6]
    shape = (m, 2, 2, half, *kernel, channels, count)
    return matrix.as_strided(shape, (s[0], *pixel, s[1], s[2], s[3], s[7]))


def _pool(pixels: torch.Tensor) -> tuple[torch.Tensor, Callable[[torch.Tensor], None]]:
    """Return the maxima (m, rows, q) of pixels (m, rows, 2, 2, q), and the way back.

    The way back writes the gradient over the pixels. Like torch, it sends it to the first of equal
    pixels: columns are compared before rows, and the former wins.
    """
    left, right = pixels.unbind(3)
    lines = torch.maximum(left, right)
    upper, lower = lines.unbind(2)

    def unpool(g: torch.Tensor) -> None:
        torch.sub(g, upper.ge_(lower).mul_(g), out=lower)
        torch.sub(lines, left.ge_(right).mul_(lines), out=right)

    return torch.maximum(upper, lower), unpool


def _relu_backward(g: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Return ``g`` where ``z`` is positive (or no number), and 0 elsewhere."""
    return cast(torch.Tensor, torch.ops.aten.threshold_backward(g, z, 0))


def _times(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Return x (m or 1, n, i) times each agent's matrix (m, i, j), or all agents' (1, i, j)."""
    return x @ w[0] if w.shape[0] == 1 else torch.bmm(x.expand(len(w), -1, -1), w)


def _columns(matrix: torch.Tensor, first: int, shape: Sequence[int]) -> torch.Tensor:
    """View the columns of (m, d) from ``first`` on as (m, *shape)."""
    columns = matrix.narrow(1, first, math.prod(shape))
    return columns.view(-1, *shape)
