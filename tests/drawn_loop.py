"""A loop of PyTorch's for the trainings of drawn_training.py, as a user would write it."""

from functools import partial
from itertools import pairwise

import numpy as np
from drawn_training import CLASSES, EPOCHS, LEFT_OUT, SIZES_COUNT

from xcnn.core import tree
from xcnn.data.augment import augmented
from xcnn.data.source import Pass, order_of


def heads_side_by_side(net, start):
    """PyTorch's module for the graph of several outputs, which gives both in one array."""
    import torch

    from xcnn.bench.torch_side import twin

    class Heads(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, layer in net.named:
                self.add_module(name, twin(layer, start[name]))

        def forward(self, x):
            x = self.body(x)
            return torch.cat([self.head(x), self.sizes(x)], dim=1)

    return Heads()


class Loop:
    """The same by PyTorch."""

    def __init__(self, training, start):
        import torch

        from xcnn.bench.torch_side import name_of, twin

        self.torch, self.training = torch, training
        make = heads_side_by_side if training.kind == "several" else twin
        self.net = make(training.net, start).double()
        named = dict(self.net.named_parameters())
        self.parameters = {path: named[name_of(path)] for path, _ in tree.items(start) if name_of(path) in named}
        self.trained = {path: p for path, p in self.parameters.items() if not self.is_frozen(path)}
        self.optimizer = training.theirs(torch, self.trained)
        make = training.scheduler
        self.scheduler = make(torch.optim.lr_scheduler, self.optimizer) if make else None
        self.slow = {path: p.detach().clone() for path, p in self.trained.items()}
        self.averages = None
        if training.average is not None:
            decays = torch.optim.swa_utils.get_ema_multi_avg_fn(training.average)
            self.averages = torch.optim.swa_utils.AveragedModel(self.net, multi_avg_fn=decays)
        self.steps = 0
        self.losses = []

    def is_frozen(self, path):
        return bool(self.training.frozen) and path.endswith("/bias") and path != "head/kernel"

    def terms(self, y, t):
        """The loss of each sample, or place."""
        f, options, loss = self.torch.nn.functional, self.training.options, self.training.loss
        if self.training.kind == "several":
            of_label = f.cross_entropy(y[:, :CLASSES], t[:, 0].long(), reduction="none")
            return of_label + SIZES_COUNT * f.mse_loss(y[:, CLASSES:], t[:, 1:], reduction="none").mean(dim=1)
        if loss == "cross_entropy":
            return f.cross_entropy(y, t, reduction="none", **options)
        if loss == "binary_cross_entropy_with_logits":
            return f.binary_cross_entropy_with_logits(y[:, 0], t.double(), reduction="none")
        each = {"mse": f.mse_loss, "mae": f.l1_loss, "huber": partial(f.huber_loss, delta=0.7)}[loss]
        return each(y, t, reduction="none").mean(dim=1)

    def shares(self, t, chosen):
        """What each sample or place weighs."""
        torch, fit = self.torch, self.training.fit
        samples = torch.tensor(fit.get("sample_weight", np.ones(len(self.training.x)))[chosen])
        if self.training.kind == "several":
            return samples
        if t.is_floating_point() and t.shape[1:] == (CLASSES,):  # mixed
            weights = torch.tensor(fit.get("class_weight", [1.0] * CLASSES), dtype=torch.float64)
            return samples * (t * weights).sum(dim=1)
        if t.is_floating_point():
            return samples
        weights = torch.tensor(fit.get("class_weight", [1.0] * CLASSES), dtype=torch.float64)
        counts = t != LEFT_OUT
        of_places = weights[torch.where(counts, t, 0)] * counts
        return samples.reshape(-1, *[1] * (t.ndim - 1)) * of_places

    def batch(self, chosen, epoch):
        training = self.training
        x, t = training.x[chosen].astype("float64"), training.t[chosen]
        if "augment" in training.fit:
            x, t = augmented(tuple(training.fit["augment"]), x, t, chosen, (training.seed, epoch), (CLASSES,))
        return self.torch.tensor(x), self.torch.tensor(t)

    def step(self, chosen, epoch):
        """One batch, in parts, and all that follows from it; the sum of its weighted terms, and of its weights."""
        torch, (x, t) = self.torch, self.batch(chosen, epoch)
        shares, parts = self.shares(t, chosen), self.training.fit["accumulate"]
        cuts, summed, whole = [len(x) * n // parts for n in range(parts + 1)], 0.0, shares.sum().clamp(min=1e-30)
        self.net.train()
        self.optimizer.zero_grad()
        for a, b in pairwise(cuts):
            if a < b:
                loss = (shares[a:b] * self.terms(self.net(x[a:b]), t[a:b])).sum() / whole
                loss.backward()
                summed += float(loss.detach() * whole)
        if self.training.clip is not None:
            norm = float(torch.cat([p.grad.ravel() for p in self.trained.values()]).norm())
            for p in self.trained.values():
                p.grad *= min(1.0, self.training.clip / max(norm, 1e-30))
        self.optimizer.step()
        self.steps += 1
        if self.scheduler:
            self.scheduler.step()
        with torch.no_grad():
            if self.training.lookahead and self.steps % self.training.lookahead == 0:
                for path, p in self.trained.items():
                    self.slow[path] += 0.6 * (p - self.slow[path])
                    p.copy_(self.slow[path])
        if self.averages is not None:
            self.averages.update_parameters(self.net)
        return summed, float(shares.sum())

    def run(self):
        training, reduce = self.training, None
        if training.plateau:
            reduce = Reduced(self)
        for epoch in range(EPOCHS):
            way = Pass(training.fit["batch_size"], training.seed, epoch, training.fit["shuffle"])
            order = order_of(len(training.x), way)
            cuts = range(0, len(order), way.batch_size)
            sums = np.array([self.step(order[n : n + way.batch_size], epoch) for n in cuts]).sum(axis=0)
            self.losses.append(sums[0] / sums[1])
            if reduce:
                reduce(self.losses[-1])
        return self

    def predicted(self, x):
        """The outputs of the net that is asked: the average, if there is one."""
        net = (self.averages.module if self.averages is not None else self.net).eval()
        with self.torch.no_grad():
            return net(self.torch.tensor(x.astype("float64"))).numpy()


class Reduced:
    """Halves all rates after each epoch that brought no loss lower by 1."""

    def __init__(self, loop):
        self.loop, self.best = loop, None

    def __call__(self, loss):
        if self.best is None or loss < self.best - 1.0:
            self.best = loss
            return
        for group in self.loop.optimizer.param_groups:
            group["lr"] *= 0.5
