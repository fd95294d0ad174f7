"""What is said of a predictor that measures a generator, by the records of what each learned from."""

import pytest

from synthfair_hf.records import Record
from synthfair_hf.training.origins import INDEPENDENT, SAME, UNKNOWN, Origin, as_recorded, origins_of, relation


def record(source, part=None, inputs=(), **counts):
    told = {"images": 1, **({} if part is None else {"part": part})}
    return Record(stage="train", inputs={"source": source, **dict(inputs)}, counts={"source": told, **counts})


GENERATOR, JUDGE, WHOLE = record("g", "generator"), record("j", "judge"), record("w")


@pytest.mark.parametrize(
    ("generator", "predictor", "expected"),
    [
        (GENERATOR, JUDGE, INDEPENDENT),
        (JUDGE, GENERATOR, UNKNOWN),
        (GENERATOR, GENERATOR, SAME),
        (WHOLE, WHOLE, SAME),
        (JUDGE, JUDGE, SAME),
        (WHOLE, JUDGE, UNKNOWN),
        (GENERATOR, WHOLE, UNKNOWN),
        (None, JUDGE, UNKNOWN),
        (GENERATOR, None, UNKNOWN),
        (None, None, UNKNOWN),
        # started from, or taught by, something whose images are not recorded
        (record("g", "generator", {"initial_weights": "w"}), JUDGE, UNKNOWN),
        (record("g", "generator", {"predictor": "p"}), JUDGE, UNKNOWN),
        (record("g", "generator", {"preferences": "p"}, origins=[]), JUDGE, UNKNOWN),
        (record("j", "generator", {"initial_weights": "w"}), JUDGE, SAME),
        # ... and whose images are
        (record("g", "generator", {"initial_weights": "w"}, origins=[["h", "generator"]]), JUDGE, INDEPENDENT),
        (record("g", "generator", {"initial_weights": "w"}, origins=[["h", "all"]]), JUDGE, UNKNOWN),
        (record("g", "generator", {"predictor": "p"}, origins=[["j", "judge"]]), JUDGE, SAME),
        (record("g", "generator", {"predictor": "p"}, origins=[["k", "judge"]]), JUDGE, UNKNOWN),
    ],
)
def test_only_other_patients_are_called_independent(generator, predictor, expected):
    assert relation(origins_of(generator), origins_of(predictor)) == expected


def test_origins_are_handed_on_as_they_are_recorded():
    first = record("g", "generator", {"initial_weights": "w"}, origins=[["h", "generator"], ["g", "generator"]])
    handed = as_recorded(origins_of(first), origins_of(JUDGE), origins_of(first))
    assert handed == [["g", "generator"], ["h", "generator"], ["j", "judge"]]
    assert origins_of(record("g", "generator", origins=handed))[1:] == [Origin("h", "generator"), Origin("j", "judge")]


def test_a_calibration_has_the_origin_of_its_world():
    calibrated = Record(stage="calibrate", inputs={"world": "g", "predictor a": "w"}, counts={"source": {"images": 1}})
    assert origins_of(calibrated) == [Origin("g"), Origin(None)]
    assert origins_of(calibrated.model_copy(update={"counts": {**calibrated.counts, "origins": []}})) == [Origin("g")]
