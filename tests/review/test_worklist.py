"""The worklist as a reader chooses to see it: order, filters, address, the next unread case."""

from dataclasses import replace

import pytest

from medkd.review import worklist
from medkd.review.worklist import Listing, filter_cases, next_unread, order_cases, read_listing
from medkd.types import RunCase

SCAN = RunCase("s", "p", "scan", "x.mhd", "test", None, None, 0.5, "analysed")
CASES = [
    replace(SCAN, case_id="s1", score=0.1),
    replace(SCAN, case_id="s2", score=0.9, split="val"),
    replace(SCAN, case_id="s3", score=None),
    replace(SCAN, case_id="s4", score=None, status="not_analysed"),
]
ORDERS = worklist.choose_orders(model_shown=True)


def names(cases):
    return [case.case_id for case in cases]


def many(count):
    return [replace(SCAN, case_id=f"c{number:04d}") for number in range(count)]


@pytest.mark.parametrize("order", ORDERS)
def test_what_was_not_analysed_comes_first_in_every_order(order):
    assert names(order_cases(CASES, order, shuffle="anna"))[0] == "s4"


def test_cases_are_ordered_by_suspicion_or_by_id():
    assert names(order_cases(CASES)) == ["s4", "s2", "s1", "s3"]
    assert names(order_cases(CASES[::-1], "case")) == ["s4", "s1", "s2", "s3"]


def test_the_random_order_is_fixed_for_a_reader_and_a_review():
    cases = many(200)
    anna = names(order_cases(cases, "random", shuffle="anna\nrun"))
    assert anna == names(order_cases(cases[::-1], "random", shuffle="anna\nrun"))
    assert sorted(anna) == names(cases) != anna
    assert anna != names(order_cases(cases, "random", shuffle="ben\nrun"))
    assert anna != names(order_cases(cases, "random", shuffle="anna\nrun2"))


def test_a_new_case_does_not_change_the_random_order_of_the_others():
    before = names(order_cases(many(50), "random", shuffle="a"))
    after = names(order_cases(many(51), "random", shuffle="a"))
    assert [name for name in after if name != "c0050"] == before


def test_a_random_order_does_not_follow_the_score():
    cases = [replace(case, score=number / 1000) for number, case in enumerate(many(1000))]
    shuffled = [case.score for case in order_cases(cases, "random", shuffle="anna")]
    # The mean of the first half of 1000 shuffled scores has a standard deviation of .009.
    assert sum(shuffled[:500]) / 500 == pytest.approx(0.4995, abs=0.04)


def test_without_a_model_nothing_in_the_worklist_tells_what_one_said():
    assert "suspicion" not in worklist.choose_orders(model_shown=False)
    assert worklist.hidden_columns(model_shown=False) >= {"Score", "Marks"}
    assert not worklist.hidden_columns(model_shown=True)


@pytest.mark.parametrize(
    ("listing", "expected"),
    [
        (Listing("case"), ["s1", "s2", "s3", "s4"]),
        (Listing("case", text="2"), ["s2"]),
        (Listing("case", status="not_analysed"), ["s4"]),
        (Listing("case", split="val"), ["s2"]),
        (Listing("case", progress="reviewed"), ["s1"]),
        (Listing("case", progress="open", status="analysed"), ["s2", "s3"]),
    ],
)
def test_filters_keep_what_matches_all_of_them(listing, expected):
    progress = {"s1": "reviewed"}
    found = filter_cases(CASES, listing, lambda case: progress.get(case.case_id, "open"))
    assert names(found) == expected


@pytest.mark.parametrize(
    ("current", "read", "expected"),
    [("a", "", "b"), ("a", "b", "c"), ("c", "d", "a"), ("b", "acd", ""), ("z", "a", "b"),
     ("", "", "a"), ("d", "abc", "")],
)  # fmt: skip
def test_the_next_unread_case_is_searched_forwards_and_then_from_the_begin(current, read, expected):
    assert next_unread(list("abcd"), current, set(read).__contains__) == expected


def test_a_listing_is_read_from_the_address_that_it_was_written_into():
    listing = Listing("random", text="s", status="analysed", progress="open", split="val")
    asked = worklist.write_listing(listing, CASES)
    assert read_listing(asked, ORDERS, ["test", "val"]) == listing


def test_values_that_do_not_exist_are_ignored():
    asked = {"order": "size", "status": "bad", "progress": "x", "split": "moon", "text": " s "}
    assert read_listing(asked, ORDERS, ["test"]) == Listing("suspicion", text="s")
    blind = worklist.choose_orders(model_shown=False)
    assert read_listing({"order": "suspicion"}, blind, []).order == "case"


def test_a_text_that_is_in_no_case_id_does_not_enter_the_address():
    asked = worklist.write_listing(Listing("case", text="DOE^JANE"), CASES)
    assert asked == {"order": "case"}
