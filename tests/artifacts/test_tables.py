from cvae.artifacts.tables import csv_bytes, rounded


def test_floats_have_eight_significant_digits_and_other_values_stay():
    row = {"loss": 123.456789012, "small": 1.23456789e-10, "epoch": 123456789, "pixels": "grey"}
    assert rounded(row) == {"loss": 123.45679, "small": 1.2345679e-10, "epoch": 123456789, "pixels": "grey"}


def test_a_table_has_the_keys_of_its_first_row_as_header_and_unix_line_ends():
    assert csv_bytes([{"a": 1, "b": "x, y"}, {"b": 2.5, "a": 3}]) == b'a,b\n1,"x, y"\n3,2.5\n'


def test_a_table_has_empty_cells_where_a_row_lacks_a_column_and_may_have_no_rows():
    assert csv_bytes([{"a": 1}, {"a": 2, "b": 3}]) == b"a,b\n1,\n2,3\n"
    assert csv_bytes([{"a": 1}, {"a": 2, "b": 3}], ("b", "a")) == b"b,a\n,1\n3,2\n"
    assert csv_bytes([], ("a", "b")) == b"a,b\n"
