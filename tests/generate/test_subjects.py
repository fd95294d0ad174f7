import hashlib

import numpy as np
import pytest
import torch

from synthfair_hf.errors import InputError
from synthfair_hf.generate.subjects import ModelSubjects, SourceSubjects, choose, is_sound


def subject_rows(plan):
    """The first row of every family."""
    return [row for shard in plan.shards() for row in plan.rows(shard)[:: len(plan.cells)]]


def test_a_subject_of_the_model_can_be_drawn_again_from_its_seed(make_plan, pipeline):
    plan = make_plan()
    rows = subject_rows(plan)
    covariates = plan.preset.covariates
    for row, subject in zip(rows, ModelSubjects(plan, pipeline, pipeline).observe(rows), strict=True):
        generator = torch.Generator().manual_seed(subject.seed)
        assert subject.seed == row.seed
        ages, candidates = [], []
        while not any(0 <= age <= 100 and plan.stratum({"age": age}) == row.stratum for age in ages):
            block = pipeline.scm.sample_noise(8, generator)
            ages += pipeline.scm.evaluate(block)["age"].tolist()
            candidates += [{name: noise[index] for name, noise in block.items()} for index in range(8)]
        first = next(i for i, age in enumerate(ages) if 0 <= age <= 100 and plan.stratum({"age": age}) == row.stratum)
        assert subject.rejected == first
        assert subject.values["age"] == ages[first]
        assert all(torch.equal(subject.covariate_noise[name], candidates[first][name]) for name in covariates.names)
        assert torch.equal(subject.noise, pipeline.sample_noise([generator])[0])


def test_a_subject_of_the_model_does_not_depend_on_its_batch(make_plan, pipeline):
    plan = make_plan()
    rows = subject_rows(plan)
    subjects = ModelSubjects(plan, pipeline, pipeline)
    for together, row in zip(subjects.observe(rows), rows, strict=True):
        [alone] = subjects.observe([row])
        assert alone.values == together.values
        assert np.array_equal(alone.image, together.image)
        assert torch.equal(alone.noise, together.noise)


def test_another_attempt_is_another_draw(make_plan, pipeline):
    plan = make_plan()
    row = subject_rows(plan)[0]
    first, second = (ModelSubjects(plan, pipeline, pipeline).observe([row], attempt)[0] for attempt in (0, 1))
    assert (first.seed, second.seed) == (plan.subject_seed(0, 0), plan.subject_seed(0, 1))
    assert first.values != second.values


def test_a_stratum_out_of_the_models_reach_is_named(make_plan, pipeline, monkeypatch):
    plan = make_plan()
    monkeypatch.setattr(pipeline.scm, "evaluate", lambda noise: {**encoded(noise), "age": noise["age"] * 40})
    encoded = type(pipeline.scm)(pipeline.preset).evaluate
    old = next(row for row in subject_rows(plan) if row.stratum == ("50 years and older",))
    with pytest.raises(InputError, match="none of 1024 draws from the model is in stratum 50 years and older"):
        ModelSubjects(plan, pipeline, pipeline).observe([old])


def test_an_observation_is_reproduced_by_its_noise(make_plan, pipeline, source):
    plan = make_plan(source=source.name, source_fingerprint=source.fingerprint)
    rows = subject_rows(plan)
    chosen = choose(plan, source)
    for row, subject in zip(rows, SourceSubjects(plan, source, pipeline).observe(rows), strict=True):
        assert np.array_equal(subject.image, source.image(chosen[row.subject], 8))
        values = {name: [value] for name, value in subject.values.items()}
        again = pipeline(covariates=values, noise=subject.noise[None]).images[0, 0]
        np.testing.assert_allclose(again, subject.image, atol=1e-6)
        assert subject.values["age"] == np.float32(source.table["age"][chosen[row.subject]])


