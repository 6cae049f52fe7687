"""Checks of what a preprocessor learns, and of the state that it is kept by."""

import copy
import json

from seqlab.contracts import UserError
from seqlab.testing.plain import check_plain, check_refuses_bad_states
from seqlab.testing.preprocessors.making import (
    ANY,
    OFTEN,
    SURROGATES,
    UNSEEN,
    PreprocessorMaking,
    ids_of,
    same,
    short,
)
from seqlab.testing.suite import demand


class LearningChecks(PreprocessorMaking):
    """What fitting teaches, and nothing else does."""

    # What it learns, and from what ------------------------------------------------------------------------------------

    def test_encoding_teaches_nothing(self) -> None:
        """What is encoded or decoded after fitting changes neither the size, nor the state, nor later ids."""
        preprocessor = self.fitted()
        before, size = copy.deepcopy(preprocessor.state_dict()), preprocessor.size
        encoded = preprocessor.encode(self.texts)
        for text in (UNSEEN, *ANY.values()):
            preprocessor.decode(ids_of(preprocessor, text))
        demand(preprocessor.size == size, f"size was {size}; after unseen texts were encoded it is {preprocessor.size}")
        demand(preprocessor.state_dict() == before, "the state changed as unseen texts were encoded")
        same("after unseen texts were encoded", preprocessor.encode(self.texts), encoded)

    def test_fitting_again_forgets(self) -> None:
        """A second fit, on other texts, leaves nothing of the first."""
        first, second = [*self.texts[::2]] * OFTEN, [*self.texts[1::2]] * OFTEN
        again, fresh = self.make(), self.make()
        again.fit(first)
        again.encode(first)
        again.fit(second)
        fresh.fit(second)
        demand(
            again.size == fresh.size, f"size is {again.size} after a second fit; the second alone gives {fresh.size}"
        )
        demand(again.state_dict() == fresh.state_dict(), "the state after a second fit is not that of the second alone")
        same("after a second fit", again.encode(self.texts), fresh.encode(self.texts))

    def test_fits_in_one_pass(self) -> None:
        """An iterator, which can be read once, teaches what a list does."""
        once, expected = self.make(), self.fitted()
        once.fit(text for text in [*self.texts] * OFTEN)
        demand(once.size == expected.size, f"size is {once.size} from an iterator, and {expected.size} from a list")
        same("fitted from an iterator", once.encode(self.texts), expected.encode(self.texts))

    def test_not_fitted_is_an_error(self) -> None:
        """Before it is fitted, encode says so in an error, unless there is nothing for it to learn."""
        try:
            encoded = self.make().encode(self.texts)
        except (ValueError, RuntimeError, UserError) as error:
            demand(str(error), "the error of encode before fitting has no message")
        except Exception as error:
            raise AssertionError(
                f"encode before fitting gives {type(error).__name__}, which tells nobody why"
            ) from error
        else:
            try:
                same("before fitting", encoded, self.fitted().encode(self.texts))
            except AssertionError as error:
                raise AssertionError(f"encode gives ids that mean nothing, and no error; {error}") from error

    # The state --------------------------------------------------------------------------------------------------------

    def test_state_is_plain_json(self) -> None:
        """The state is a dict of plain JSON values, whatever the texts."""
        check_plain("state_dict()", self.fitted(*ANY.values()).state_dict())
        try:
            odd = self.fitted(*SURROGATES.values())
        except ValueError:  # which it may refuse
            return
        check_plain("state_dict() after lone surrogates", odd.state_dict())

    def test_state_is_taken_back(self) -> None:
        """A fresh one that loads the state gives the same ids, texts and sizes."""
        preprocessor, fresh = self.fitted(), self.make()
        fresh.load_state_dict(json.loads(json.dumps(preprocessor.state_dict())))
        demand(fresh.size == preprocessor.size, f"size is {fresh.size} after loading, and was {preprocessor.size}")
        ids = (fresh.unknown_id, preprocessor.unknown_id)
        demand(ids[0] == ids[1], f"unknown_id is {ids[0]} after loading, and was {ids[1]}")
        texts = [*self.texts, UNSEEN, *ANY.values()]
        same("after loading", fresh.encode(texts), preprocessor.encode(texts))
        for text in texts:
            tokens = ids_of(preprocessor, text)
            got, expected = fresh.decode(tokens), preprocessor.decode(tokens)
            demand(got == expected, f"after loading {short(got)} is decoded, and {short(expected)} before")

    def test_loading_forgets(self) -> None:
        """One that was fitted on other texts before it loads a state is the same as a fresh one that loads it."""
        state = json.dumps(self.fitted().state_dict())
        used, fresh = self.make(), self.make()
        used.fit([UNSEEN, *self.texts[::-2], "words of its own"] * OFTEN)
        used.encode(self.texts)
        for one in (used, fresh):
            one.load_state_dict(json.loads(state))
        demand(used.size == fresh.size, f"size is {used.size} after loading over another vocabulary, else {fresh.size}")
        texts = [*self.texts, UNSEEN, *ANY.values()]
        same("loaded over another vocabulary", used.encode(texts), fresh.encode(texts))
        demand(used.state_dict() == fresh.state_dict(), "the state loaded over another vocabulary is another one")

    def test_bad_states_are_refused(self) -> None:
        """A state that it did not write is refused with a ValueError."""
        check_refuses_bad_states(json.loads(json.dumps(self.fitted().state_dict())), self.make)
