"""Optimizers that PyTorch lacks, or has in bfloat16 alone, written for it as the papers have them."""

import torch


class PerWeight(torch.optim.Optimizer):
    """What changes each weight by itself: `change(group, state, w, g)` gives the next one."""

    def __init__(self, groups, lr, **options):
        super().__init__(groups, {"lr": lr, **options})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.copy_(self.change(group, self.state[p], p, p.grad))


class LAMB(PerWeight):
    """You et al. 2020, algorithm 2."""

    def change(self, group, state, w, g):
        one, two = group["betas"]
        t = state["t"] = state.get("t", 0) + 1
        m = state["m"] = one * state.get("m", 0) + (1 - one) * g
        v = state["v"] = two * state.get("v", 0) + (1 - two) * g**2
        r = (m / (1 - one**t)) / ((v / (1 - two**t)).sqrt() + 1e-6) + group["weight_decay"] * w
        sizes = w.norm(), r.norm()
        trust = sizes[0] / sizes[1] if min(sizes) > 0 else 1.0
        return w - group["lr"] * trust * r


class Muon(PerWeight):
    """Jordan et al. 2024; weights are (out, in) or (out, in, height, width), and those of one axis take the step."""

    def change(self, group, state, w, g):
        share = group["momentum"]
        v = state["v"] = share * state.get("v", 0) + (1 - share) * g
        move = share * v + (1 - share) * g
        if w.ndim > 1:
            x = move.flatten(1) / (move.norm() + 1e-7)
            for _ in range(5):
                a = x @ x.T
                x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
            move = (x * max(1, len(x) / x.shape[1]) ** 0.5).reshape(w.shape)
        return w * (1 - group["lr"] * group["weight_decay"]) - group["lr"] * move
