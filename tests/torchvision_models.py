"""torchvision's models, which the zoo is held to; a test that imports this is skipped where they are not installed."""

import warnings

import pytest
from torchvision_operators import named_operators

torch = pytest.importorskip("torch", reason="PyTorch is what is agreed with")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    KEPT = named_operators()
    models = pytest.importorskip("torchvision.models", reason="torchvision is what is agreed with")

BIASES = {"mobilenet_v2": (1, 2)}
"""Mean and deviation of norms' biases: so that ReLU6 has something to clip."""


def theirs(name, classes, seed=3):
    """Torchvision's, with weights and statistics that are drawn; and the U-Net, 8 wide for some classes, else 32."""
    torch.manual_seed(seed)
    if name == "unet":
        net = Hub(classes, 8) if classes < 100 else Hub(1, 32)
    else:
        net = getattr(models, name)(num_classes=classes, **({"init_weights": False} if "vgg" in name else {}))
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, *BIASES.get(name, (0, 0.1)))
        elif type(module).__name__ == "CNBlock":
            torch.nn.init.uniform_(module.layer_scale, 0.5, 1)
    return net.eval()


class Hub(torch.nn.Module):
    """The U-Net of PyTorch's hub, by its names."""

    def __init__(self, classes, features):
        super().__init__()
        widths = [3, *(features * 2**n for n in range(5))]
        for n in range(1, 5):
            setattr(self, f"encoder{n}", self.twice(f"enc{n}", widths[n - 1], widths[n]))
            setattr(self, f"upconv{n}", torch.nn.ConvTranspose2d(widths[n + 1], widths[n], 2, stride=2))
            setattr(self, f"decoder{n}", self.twice(f"dec{n}", widths[n + 1], widths[n]))
        self.bottleneck = self.twice("bottleneck", widths[4], widths[5])
        self.conv = torch.nn.Conv2d(features, classes, 1)

    @staticmethod
    def twice(name, channels, filters):
        made = torch.nn.Sequential()
        for n in (1, 2):
            conv = torch.nn.Conv2d(channels if n == 1 else filters, filters, 3, padding=1, bias=False)
            made.add_module(f"{name}conv{n}", conv)
            made.add_module(f"{name}norm{n}", torch.nn.BatchNorm2d(filters))
            made.add_module(f"{name}relu{n}", torch.nn.ReLU())
        return made

    def forward(self, x):
        kept = []
        for n in range(1, 5):
            kept.append(x := getattr(self, f"encoder{n}")(x))
            x = torch.nn.functional.max_pool2d(x, 2)
        x = self.bottleneck(x)
        for n in range(4, 0, -1):
            x = getattr(self, f"decoder{n}")(torch.cat([getattr(self, f"upconv{n}")(x), kept[n - 1]], dim=1))
        return self.conv(x)
