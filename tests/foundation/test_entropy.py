import pytest

from gateway.foundation.entropy import CountingEntropy, SystemEntropy


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 12, 19, 32])
def test_counted_bytes_differ_from_call_to_call_and_are_the_same_in_every_run(count):
    one, other = CountingEntropy(), CountingEntropy()
    drawn = [one.bytes(count) for _ in range(200)]
    assert drawn == [other.bytes(count) for _ in range(200)]
    assert len(set(drawn)) == 200
    assert {len(each) for each in drawn} == {count}


@pytest.mark.requirement("ASVS 6.5.3", "ASVS 11.5.1")
def test_the_systems_bytes_are_never_the_same():
    drawn = {SystemEntropy().bytes(16) for _ in range(1000)}
    assert len(drawn) == 1000
    assert {len(each) for each in drawn} == {16}
