"""What `fit` is given, checked and brought to the device: data, their weights, and where an epoch's steps come from."""

from dataclasses import replace
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from xmlp.data.batches import split_rows
from xmlp.errors import CheckpointError
from xmlp.host.settings import count
from xmlp.network.inputs import Inputs
from xmlp.network.row_weights import Mean
from xmlp.training.run import Fit, Run
from xmlp.training.sources import Chunk, Rows, Stream, fingerprint
from xmlp.training.step import Batch
from xmlp.types import Array, HostArray


class Given(NamedTuple):
    """The arguments of a `fit` that say what is trained on, as the caller gave them."""

    x: Any
    y: Any
    sample_weight: Any
    output_weight: Any
    class_weight: Any
    validation_data: Any


class Prepared(NamedTuple):
    """What a fit runs on."""

    fit: Fit
    source: Rows | Stream
    validation: Batch | None
    mean: Mean  # of the weights of all rows up to these


class Preparation:
    """The way of a caller's data to the steps of a run."""

    def __init__(self, inputs: Inputs, run: Run):
        self._inputs, self._run = inputs, run

    def settings(self, epochs: Any, batch_size: Any, validation_split: Any, shuffle: Any) -> Fit:
        """What a fit is asked for; without epochs the unfinished one, with which the other settings must agree."""
        if epochs is None:
            return self._unfinished(batch_size=batch_size, validation_split=validation_split, shuffle=shuffle)
        fraction = 0.0 if validation_split is None else validation_split
        if isinstance(fraction, bool) or not isinstance(fraction, Real):
            raise ValueError(f"validation_split must be a number between 0 and 1, got {validation_split!r}")
        size = count(32 if batch_size is None else batch_size, "batch_size")
        return Fit(self._run.epoch + count(epochs, "epochs"), size, shuffle is not False, float(fraction), 0)

    def _unfinished(self, **given: Any) -> Fit:
        if self._run.fit is None:
            raise ValueError("fit needs epochs: there is no earlier fit to finish")
        for name, value in given.items():
            if value is not None and value != getattr(self._run.fit, name):
                raise ValueError(f"the fit to finish had {name}={getattr(self._run.fit, name)!r}, got {value!r}")
        return self._run.fit

    def fit(self, given: Given, fit: Fit, goes_on: bool) -> Prepared:
        """Everything that a fit needs, checked; nothing of the run is changed."""
        if given.validation_data is not None and fit.validation_split:
            raise ValueError("give validation_data or validation_split, not both")
        source, validation, mean = self._source(given, fit)
        if given.validation_data is not None:
            what = ("validation x", "validation y")
            validation = self.data(given.validation_data, what, output_weight=given.output_weight)
        rows = source.data.x.shape[0] if isinstance(source, Rows) else 0
        held = 0 if validation is None else int(validation.x.shape[0])
        if goes_on:
            self._check_same(fit, rows, held)
        if rows and not self._run.part:  # a stream may give a single row, which batch normalisation then bears
            self._check_rows(min(fit.batch_size, rows), rows)
        return Prepared(replace(fit, rows=rows, held=held), source, validation, mean)

    def _source(self, given: Given, fit: Fit) -> tuple[Rows | Stream, Batch | None, Mean]:
        if given.y is None and not hasattr(given.x, "shape"):
            if given.sample_weight is not None or given.class_weight is not None or fit.validation_split:
                raise ValueError(
                    "with an iterable of batches, weights come in the batches and validation_split has no rows"
                )

            def prepared(batch: tuple[Any, ...], what: tuple[str, str]) -> Chunk:
                return self.chunk(batch, what, output_weight=given.output_weight)

            return Stream(given.x, prepared), None, self._run.mean
        if given.y is None:
            raise ValueError("fit needs y, the targets of the rows of x; only an iterable of batches goes without")
        whole, weights = self.checked(
            (given.x, given.y, given.sample_weight), ("x", "y"), output_weight=given.output_weight,
            class_weight=given.class_weight, whole=not self._run.part,
        )  # fmt: skip
        data, validation, mean = self._split(whole, weights, fit.validation_split)
        return Rows(data, fit.batch_size, fit.shuffle, self._run), validation, mean

    def _check_same(self, fit: Fit, rows: int, held: int) -> None:
        """Refuse other data than those of the unfinished fit."""
        run = self._run
        if rows != fit.rows:
            told = [f"{n} rows to train on" if n else "an iterable of batches" for n in (fit.rows, rows)]
            raise ValueError(f"the unfinished fit had {told[0]}, this one has {told[1]}: it needs the same data")
        cut = run.order is not None and run.position and fit.rows
        if cut and run.order != fingerprint(rows, run.seed, run.epoch, fit.shuffle):
            raise CheckpointError(
                "the checkpoint was saved within an epoch whose order of rows this version of NumPy does not give: "
                "use the version that it was saved with"
            )
        if fit.held != held:
            raise ValueError(
                f"the unfinished fit had {fit.held or 'no'} rows of validation data, this one has {held or 'none'}: "
                "it needs the same data"
            )

    def _check_rows(self, size: int, rows: int) -> None:
        """Refuse batches that all have too few rows for a layer to learn its statistics from them."""
        for i, layer in enumerate(self._run.step.objective.chain.layers):
            if size < layer.least_rows:
                remedy = f"pass a larger batch_size than {size}" if rows > size else "pass more rows than one at once"
                raise ValueError(
                    f"layer {i}, {type(layer).__name__}, takes the mean and the variance of the rows of a batch, and "
                    f'one row has no variance: {remedy}, or use LayerNorm, normalization="layer"'
                )

    # --- data ---------------------------------------------------------------------------------------------------------

    def data(self, data: tuple[Any, ...], what: tuple[str, str], **weighting: Any) -> Batch:
        """A data set of its own, its weights of mean 1."""
        batch, weights = self.checked(data, what, **weighting)
        return batch._replace(weights=self._inputs.placed(weights, self._run.step.objective.loss))

    def checked(self, data: tuple[Any, ...], what: tuple[str, str], **weighting: Any) -> tuple[Batch, HostArray | None]:
        """x and y on the device, and their weights on the host."""
        if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
            raise ValueError(f"{what[0].partition(' ')[0]} data must be (x, y) or (x, y, sample_weight)")
        x, y, weights = data if len(data) == 3 else (*data, None)
        objective = self._run.step.objective
        x, y, weights = self._inputs.batch(
            x, y, weights, objective.loss, objective.chain.out_features, what, **weighting
        )
        return Batch(x, y, None, None), weights

    def weighed(self, weights: HostArray | None, rows: int, part: bool) -> tuple[Array | None, Mean]:
        """Weights on the device, of a data set or a part of a stream, and the mean of all rows up to these."""
        loss, before = self._run.step.objective.loss, self._run.mean
        mean = before.after(weights, rows) if loss.reduction == "mean" else before
        if part and weights is None and mean.rows and mean.value != 1.0:
            weights = np.ones(rows)
        return self._inputs.placed(weights, loss, mean if part else None), mean

    def chunk(self, data: tuple[Any, ...], what: tuple[str, str], **weighting: Any) -> Chunk:
        """One step with a batch of a stream."""
        batch, weights = self.checked(data, what, **weighting)
        placed, mean = self.weighed(weights, batch.x.shape[0], part=True)
        return Chunk(batch._replace(weights=placed), None, 0, 1, mean)

    def _split(self, data: Batch, weights: HostArray | None, fraction: float) -> tuple[Batch, Batch | None, Mean]:
        """The rows to train on and those that are held out, with the mean weight up to these."""
        if not fraction:
            placed, mean = self.weighed(weights, data.x.shape[0], self._run.part)
            return data._replace(weights=placed), None, mean
        train, held = split_rows(data.x.shape[0], fraction, self._run.seed)
        if weights is None:
            placed, mean = self.weighed(None, len(train), self._run.part)
            return self._rows(data, train, placed), self._rows(data, held, None), mean
        for rows, purpose in ((train, "to train on"), (held, "to validate with")):
            if weights[rows].max() == 0:
                raise ValueError(
                    f"validation_split left no row of any weight {purpose}: "
                    "take another fraction, or pass validation_data"
                )
        placed, mean = self.weighed(weights[train], len(train), self._run.part)
        of_held = self._inputs.placed(weights[held], self._run.step.objective.loss)
        return self._rows(data, train, placed), self._rows(data, held, of_held), mean

    def _rows(self, data: Batch, rows: Any, weights: Array | None) -> Batch:
        backend = self._run.model.backend
        index = backend.from_host(rows, "int32")
        x, y = (backend.xp.take(a, index, axis=0) for a in (data.x, data.y))
        return Batch(x, y, weights, None)
