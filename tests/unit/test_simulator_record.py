"""Two runs that differ anywhere have other hashes, and the first difference is shown with both sides."""

import pytest

from duress.simulator.record import Entry, Record, first_difference

BLOCK = Record.BLOCK


def recorded(count: int, *, changed: int | None = None, keep: bool = True) -> Record:
    record = Record(keep=keep)
    for number in range(count):
        record.add(
            number, "worker-1", "step", f"transfer#{number}" + ("!" if number == changed else ""), number % 3 - 1
        )
    return record


@pytest.mark.parametrize("count", [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 7])
def test_equal_runs_have_one_hash_however_often_it_is_asked_for(count: int) -> None:
    record = Record()
    for entry in recorded(count).entries:
        record.add(*entry)
        if entry.at % 100 == 0:
            record.hexdigest()
    assert record.hexdigest() == recorded(count).hexdigest() == recorded(count, keep=False).hexdigest()
    assert len(record) == count == len(record.entries)
    assert first_difference(record, recorded(count)) is None


@pytest.mark.parametrize("changed", [0, 5, BLOCK, 3 * BLOCK])
def test_a_difference_is_found_and_shown(changed: int) -> None:
    one, other = recorded(3 * BLOCK + 7), recorded(3 * BLOCK + 7, changed=changed)
    assert one.hexdigest() != other.hexdigest()
    difference = first_difference(one, other)
    assert difference is not None
    assert difference.index == changed
    assert [entry.at for entry in difference.before] == list(range(max(0, changed - 5), changed))
    assert f"the runs part at entry {changed}:" in str(difference)
    assert f"1st {changed / 1e9:.9f}  worker-1  step  transfer#{changed}" in str(difference)
    assert f"transfer#{changed}!" in str(difference)


def test_a_run_that_ends_sooner_differs() -> None:
    difference = first_difference(recorded(3), recorded(4))
    assert difference is not None
    assert difference.first is None
    assert difference.second == Entry(3, "worker-1", "step", "transfer#3", -1)
    assert "1st ends here" in str(difference)


@pytest.mark.parametrize("field", range(5))
def test_every_field_counts(field: int) -> None:
    plain = (1, "a", "b", "c", 2)
    other = list(plain)
    other[field] = 9 if isinstance(plain[field], int) else "z"
    one, two = Record(), Record()
    one.add(*plain)
    two.add(*other)  # type: ignore[arg-type]
    assert one.hexdigest() != two.hexdigest()


def test_any_text_can_be_recorded() -> None:
    record = Record()
    record.add(0, "", "sql", "select '\n\ud800'")
    assert record.hexdigest()


def test_remarks_stand_between_entries_and_change_no_hash() -> None:
    record = Record()
    record.remark(0, "", "point", "first")
    for entry in recorded(2).entries:
        record.add(*entry)
        record.remark(entry.at, "", "point", f"after {entry.at}")
    assert [entry.text for entry in record.told] == ["first", "transfer#0", "after 0", "transfer#1", "after 1"]
    assert record.entries == recorded(2).entries
    assert record.hexdigest() == recorded(2).hexdigest()
    blind = Record(keep=False)
    blind.remark(0, "", "point", "first")
    assert not blind.takes_remarks and blind.told == ()
    deaf = Record(remarks=False)
    deaf.remark(0, "", "point", "first")
    deaf.add(0, "", "step", "one")
    assert [entry.text for entry in deaf.told] == ["one"]
