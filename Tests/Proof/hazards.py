"""The smallest graphs that show where pruning goes wrong: how one is declared, and where they are (hazards_*.py).

Each builds the least network in which a plausible shortcut (equality where a projection is meant, an even split after
an uneven removal, a setting pruned as data, a scale that follows a shape) gives a wrong answer. Most are prunable and
must then be exact; a few hold nothing that may be removed (`FROZEN`), and say so.

Invariant: every graph runs and none depends on chance but for its weights, which are seeded by its name.
"""

import zlib

from net import Net

HAZARDS = {}
FROZEN = set()  # what holds nothing that may be removed
INT_MAX = 2**31 - 1


def hazard(opset=17, dynamic=False, batch=2, frozen=False, dtype="f32"):
    def register(function):
        def build():
            net = Net(zlib.crc32(function.__name__.encode()), opset, dynamic, batch, dtype, plain=True)
            function(net)
            return net.model()

        build.__name__ = function.__name__
        build.__doc__ = function.__doc__
        HAZARDS[function.__name__] = build
        if frozen:
            FROZEN.add(function.__name__)
        return function

    return register


def stem(net, channels=16, size=6, inputs=3):
    return net.relu(net.conv(net.image(inputs, size, size), channels, 3, bias=True))


def end(net, x, out=4):
    net.output(net.conv(x, out, 1, bias=True))


def everything():
    """All hazards by name."""
    import hazards_blocks  # noqa: F401  each registers its own
    import hazards_joins  # noqa: F401
    import hazards_movements  # noqa: F401
    import hazards_operators  # noqa: F401
    import hazards_quantized  # noqa: F401
    import hazards_shapes  # noqa: F401
    import hazards_storage  # noqa: F401

    return HAZARDS
