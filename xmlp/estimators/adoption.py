"""What others did to the network of an estimator is what its training goes on from."""

from xmlp.model.network import Network


def adopt(own: Network, shown: Network) -> None:
    """Bring what is in the network that users see, which may have been changed or replaced, into the one in training.

    Raises
    ------
    ValueError
        It was replaced by one of other layers.
    """
    if shown is own:
        return
    count = len(own.layers)
    if (shown.layers[:count], shown.out_features) != (own.layers, own.out_features) or len(shown.layers) - count > 1:
        raise ValueError(
            "network_ was replaced by a network of other layers, for which this training has no state: train it by "
            "its own fit or an xmlp.Trainer, or fit anew with warm_start=False"
        )
    own.theta, own.statistics = shown.theta, shown.statistics[:count]
