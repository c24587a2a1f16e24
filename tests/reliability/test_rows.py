"""Every row of the reliability table, at its short size."""

import pytest
from reliability.rows import ROWS


@pytest.mark.parametrize("id", ROWS)
def test_row(id, tmp_path):
    row = ROWS[id]
    print(f"{row.id}: {row.promise}: wanted {row.wanted}; seen {row.run(row.short, tmp_path)}")
