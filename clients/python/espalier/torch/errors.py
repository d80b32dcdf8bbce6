"""What can go wrong between a plan and a module. After each of them the module is what it was before."""

from __future__ import annotations

from ..errors import EspalierError


class PlanMismatch(EspalierError):
    """The plan does not fit the module: it names what is not there, or removes what cannot be removed from it."""


class ForwardMismatch(EspalierError):
    """The parameters fit, but `forward` does not compute with them what it should.

    What a forward writes down by itself (a number in a view, a width kept in an attribute) is in no parameter.
    """


class ExportFailed(EspalierError):
    """Neither torch.export nor torch.fx can make a graph of the module."""
