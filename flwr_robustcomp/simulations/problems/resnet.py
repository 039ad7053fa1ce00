"""The residual networks for CIFAR-10 (He et al. 2016, section 4.2): three stages of 3 x 3 blocks, 6 blocks + 2 layers."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ResidualBlock", "resnet"]


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation, added to their input.

    Parameters
    ----------
    channels_in, channels_out : int
        Where they differ or the stride is 2, the input goes through a 1 x 1 convolution (the paper's option B).
    stride : int
        1, or 2 to halve the image.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            project = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(project, nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(F(x) + x), shape (n, channels_out, height / stride, width / stride)."""
        y = functional.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y)) + self.shortcut(x)
        return functional.relu(y)


def resnet(channels: int, classes: int, *, width: int = 16, blocks: int = 3) -> nn.Sequential:
    """Return a residual network for small images.

    Parameters
    ----------
    channels, classes : int
        Of the images.
    width : int
        Channels of the first stage; the next two double them and halve the image.
    blocks : int
        For each stage: 3 is ResNet-20.
    """
    stages: list[nn.Module] = []
    before = width
    for stage in range(3):
        for block in range(blocks):
            stages.append(ResidualBlock(before, width << stage, 2 if stage and not block else 1))
            before = width << stage
    stem = (nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    return nn.Sequential(*stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))
