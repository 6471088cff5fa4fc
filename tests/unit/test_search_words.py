"""What words are made of, where the text is meant to cost much."""

import pytest

from app.search_words import MAX_MARKS, without_long_marks, words_of


@pytest.mark.parametrize("marks", ["\u0301\u0334", "\u05b0\u05b4", "\u0f73", "\u0344\u0327"])
def test_long_runs_of_marks_are_cut_before_they_are_put_in_order(marks: str) -> None:
    text = "e" + marks * 10_000

    assert len(without_long_marks(text)) == 1 + MAX_MARKS


def test_ordinary_marks_stay() -> None:
    text = "Caf\u00e9 \u1ec7 e\u0302\u0323 \u0915\u094d\u0937\u093f"

    assert without_long_marks(text) == text


def test_a_word_is_found_under_any_number_of_accents() -> None:
    assert set(words_of("cafe" + "\u0301\u0334" * 5_000)) == set(words_of("cafe"))
