"""Sentences follow their grammar, the answer depends on the stated word, and simple rules score as stated."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import seqlab
from seqlab_tasks.sentences import FLUENT_WORDS, WORDS, Agreement, Fluent, Lexicon

LETTER = {
    word: letter
    for letter, name in zip("djsurpan", WORDS.number, strict=True)
    for word in WORDS.words[WORDS.first(name) - 1 :][: WORDS.count(name)]
}
"""Each word's class, as a letter for regular expressions."""


def drawn(task, count, length, seed=0):
    inputs = task.sequences(count, length, torch.Generator().manual_seed(seed))
    return inputs, task.answer(inputs)


def words_of(task, row):
    return [task.symbols[token - 1] for token in row]


@given(attractors=st.integers(0, 4), more=st.integers(0, 40), seed=st.integers(0, 99))
def test_agreement_is_a_sentence_of_its_grammar(attractors, more, seed):
    """By a regular expression over the classes of words; and the number is that of the subject, T words before."""
    length = 3 * attractors + 1 + more
    task = Agreement(sequence_length=length, attractors=attractors)
    inputs, targets = drawn(task, 20, length, seed)
    assert inputs.shape == (20, length + 2)
    plain = re.compile("dj[su][pan]*" + attractors * "rd[su][pan]*")
    for row, target in zip(inputs.tolist(), targets.tolist(), strict=True):
        letters = "".join(LETTER[word] for word in words_of(task, row))
        assert plain.fullmatch(letters), letters
        for clause in re.split(r"dj[su]|rd[su]", letters):
            assert re.fullmatch(r"|(pan)*(p|pa|paa)", clause), clause
        assert task.labels[target] == ("plural" if letters[2] == "u" else "singular")


def test_nothing_but_the_subject_tells_the_number():
    """The nearest noun is right in half of 20,000 sentences (3 standard errors), and never where all attract."""
    task = Agreement(attractors=3)
    inputs, targets = drawn(task, 20_000, 20)
    right = float((task.nearest(inputs) == targets).float().mean())
    assert abs(right - 0.5) <= 3 * 0.5 / 20_000**0.5
    generator = torch.Generator().manual_seed(0)
    for count in range(4):
        changed = task.attracted(inputs, count, generator)
        assert torch.equal(task.answer(changed), targets)
        assert task.count_attractors(changed).unique().tolist() == [count]
        share = float((task.nearest(changed) == targets).float().mean())
        assert share == pytest.approx(1 - count / 3, abs=3 * 0.5 / 20_000**0.5)
    rules = {row["rule"]: row["accuracy"] for row in task.report({}, None).tables["rules"]}
    assert rules == {"the number of the subject": 1.0, "the number of the nearest noun": 0.5}


def test_without_attractors_the_subject_is_the_nearest_noun():
    task = Agreement(attractors=0)
    inputs, targets = drawn(task, 500, 9)
    assert torch.equal(task.nearest(inputs), targets)
    assert set(task.splits()) == {"train", "valid", "test"}


def test_the_trained_model_is_tested_by_the_number_of_attractors():
    task = Agreement(attractors=2, examples=10, held_out=300)
    splits = task.splits()
    names = ["0 of 2 attract", "1 of 2 attract", "2 of 2 attract"]
    assert list(splits)[3:] == names
    for count, name in enumerate(names):
        inputs = splits[name].inputs.values.view(300, -1)
        assert task.count_attractors(inputs).unique().tolist() == [count]
        assert torch.equal(splits[name].targets, splits["test"].targets)


@given(length=st.integers(6, 60), control=st.booleans(), seed=st.integers(0, 99))
def test_fluent_follows_its_template(length, control, seed):
    task = Fluent(control=control)
    inputs, targets = drawn(task, 10, length, seed)
    told = r"(i|we) (spent|passed) \d+ (years|months|winters|summers) in (?P<country>\w+) [.!]"
    person, verb, adverb = ("|".join(part(name)) for name in ("person", "verb", "adverb"))
    sentence = rf"(?:{person})(?: (?:{verb})(?: (?:{adverb}))*(?: and(?= (?:{verb})))?)+ [.!]"
    asked = r"(i|we) (can|could) speak (fluent|excellent|perfect)"
    if control:
        asked = r"(the|our) (colour|hue|shade) of (the|our) (?P<thing>\w+) (is|was)"
    form = re.compile(rf"{told}( {sentence})*( and)?( so)? {asked}")
    answers = dict(zip(part("thing" if control else "country"), task.labels, strict=False))
    for row, target in zip(inputs.tolist(), targets.tolist(), strict=True):
        words = words_of(task, row)
        found = form.fullmatch(" ".join(words))
        assert found, " ".join(words)
        assert len(words) == length + (7 if control else 5)
        assert words.index(found["country"]) == 5
        assert answers[found["thing" if control else "country"]] == task.labels[target]
        if control:
            assert words[-2] == found["thing"]
        else:
            assert len(words) - 5 == length  # the blank, counted from the country


def part(name):
    first = FLUENT_WORDS.first(name) - 1
    return FLUENT_WORDS.words[first : first + FLUENT_WORDS.count(name)]


def test_no_word_of_the_middle_names_a_country_or_a_language():
    task = Fluent()
    inputs, _ = drawn(task, 500, 60)
    middle = {word for row in inputs[:, 7:-4].tolist() for word in words_of(task, row)}
    assert not middle & {*part("country"), *Fluent(choices=12).labels}
    assert middle == {*part("person"), *part("verb"), *part("adverb"), *part("end"), "and"}


def test_the_control_has_the_same_text_before_its_question():
    inputs, _ = drawn(Fluent(), 50, 30)
    control, _ = drawn(Fluent(control=True), 50, 30)
    same = [column for column in range(31) if column != 5]
    assert torch.equal(inputs[:, same], control[:, same])


def test_words_of_a_lexicon_are_unique():
    with pytest.raises(ValueError, match="words must be unique, got twice: light"):
        Lexicon({"adjective": "light", "noun": "light lamp"})


def test_a_trained_model_reads_sentences(tmp_path):
    overrides = ["task=agreement", "task.sequence_length=4", "cell=gru", "cell.hidden_size=16", "optimizer.lr=0.02"]
    quick = ["trainer.progress=false", "trainer.threads=1", "logger=none", "task.held_out=300", "task.examples=6000"]
    config = seqlab.compose([*overrides, *quick, "trainer.max_epochs=2", "data.batch_size=64"])
    result = seqlab.run(config, tmp_path / "run")
    assert result.verdict == "solved"
    rows = {row["split"]: row["accuracy"] for row in result.record["tables"]["further_tests"]}
    assert rows["1 of 1 attract"] > 0.95
    trained = seqlab.load(tmp_path / "run")
    keys, child = trained.predict(["The old keys near the cabinet", "my lonely child behind our houses"])
    assert (keys[0]["label"], child[0]["label"]) == ("plural", "singular")
    assert result.record["example"]
    assert all(answer for answer in trained.predict(result.record["example"]))
    with pytest.raises(seqlab.UserError, match=r"'cabinetz' in 'the old cabinetz' is none .* did you mean cabinet"):
        trained.predict(["the old cabinetz"])
