"""Generated support tickets: four classes of 60, 25, 11 and 4 %, written from templates."""

import csv
import random

SHARES = {"question": 0.60, "billing": 0.25, "bug": 0.11, "outage": 0.04}
TEMPLATES = {
    "question": [
        "How do I {act} my {thing}?",
        "Could you tell me where the {thing} settings are, please?",
        "Is it possible to {act} a {thing} on the {plan} plan?",
        "I'd like to {act} the {thing} but can't find it",
    ],
    "billing": [
        "I was charged twice for the {plan} plan",
        'My invoice says "{plan}", but I cancelled the {thing}',
        "Please refund the {thing}, we moved to the {plan} plan",
        "Why does the {plan} plan cost more than on the invoice?",
    ],
    "bug": [
        "The {thing} shows an error when I {act} it",
        "When I {act} the {thing}, the page is empty; {plan} plan",
        "{thing} crashes after the update, error 50{digit}",
    ],
    "outage": [
        "Nothing loads, the {thing} is down for everyone",
        "The whole service is down since {digit} o'clock\nplease hurry",
        "All users get error 50{digit}, we cannot {act} anything",
    ],
}
WORDS = {
    "act": ["export", "share", "delete", "rename", "import", "print", "sync"],
    "thing": ["report", "dashboard", "calendar", "account", "project", "file, folder", "login", "API key"],
    "plan": ["team", "free", "pro", "enterprise"],
    "digit": list("0234"),
}
OPENINGS = ["", "", "Hi, ", "Hello! ", "URGENT: ", "hey \U0001f600 ", "Good morning,\n"]
CLOSINGS = [
    "",
    "",
    " Thanks!",
    " It worked yesterday.",
    ' As you said: "soon".',
    " We pay every month.",
    " Regards, A.",
]


def tickets(count, seed=0):
    """Return texts and labels; some texts occur twice, and one in twenty is about another class's matter."""
    draw = random.Random(seed)
    rows = []
    for label, share in SHARES.items():
        for _ in range(round(count * share)):
            matter = draw.choice(list(TEMPLATES)) if draw.random() < 0.05 else label
            words = {name: draw.choice(choices) for name, choices in WORDS.items()}
            text = draw.choice(OPENINGS) + draw.choice(TEMPLATES[matter]).format(**words) + draw.choice(CLOSINGS)
            rows.append((text if draw.random() < 0.9 else text.upper(), label))
    draw.shuffle(rows)
    return rows


def write_tickets(path, count=1200, seed=0):
    """Write a CSV with quotes, commas and newlines in its fields."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(tickets(count, seed))
    return path
