import pytest

from gateway.supervisor.questions import MOST_OPEN, Questions, refusal
from gateway.supervisor.roster import Seat

OWN = {"opening": {"process": "worker-1"}}


@pytest.mark.parametrize(
    ("seat", "to", "what", "arguments"),
    [
        (Seat("worker", 1), "keeper", "open-chain", OWN),
        (Seat("worker", 1), "keeper", "record-uses", {}),
        (Seat("portal", 0), "keeper", "review-store", {}),
        (Seat("keeper", 0), "portal", "set-credentials", {}),
        (Seat("keeper", 0), "supervisor", "rotate", {}),
    ],
)
def test_what_may_be_asked(seat, to, what, arguments):
    assert refusal(seat, to, what, arguments) is None


@pytest.mark.parametrize("arguments", [{}, {"opening": None}, {"opening": {}}, {"opening": {"process": "worker-0"}}])
def test_nobody_opens_the_chain_of_another(arguments):
    assert refusal(Seat("worker", 1), "keeper", "open-chain", arguments) == "worker-1 opens chains of its own only"


@pytest.mark.parametrize(("to", "what"), [("x" * 9999, "x"), ("x", "x" * 9999), ("\0" * 9999, "\0" * 9999)])
def test_a_refusal_is_no_longer_than_it_needs_to_be(to, what):
    refused = refusal(Seat("worker", 1), to, what, {})
    assert refused is not None
    assert len(refused) < 1000


def test_an_answer_is_good_once_and_from_who_was_asked():
    questions = Questions()
    assert questions.put("worker-0/10", 1, "keeper/5")
    assert not questions.settle("portal/6", "worker-0/10", 1)
    assert not questions.settle("keeper/5", "worker-0/11", 1)
    assert not questions.settle("keeper/5", "worker-0/10", 2)
    assert questions.settle("keeper/5", "worker-0/10", 1)
    assert not questions.settle("keeper/5", "worker-0/10", 1)


def test_each_has_a_number_of_its_own():
    questions = Questions()
    assert [questions.put("worker-0/10", number, "keeper/5") for number in range(MOST_OPEN + 1)].count(False) == 1
    assert questions.put("worker-1/11", 1, "keeper/5")
    questions.settle("keeper/5", "worker-0/10", 3)
    assert questions.put("worker-0/10", 99, "keeper/5")


@pytest.mark.parametrize("gone", ["worker-0/10", "keeper/5"])
def test_of_who_is_gone_nothing_is_kept(gone):
    questions = Questions()
    questions.put("worker-0/10", 1, "keeper/5")
    questions.put("portal/6", 1, "keeper/7")
    questions.forget(gone)
    assert len(questions) == 1
