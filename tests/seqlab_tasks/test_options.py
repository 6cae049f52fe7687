"""Options of the tasks that are out of range or contradict each other."""

import re

import pytest

from seqlab_tasks.lm import LanguageModelling
from seqlab_tasks.names import Names
from seqlab_tasks.pixels import Pixels
from seqlab_tasks.sentences import Agreement, Fluent
from seqlab_tasks.synthetic import HMM, Adding, Copying, Dyck, First, Recall, TemporalOrder
from seqlab_tasks.textclf import TextClassification


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (First, {"sequence_length": 0}, "sequence_length must be >= 1"),
        (First, {"choices": 1}, "choices must be >= 2"),
        (First, {"examples": 0}, "examples must be >= 1"),
        (First, {"examples": 2**27}, "examples must be <= 6710886 with 20 steps each, got 134217728"),
        (First, {"held_out": 0}, "held_out must be >= 1"),
        (First, {"split_seed": -1}, "split_seed must be >= 0"),
        (First, {"eval_lengths": [0]}, "eval_lengths must be >= 1, got 0"),
        (First, {"eval_lengths": [9, 9]}, "eval_lengths must be distinct, got [9, 9]"),
        (Adding, {"sequence_length": 1}, "sequence_length must be >= 2"),
        (Adding, {"marks": "ends"}, "marks must be one of halves, anywhere, got 'ends'"),
        (Copying, {"copied": 0}, "copied must be >= 1"),
        (Copying, {"choices": 1}, "choices must be >= 2"),
        (TemporalOrder, {"sequence_length": 4}, "sequence_length must be >= 5"),
        (Recall, {"pairs": 0}, "pairs must be >= 1"),
        (Recall, {"pairs": 9}, "choices must be >= 9"),
        (Dyck, {"kinds": 9}, "kinds must be >= 2 and <= 8, got 9"),
        (HMM, {"sequence_length": 1}, "sequence_length must be >= 2"),
        (HMM, {"blocks": 0}, "blocks must be >= 1"),
        (HMM, {"zero": 1.0}, "zero must be > 0 and < 1, got 1.0"),
        (Agreement, {"attractors": -1}, "attractors must be >= 0"),
        (Agreement, {"sequence_length": 3}, "sequence_length must be >= 4 with attractors=1, got 3"),
        (Agreement, {"eval_lengths": [3]}, "eval_lengths must be >= 4 with attractors=1, got 3"),
        (Fluent, {"sequence_length": 5}, "sequence_length must be >= 6"),
        (Fluent, {"choices": 13}, "choices must be >= 2 and <= 12, got 13"),
        (Names, {"sequence_length": -3}, "sequence_length must be >= 1, got -3"),
        (Names, {"source": "elsewhere"}, "source must be one of bundled, pytorch-tutorial, got 'elsewhere'"),
        (Names, {"balance": "a bit"}, "balance must be one of none, weights, sampling"),
        (Names, {"balance_power": -1.0}, "balance_power must be >= 0 and <= 2, got -1.0"),
        (Names, {"balance_power": float("nan")}, "balance_power must be >= 0 and <= 2, got nan"),
        (Names, {"label_smoothing": 1.0}, "label_smoothing must be >= 0 and < 1, got 1.0"),
        (Names, {"encoding_errors": "ignore"}, "encoding_errors must be one of strict, replace"),
        (Names, {"data_dir": ""}, "data_dir must be a path or null"),
        (TextClassification, {"source": "imdb"}, "source must be one of bundled, ntc_scv"),
        (TextClassification, {"chunks": "all"}, "chunks must be one of cut, carry"),
        (TextClassification, {"encoding_errors": "ignore"}, "encoding_errors must be one of strict, replace"),
        (TextClassification, {"data": ""}, "data must be a path or null"),
        (TextClassification, {"data": "x.csv", "data_dir": "x"}, "data=x.csv and data_dir=x are both set"),
        (TextClassification, {"data": "x.csv", "source": "ntc_scv"}, "data=x.csv and source=ntc_scv are both set"),
        (TextClassification, {"text_column": "label"}, "text_column and label_column must differ, got 'label'"),
        (TextClassification, {"text_column": []}, "text_column must name at least one column, got []"),
        (TextClassification, {"group_column": "label", "data": "x"}, "label_column and group_column must differ"),
        (TextClassification, {"split_column": "a"}, "split_column=a needs a table, but data is null"),
        (TextClassification, {"test": "a.csv"}, "test=a.csv needs a table, but data is null"),
        (TextClassification, {"data": "a.csv", "valid": "b.csv"}, "valid=b.csv needs test, too"),
        (TextClassification, {"data": "a", "test": "b", "split_column": "c"}, "split_column=c and test=b are both set"),
        (TextClassification, {"on_missing": "skip"}, "on_missing must be one of error, drop, empty, got 'skip'"),
        (TextClassification, {"rare": "keep"}, "rare must be one of error, merge, drop, got 'keep'"),
        (TextClassification, {"min_class_count": 0}, "min_class_count must be >= 1, got 0"),
        (TextClassification, {"label_names": {"": "a"}}, "label_names: a label is empty"),
        (TextClassification, {"chunks": "carry", "sequence_length": None}, "chunks=carry needs sequence_length"),
        (TextClassification, {"quoting": "single", "data": "x.tsv"}, "quoting must be one of auto, none, standard"),
        (TextClassification, {"header": "first", "data": "x.tsv"}, "header must be one of auto, none"),
        (TextClassification, {"quoting": "none"}, "quoting=none needs a table, but data is null"),
        (TextClassification, {"header": "none", "data_dir": "x"}, "header=none needs a table, but data is null"),
        (TextClassification, {"encoding": "klingon", "data": "x.tsv"}, "encoding must be"),
        (TextClassification, {"encoding": "cp1252"}, "encoding must be utf-8 with task.source=bundled, got cp1252"),
        (Pixels, {"order": "columns"}, "order must be one of rows, pixels"),
        (Pixels, {"permute": True}, "permute=true permutes pixels, but order is rows"),
        (Pixels, {"permutation_seed": -1}, "permutation_seed must be >= 0"),
        (Pixels, {"data": ""}, "data must be a path or null"),
        (Pixels, {"data": "a", "data_dir": "b"}, "data=a and data_dir=b are both set"),
        (LanguageModelling, {"source": "penn"}, "source must be one of stdlib, ptb, wikitext-2, tinyshakespeare"),
        (LanguageModelling, {"sequence_length": 0}, "sequence_length must be >= 1"),
        (LanguageModelling, {"held_out": 0.5}, "held_out must be > 0 and < 0.5, got 0.5"),
        (LanguageModelling, {"data": "x", "data_dir": "y"}, "data=x and data_dir=y are both set"),
        (LanguageModelling, {"data_dir": "y"}, "data_dir=y needs a public source, got stdlib"),
        (LanguageModelling, {"encoding_errors": "ignore"}, "encoding_errors must be one of strict, replace"),
    ],
)
def test_options_out_of_range(task, options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        task(**options)
