"""``board CARD...``: cards of any origin in one leaderboard."""

from pathlib import Path

from seqlab.cli.parser import Parser, path
from seqlab.errors import UserError


def main(arguments: list[str]) -> int:
    """Write the page and the table; print the path of the page."""
    parser = Parser("board", description="Merge cards of one protocol into a page with sortable columns, and a CSV.")
    parser.add_argument("cards", metavar="CARD", nargs="+", type=path, help="folder of a card, or its card.json")
    parser.add_argument("--out", type=path, default=Path("cards"), metavar="FOLDER", help="of the files (%(default)s)")
    args = parser.parse(arguments)
    places = [place.resolve() for place in args.cards]
    if twice := [str(place) for place in places if places.count(place) > 1]:
        raise UserError(f"{twice[0]} is given twice")
    from seqlab.io.formatting import relative_path
    from seqlab.study.card.board import write_board

    print(relative_path(write_board(args.cards, args.out).resolve()))
    return 0
