"""Learning rates of single layers, and layers that are not trained for a while or at all.

Parameters are matched by their names in the student, as `named_parameters` gives them. Projectors
and other parts of transfer terms are always trained at the full rate. A frozen parameter has no
gradient, so weight decay and the optimizer's averages do not touch it either.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from medkd.config.training_settings import LayerRate

PLAIN = LayerRate(match="*", rate=1.0)


class LayerRates:
    """The rules of one student, by parameter.

    Args:
        student: the network that is trained; a parameter that needs no gradient stays as it is.
        rules: where several match a parameter, the last one counts.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
        >>> rates = LayerRates(network, [LayerRate(match="0.*", rate=0.0, until=0.5)])
        >>> rates.apply(0.0)
        >>> [parameter.requires_grad for parameter in network.parameters()]
        [False, False, True, True]
        >>> rates.apply(0.5)
        >>> all(parameter.requires_grad for parameter in network.parameters())
        True
    """

    def __init__(self, student: nn.Module, rules: Sequence[LayerRate]) -> None:
        named = list(student.named_parameters()) if rules else []
        self._ruled = [
            (parameter, rule_of(name, rules))
            for name, parameter in named
            if parameter.requires_grad
        ]
        self._rules = {id(parameter): rule for parameter, rule in self._ruled}
        self._norms: list[tuple[nn.Module, list[LayerRate]]] = []
        for name, module in student.named_modules():
            if getattr(module, "running_mean", None) is None:
                continue
            own = [self._rules[id(p)] for p in module.parameters() if id(p) in self._rules]
            own = own or [rule_of(f"{name}.running_mean", rules)]  # a norm without parameters
            if any(rule.rate == 0 for rule in own):
                self._norms.append((module, own))

    def apply(self, progress: float) -> None:
        """Freeze what is frozen at progress 0..1 of the training, and train everything else.

        A batch norm whose parameters are all frozen uses its stored statistics and keeps them.
        """
        for parameter, rule in self._ruled:
            parameter.requires_grad_(rule.factor(progress) > 0)
        for module, own in self._norms:
            module.train(any(rule.factor(progress) > 0 for rule in own))

    def groups(
        self, parameters: Iterable[nn.Parameter], weight_decay: float
    ) -> tuple[list[dict[str, Any]], list[LayerRate]]:
        """Group parameters by their rule and by whether weight decay applies.

        Returns:
            The groups of the optimizer, and the rule of each group. Without rules there are two
            groups: matrices and kernels, which decay, and everything else.
        """
        by_rule: dict[LayerRate, list[nn.Parameter]] = {PLAIN: []}
        for parameter in parameters:
            by_rule.setdefault(self._rules.get(id(parameter), PLAIN), []).append(parameter)
        groups: list[dict[str, Any]] = []
        for own in by_rule.values():
            groups += parameter_groups(own, weight_decay)
        return groups, [rule for rule in by_rule for _ in range(2)]


def parameter_groups(
    parameters: Iterable[nn.Parameter], weight_decay: float
) -> list[dict[str, Any]]:
    """Group parameters by whether weight decay applies (matrices, kernels) or not."""
    everything = list(parameters)
    return [
        {"params": [p for p in everything if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in everything if p.dim() <= 1], "weight_decay": 0.0},
    ]


def rule_of(name: str, rules: Sequence[LayerRate]) -> LayerRate:
    """Return the last rule that matches the name of a parameter; without one, the full rate."""
    matching = [rule for rule in rules if fnmatchcase(name, rule.match)]
    return matching[-1] if matching else PLAIN


def check_layer_rates(student: nn.Module, rules: Sequence[LayerRate]) -> tuple[str, ...]:
    """Return why these rules cannot be used with a network; empty if they can."""
    names = [name for name, parameter in student.named_parameters() if parameter.requires_grad]
    reasons = []
    for rule in rules:
        if not any(fnmatchcase(name, rule.match) for name in names):
            close = difflib.get_close_matches(rule.match, names, n=3, cutoff=0.4) or names[:8]
            reasons.append(
                f"training.layers: {rule.match!r} matches no parameter of "
                f"{type(student).__name__}; similar names are {', '.join(close)}"
            )
    if rules and not any(rule_of(name, rules).factor(0.0) > 0 for name in names):
        reasons.append(
            "training.layers freezes every layer at the start, so nothing would be trained: leave "
            "out a layer, for example the head"
        )
    return tuple(reasons)
