"""Tables as users have them: data frames, and file names that differ from those on the disk."""

import datetime
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from dataset_helpers import make
from hypothesis import given, settings
from hypothesis import strategies as st

from transferclf import load_image_table
from transferclf.datasets.finding import FileFinder
from transferclf.exceptions import InvalidParameterError, MissingImageError, TransferclfWarning

FRAMES = pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])

GO_ON = (
    "To go on without them, catch this error and pass a data frame that lacks these rows: "
    "frame.drop(frame.index[error.indices])."
)


@pytest.fixture
def root(tmp_path):
    return make(tmp_path / "photos", "a.png", "b.png", "sub/c.png", "sub/d.1.png")


def load(folder, files, **options):
    """Read a table of files that are all of one class."""
    table = folder / "labels.csv"
    lines = [f'"{file}",x' for file in files]
    table.write_text("\n".join(["file,label", *lines]), encoding="utf-8")
    return load_image_table(table, "file", "label", **options)


def told(caught):
    (warning,) = caught
    return str(warning.message)


class TestFileNames:
    @pytest.mark.parametrize(
        ("name", "file"),
        [
            ("sub\\c.png", "sub/c.png"),
            (".\\sub\\c.png", "sub/c.png"),
            ("sub\\..\\a.png", "sub/../a.png"),
            ("sub\\c", "sub/c.png"),
            ("a", "a.png"),
            ("sub/d.1", "sub/d.1.png"),
            ("A.PNG", "a.png"),
            ("Sub/C.png", "sub/c.png"),
            ("SUB\\C", "sub/c.png"),
            ("a.png\\", "a.png"),
        ],
    )
    def test_names_with_one_match_are_found_with_a_warning(self, root, name, file):
        with pytest.warns(TransferclfWarning) as caught:
            bunch = load(root, ["b.png", name])
        assert bunch.filenames.tolist() == ["b.png", file]
        assert bunch.data[1] == str(root / file)
        message = told(caught)
        assert message.startswith("1 of 2 files of labels.csv have other names than in the table: ")
        assert message.endswith(f"{name!r} is {file!r}")
        assert caught[0].filename == __file__

    def test_the_warning_counts_names_and_shows_some(self, root):
        make(root, *(f"{n}.png" for n in range(8)))
        with pytest.warns(TransferclfWarning, match=r"^9 of 10 .*'4' is '4\.png' and 3 more$"):
            load(root, ["a.png", "0", *(str(n) for n in range(8))])

    def test_existing_files_are_taken_under_their_name(self, root):
        make(root, "a", "sub\\c.png", "~x.png", "B.png")
        names = ["a", "sub\\c.png", "~x.png", "B.png", "b.png"]
        assert load(root, names).data.tolist() == [str(root / name) for name in names]

    @pytest.mark.parametrize("name", ["~/photos/a.png", "~\\photos\\a.png", "~/photos/a"])
    def test_a_tilde_in_a_file_name_is_the_home_folder(self, root, tmp_path, monkeypatch, name):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        with pytest.warns(TransferclfWarning, match=r"^1 of 1 files"):
            bunch = load(root, [name])
        assert bunch.data.tolist() == [str(root / "a.png")]

    def test_a_tilde_in_root_and_table_is_the_home_folder(self, root, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        (tmp_path / "t.csv").write_text("file,label\na.png,x\n")
        bunch = load_image_table("~/t.csv", "file", "label", root="~/photos")
        assert bunch.data.tolist() == [str(root / "a.png")]

    def test_names_in_another_unicode_form_are_found(self, root):
        on_disk, in_table = (unicodedata.normalize(form, "Föhre/Näh") for form in ("NFD", "NFC"))
        make(root, f"{on_disk}.png")
        with pytest.warns(TransferclfWarning):
            bunch = load(root, [f"{in_table}.png", in_table])
        assert bunch.data.tolist() == [str(root / f"{on_disk}.png")] * 2

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("e", "'e.gif', 'e.png'"),
            ("F.PNG", "'F.png', 'f.PNG'"),
            ("SUB/none", None),
            ("sub", None),
            ("c.png", None),
            ("notes", None),
            ("a.png.png", None),
            ("C:\\photos\\a.png", None),
            ("~nobody/a.png", None),
            ("x" * 5000, None),
        ],
        ids=lambda name: str(name)[:20],
    )
    def test_names_with_several_or_no_matches_are_missing(self, root, name, options):
        make(root, "e.png", "e.gif", "notes.txt", "f.PNG", "F.png")
        with pytest.raises(MissingImageError) as raised:
            load(root, ["a.png", name])
        hint = f": one of {options}?" if options else ""
        text = f"{root / name} (line 3){hint}"
        assert str(raised.value).splitlines() == [
            f"1 of 2 files of labels.csv are missing below {root}:",
            f"  {text}",
            GO_ON,
        ]
        assert raised.value.indices == [1]
        assert raised.value.problems == [text]

    def test_a_match_with_equal_capitals_wins(self, root):
        make(root, "E.jpg", "e.png")
        with pytest.warns(TransferclfWarning):
            assert load(root, ["e", "E"]).filenames.tolist() == ["e.png", "E.jpg"]

    def test_the_error_counts_missing_files_and_shows_a_few(self, root):
        names = [f"gone{n}.png" for n in range(500)]
        with pytest.raises(MissingImageError) as raised:
            load(root, [*names, "a.png"])
        lines = str(raised.value).splitlines()
        assert lines[0] == f"500 of 501 files of labels.csv are missing below {root}:"
        assert lines[1] == f"  {root / 'gone0.png'} (line 2)"
        assert lines[-2:] == ["  and 495 more", GO_ON]
        assert len(lines) == 8
        assert raised.value.indices == list(range(500))
        assert raised.value.problems[499] == f"{root / 'gone499.png'} (line 501)"

    def test_the_error_gives_no_advice_if_all_files_are_missing(self, root):
        with pytest.raises(MissingImageError) as raised:
            load(root, ["x.png", "y.png"])
        assert len(str(raised.value).splitlines()) == 3
        assert raised.value.indices == [0, 1]

    def test_a_frame_without_the_rows_of_the_error_is_read(self, root):
        frame = pd.DataFrame(
            {"f": ["x.png", "a.png", "y.png", "a.png", "z.png"], "k": [*"pqrst"]}, index=[*"abcde"]
        )
        with pytest.raises(MissingImageError) as raised:
            load_image_table(frame, "f", "k", root=root, classes=["p", "q", "t", "s"])
        assert raised.value.indices == [0, 4]  # of the whole table, not of the given classes
        rest = frame.drop(frame.index[[*raised.value.indices, 2]])
        assert load_image_table(rest, "f", "k", root=root).target.tolist() == ["q", "s"]

    def test_a_missing_root_is_an_error(self, root):
        with pytest.raises(MissingImageError, match=r"nowhere; there is no such folder, and root="):
            load(root, ["a.png"], root=root / "nowhere")

    def test_each_folder_is_listed_once(self, root, monkeypatch):
        import os

        listed, asked = os.listdir, []
        monkeypatch.setattr(os, "listdir", lambda path: asked.append(path) or listed(path))
        finder = FileFinder(root)
        for _ in range(50):
            assert finder.find("SUB\\c") == [root / "sub" / "c.png"]
        assert sorted(asked) == [root, root / "sub"]

    @settings(deadline=None, max_examples=50)
    @given(st.text("abAB./\\~é\u0301 ", max_size=8))
    def test_any_name_is_found_among_the_files_or_not_at_all(self, tmp_path_factory, name):
        root = tmp_path_factory.getbasetemp() / "any-name"
        if not root.exists():
            make(root, "a.png", "B.png", "ab/a.png", "é.png")
        known = {path.resolve() for path in root.rglob("*.png")}
        for path in FileFinder(root).find(name):
            assert path.is_file()
            if root.resolve() in path.resolve().parents:
                assert path.resolve() in known


