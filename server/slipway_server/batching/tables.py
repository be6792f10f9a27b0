"""Operators of classical models (``ai.onnx.ml``): a row is a line of a table."""

from __future__ import annotations

from slipway_server.batching.operators import CUT, Answer, Use, apart, rows_first, rule
from slipway_server.batching.values import Mixes, Value, known, of_shape, reshaped

_ML = "ai.onnx.ml"


@rule("TreeEnsembleRegressor SVMRegressor LinearRegressor", _ML)
def _regressor(use: Use) -> Answer:
    rows = rows_first(use.given(), 2)[0]
    one = (
        1 if use.kind == "SVMRegressor" else use.integer("n_targets" if "Tree" in use.kind else "targets", 1)
    )
    return of_shape([rows, one])


@rule("TreeEnsemble", _ML)
def _trees(use: Use) -> Answer:
    rows = rows_first(use.given(), 2)[0]
    return of_shape([rows, use.integer("n_targets", 1)])


@rule("TreeEnsembleClassifier LinearClassifier SVMClassifier", _ML)
def _classifier(use: Use) -> Answer:
    rows = rows_first(use.given(), 2)[0]
    classes = use.count_of("classlabels_int64s", "classlabels_ints", "classlabels_strings")
    scores = None if use.kind == "SVMClassifier" or classes is None or classes < 2 else classes
    return [of_shape([rows]), of_shape([rows, scores])][: len(use.outputs)]


@rule("Scaler Imputer Normalizer", _ML)
def _columns(use: Use) -> Answer:
    return of_shape(rows_first(use.given(), 2))


@rule("OneHotEncoder", _ML)
def _one_hot_encoder(use: Use) -> Answer:
    return of_shape([*use.shape(), use.count_of("cats_int64s", "cats_strings")])


@rule("ArrayFeatureExtractor", _ML)
def _feature_extractor(use: Use) -> Answer:
    """Chooses along the last axis; a list of one axis is a single row."""
    shape = use.shape()
    apart(use.given(), len(shape) - 1)
    chosen = reshaped(use.given(1), [-1])
    return of_shape([*(shape[:-1] or (1,)), *known(chosen)])


@rule("FeatureVectorizer", _ML)
def _feature_vectorizer(use: Use) -> Answer:
    shapes = [rows_first(value, 2) for value in use.all_given()]
    if len({shape[0] for shape in shapes}) > 1:
        raise Mixes("pairs rows with what has no rows")
    widths = use.integers("inputdimensions")
    return of_shape([shapes[0][0], sum(widths) if widths else None])


@rule("ZipMap", _ML)
def _zip_map(use: Use) -> Answer:
    """A map for each row; the server makes a table of them."""
    return of_shape(rows_first(use.given(), 2))


@rule("CDist", "com.microsoft")
def _distances(use: Use) -> Answer:
    left, right = use.shape(), use.shape(1)
    for index in (0, 1):
        apart(use.given(index), 1)
    return of_shape([left[0], right[0]])


@rule("Tokenizer", "com.microsoft")
def _tokenizer(use: Use) -> Answer:
    """Pads each row as far as the longest one of the call needs: right for what overlooks padding."""
    pad = use.attribute("pad_value", b"")
    if not isinstance(pad, bytes) or not pad:
        raise Mixes("pads rows as far as the longest one needs")
    shape = use.shape()
    if use.given().axis not in (None, 0):
        raise Mixes("does not take its rows along the first axis")
    if len(shape) > 2 or (len(shape) == 2 and shape[1] != 1):
        raise Mixes("takes its rows in a shape that is not understood")
    return Value(of_shape([*shape, None]).shape, None, pad)


@rule("TfIdfVectorizer")
def _counted_words(use: Use) -> Answer:
    value = use.given()
    shape = rows_first(value)
    if len(shape) != 2:
        raise Mixes("counts words in a shape that is not understood")
    if value.padding is not None:
        words = use.attribute("pool_strings", CUT)
        if words is CUT or value.padding in words:
            raise Mixes("may count what pads the rows")
    return of_shape([shape[0], None])
