"""Tables and folders of texts, as people have them."""

import csv
import json

THINGS = ("soup", "rice", "cake", "tea", "fish", "pie", "bread", "jam", "plum", "corn", "leek", "beet")
GOOD = [f"I liked the {thing}" for thing in THINGS]
BAD = [f"I hated the {thing}" for thing in THINGS]


def table(path, rows=None, header=("text", "label"), delimiter=","):
    rows = [*((text, "pos") for text in GOOD), *((text, "neg") for text in BAD)] if rows is None else rows
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    return str(path)


def json_lines(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8", newline="")
    return str(path)


def tree(folder, **classes):
    for label, texts in classes.items():
        (folder / label).mkdir(parents=True)
        for number, text in enumerate(texts):
            data = text if isinstance(text, bytes) else text.encode()
            (folder / label / f"{number:04}.txt").write_bytes(data)
    return str(folder)


def rows_of(task):
    """All (split, label, text) of a task."""
    return [
        (split, task.labels[target], text)
        for split, examples in task.splits().items()
        for text, target in zip(examples.inputs, examples.targets.tolist(), strict=True)
    ]


def texts_of(task):
    return {text for _, _, text in rows_of(task)}