class TestFrames:
    @FRAMES
    def test_a_frame_is_read_like_a_file(self, root, frame):
        table = frame({"n": [1, 2, 3], "file": ["b.png", "sub/c.png", "a.png"], "k": list("yxy")})
        bunch = load_image_table(table, "file", "k", root=root)
        assert bunch.target.tolist() == ["y", "x", "y"]
        assert bunch.target_names == ["x", "y"]
        assert bunch.filenames.tolist() == ["b.png", "sub/c.png", "a.png"]
        assert bunch["DESCR"] == f"3 images of 2 classes in {root}"

    @FRAMES
    def test_files_are_relative_to_the_current_folder(self, root, frame, monkeypatch):
        monkeypatch.chdir(root)
        bunch = load_image_table(frame({"f": ["sub/c.png"], "k": ["x"]}), "f", "k")
        assert bunch.data.tolist() == [str(Path("sub", "c.png"))]

    @FRAMES
    def test_whole_numbers_are_read_as_text(self, root, frame):
        make(root, "7.png", "12.png")
        table = frame({"id": [7, 12], "k": [0, 3]})
        with pytest.warns(TransferclfWarning, match=r"'7' is '7\.png'"):
            bunch = load_image_table(table, "id", "k", root=root, classes=["3", "0"])
        assert bunch.target.tolist() == ["0", "3"]

    def test_types_of_pandas_are_read(self, root):
        names = ["a.png", "b.png"]
        for labels in (
            pd.Categorical(["x", "y"]),
            pd.array(["x", "y"], dtype="string"),
            pd.Series(["x ", "y"], dtype=object),
        ):
            table = pd.DataFrame({"f": names, "k": labels}).set_index(pd.Index([5, 5]))
            assert load_image_table(table, "f", "k", root=root).target.tolist() == ["x", "y"]
        table = pd.DataFrame({"f": [root / "a.png", "b.png"], "k": [True, np.int8(3)]})
        bunch = load_image_table(table, "f", "k", root=root)
        assert bunch.target.tolist() == ["True", "3"]

    @FRAMES
    def test_the_error_names_rows_with_missing_values(self, root, frame):
        table = frame({"f": ["a.png", None, "", "b.png"], "k": [" ", "x", "x", "\u200b"]})
        with pytest.raises(ValueError, match="no 'f'") as raised:
            load_image_table(table, "f", "k", root=root)
        assert str(raised.value).splitlines() == [
            "2 rows of the data frame have no 'f': 1; 2",
            "2 rows of the data frame have no 'k': 0; 3",
        ]

    @pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT])
    def test_missing_labels_are_refused(self, root, missing):
        table = pd.DataFrame(
            {"f": ["a.png", "b.png"], "k": pd.Series(["x", missing], dtype=object)}
        )
        with pytest.raises(ValueError, match=r"1 rows of the data frame have no 'k': 1"):
            load_image_table(table, "f", "k", root=root)

    @pytest.mark.parametrize(
        "value", [1.5, 3.0, b"x", ["x"], {"x": 1}, datetime.date(2024, 1, 1), np.zeros(2), 1j]
    )
    @pytest.mark.parametrize("column", ["f", "k"])
    def test_values_that_are_no_names_are_refused(self, root, value, column):
        columns = {"f": ["a.png", "b.png"], "k": ["x", "y"]}
        columns[column] = pd.Series([columns[column][0], value], dtype=object)
        with pytest.raises(ValueError, match="text or whole numbers") as raised:
            load_image_table(pd.DataFrame(columns), "f", "k", root=root)
        assert f"in {column!r}, the first of them row 1: {type(value).__name__}" in str(
            raised.value
        )
        assert "astype(str)" in str(raised.value)

    @FRAMES
    def test_frames_without_rows_are_refused(self, frame):
        with pytest.raises(ValueError, match="the data frame has no rows"):
            load_image_table(frame({"f": [], "k": []}), "f", "k")

    @FRAMES
    def test_frames_without_the_columns_are_refused(self, root, frame):
        with pytest.raises(InvalidParameterError) as raised:
            load_image_table(frame({"File": ["a.png"], "species": ["x"]}), "file", "specie")
        assert str(raised.value) == (
            "the data frame has no column 'file' and has no column 'specie'; it has "
            "['File', 'species']. Did you mean 'File' for 'file', 'species' for 'specie'?"
        )

    def test_frames_with_a_repeated_column_are_refused(self, root):
        table = pd.DataFrame([["a.png", "x", "y"]], columns=["f", "k", "k"])
        with pytest.raises(InvalidParameterError, match=r"more than one column 'k'"):
            load_image_table(table, "f", "k", root=root)

    @pytest.mark.parametrize(
        "table",
        [
            None, 3, {"f": ["a.png"], "k": ["x"]}, [("a.png", "x")], np.array([["a.png", "x"]]),
            b"labels.csv", pd.Series(["a.png"]), pl.LazyFrame({"f": ["a.png"], "k": ["x"]}),
            object(), iter(["a.png"]),
        ],
        ids=lambda table: type(table).__name__,
    )  # fmt: skip
    def test_values_that_are_no_table_are_refused(self, table):
        with pytest.raises(InvalidParameterError, match=r"csv must be the path of a table, or a"):
            load_image_table(table, "f", "k")