def test_chosen_patients_are_distinct_complete_and_in_their_split_and_stratum(make_plan, source):
    plan = make_plan(source=source.name, source_fingerprint=source.fingerprint)
    chosen = choose(plan, source)
    assert sorted(chosen) == list(range(28))
    assert len({source.patient_ids[index] for index in chosen.values()}) == 28
    for (split, stratum), subjects in plan.groups.items():
        for index in (chosen[subject] for subject in subjects):
            assert source.splits[index] == split
            assert plan.stratum({"age": source.table["age"][index]}) == stratum


def test_the_choice_depends_on_the_seed_and_not_on_the_order_of_patients(make_plan, source):
    def patients(plan):
        return {source.patient_ids[index] for index in choose(plan, source).values()}

    first, other = patients(make_plan()), patients(make_plan(seed=1))
    assert first != other
    order = sorted(range(len(source)), key=lambda index: hashlib.sha256(source.patient_ids[index].encode()).digest())
    source.patient_ids, source.splits = (
        [column[index] for index in order] for column in (source.patient_ids, source.splits)
    )
    source.table = {name: [column[index] for index in order] for name, column in source.table.items()}
    assert patients(make_plan()) == first


def test_too_few_patients_are_counted_with_the_largest_number_possible(make_plan, source):
    with pytest.raises(
        InputError,
        match=r"source stub: \d+ patients .* in \w+ / .*, \d+ needed \(age is unknown in 20 images\); the largest",
    ) as error:
        choose(make_plan(num_subjects=1000), source)
    largest = int(str(error.value).rstrip(".").split()[-1])
    assert len(choose(make_plan(num_subjects=largest), source)) == largest
    with pytest.raises(InputError, match="largest num_subjects possible is"):
        choose(make_plan(num_subjects=largest + 2), source)


def test_a_patient_in_two_splits_is_refused_without_being_named(make_plan, source):
    source.splits[1] = "test" if source.splits[0] == "train" else "train"
    with pytest.raises(InputError, match=r"image 1 is in .*, its patient also in another split") as error:
        choose(make_plan(), source)
    assert source.patient_ids[1] not in str(error.value)


def test_a_source_without_a_covariate_of_the_plan_is_refused(make_plan, source):
    del source.table["view"]
    with pytest.raises(InputError, match="source stub: 'view' is unknown"):
        choose(make_plan(), source)


def test_a_value_of_the_source_outside_the_schema_is_named(make_plan, source):
    source.table["age"][3] = 130.0
    with pytest.raises(InputError, match=r"source stub\['age'\]: 130.0 is out of range; allowed: 0 to 100 years"):
        choose(make_plan(), source)


def test_the_stratum_is_that_of_the_stored_value(make_plan, source):
    source.table["age"] = [49.9999999 if number % 2 else 20.0 for number in range(len(source))]
    chosen = choose(make_plan(), source)
    old = [s for (_, stratum), members in make_plan().groups.items() for s in members if stratum[0].startswith("50")]
    assert {source.table["age"][chosen[subject]] for subject in old} == {49.9999999}


@pytest.mark.parametrize("spoil", [np.full((8, 8), 0.5), np.full((8, 8), np.nan), np.eye(9)])
def test_an_unsound_source_image_is_named(make_plan, pipeline, source, spoil):
    plan = make_plan()
    source.image = lambda index, resolution: spoil.astype(np.float32)
    with pytest.raises(InputError, match=f"source stub: image {choose(plan, source)[0]} is not 8 x 8 pixels"):
        SourceSubjects(plan, source, pipeline).observe(subject_rows(plan)[:1])


@pytest.mark.parametrize(
    ("image", "sound"),
    [
        ([[0, 1]], True),
        ([[0.5, 0.5]], False),
        ([[0.5, 0.5001]], False),
        ([[0.5, np.nan]], False),
        ([[0.5, np.inf]], False),
        ([[-np.inf, 0.5]], False),
    ],
)
def test_sound_images_are_finite_and_varied_at_eight_bits(image, sound):
    assert is_sound(np.array(image, dtype=np.float32)) is sound