class TestColumnsOfFiles:
    def write(self, folder, text):
        (folder / "labels.csv").write_text(text, encoding="utf-8")
        return folder / "labels.csv"

    @pytest.mark.parametrize("column", ["File", " file", "fil", "files", "image"])
    def test_errors_propose_near_matches_of_columns(self, root, column):
        table = self.write(root, "file,label\na.png,x\n")
        with pytest.raises(
            InvalidParameterError, match=f"labels.csv has no column '{column}'; it"
        ) as raised:
            load_image_table(table, column, "label")
        assert str(raised.value).endswith(f"Did you mean 'file' for {column!r}?") == (
            column != "image"
        )

    def test_repeated_columns_are_refused(self, root):
        table = self.write(root, "file,label,label\na.png,x,y\n")
        with pytest.raises(InvalidParameterError, match=r"labels.csv has more than one column 'la"):
            load_image_table(table, "file", "label")
        table = self.write(root, "file,label,note,note\na.png,x,1,2\n")
        assert load_image_table(table, "file", "label").target.tolist() == ["x"]

    @pytest.mark.parametrize("column", [0, None, 1.5, ("file",)])
    def test_columns_that_are_no_text_are_refused(self, root, column):
        table = self.write(root, "file,label\na.png,x\n")
        with pytest.raises(InvalidParameterError, match="has no column"):
            load_image_table(table, column, "label")

    def test_lists_of_columns_are_refused(self, root):
        table = self.write(root, "file,label\na.png,x\n")
        with pytest.raises(InvalidParameterError, match=r"the name of a column, got \['file'\]"):
            load_image_table(table, ["file"], "label")

    def test_a_folder_is_no_table(self, root):
        with pytest.raises(IsADirectoryError, match="load_image_folder reads class folders"):
            load_image_table(root, "file", "label")

    def test_fields_without_end_are_refused(self, root):
        table = self.write(root, 'file,label\n"a.png,x\n' + "b.png,y\n" * 40_000)
        with pytest.raises(ValueError, match=r"labels.csv to be a table as text, .*data frame"):
            load_image_table(table, "file", "label")

    def test_errors_of_other_formats_name_pandas(self, root):
        (root / "labels.xlsx").write_bytes(b"PK\x03\x04\xff\xfe")
        with pytest.raises(ValueError, match="read it with pandas and pass the data frame"):
            load_image_table(root / "labels.xlsx", "file", "label")
