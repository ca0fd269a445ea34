"""Notebooks are kept without outputs, run without a warning, and find the numbers they state."""

from __future__ import annotations

import ast
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

import gigaqc as gq

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
NEED_NO_DATA = {"06_count_nuclei", "07_scale_out"}
SKIPPED = "skip-execution"

# What a reader of a notebook would see as a warning is an error here.
SETUP = """
import warnings
warnings.simplefilter("error")
warnings.simplefilter("ignore", PendingDeprecationWarning)
warnings.simplefilter("ignore", DeprecationWarning)
warnings.filterwarnings("error", category=DeprecationWarning, module="__main__")
"""

# Texts as the notebook's variables make them; each must stand in its words.
STATED: dict[str, list[str]] = {
    "01_is_my_slide_usable": [
        'f"{100 * clipped:.2f} % of `Actin` is clipped"',
        'f"though {sparse} are very sparse"',
    ],
    "02_which_channels_spill_over": [
        "f\"Of {41 * 40 // 2} pairs of MIBI channels {dict([(4, 'four')])[len(suspects)]}\"",
        'f"A leak of {100 * seen:.0f} %"',
    ],
    "03_cluster_pixels_in_spatialdata": [
        "f\"in {dict([(8, 'eight')])[len(raw)]} fields\"",
        'f"The fifth cluster still takes {100 * falls[5]:.0f} % off, "'
        ' f"the sixth {100 * falls[6]:.0f} %"',
    ],
    "04_calibrate_a_camera": ['f"{gain:.2f} electrons a grey value"'],
    "05_snr_of_an_mri_series": [
        "f\"{table.loc['detrended', 'median']:.1f} in time\"",
        'f"{float(found[0].isnr[0]):.0f} and {float(found[1].isnr[0]):.0f} in the image"',
    ],
    "06_count_nuclei": [
        'f"**{count}** in the field"',
        'f"{len(objects):,} of {known:,}"',
        'f"{int(truth.labels.max()):,} nuclei that do not touch"',
        "str(int(np.any([table[f'bbox_min_{a}'] // 64 != (table[f'bbox_max_{a}'] - 1) // 64"
        " for a in 'yx'], axis=0).sum())) + ' of the 326 nuclei lie on a seam'",
    ],
    "07_scale_out": [],
}

# What must be true at the end, or the notebook says something else than it shows.
TRUE: dict[str, list[str]] = {
    "01_is_my_slide_usable": [
        "a.status == 'WARN' and set(a.channels.query(\"status == 'WARN'\").index) == {'Actin'}",
        "{('DNA', 'hot_pixel_fraction'), ('pH3', 'row_striping'), ('Actin', 'dead_area_fraction')}"
        " <= set(b.flags.query(\"status != 'PASS'\")[['name', 'metric']].itertuples(index=False, "
        "name=None))",
        "best == 4",
        "ranked['autocorrelation_snr'].iloc[0] > 0.2 and m.status == 'WARN'",
    ],
    "02_which_channels_spill_over": [
        "same > 0.95",
        "before > 0.7 and after < 0.2",
        "table['r'].is_monotonic_increasing",
    ],
    "03_cluster_pixels_in_spatialdata": [
        "kept",
        "epithelial['sample2'] < 0.01 and min(epithelial[['sample1', 'sample3']]) > 0.5",
        "found.profile.idxmax(axis=1).tolist()[:3] == ['YBX1', 'Laminin', 'H3K27Ac']",
        "sum(found.profile.idxmax(axis=1) == 'Cytokeratin 5') == 2",
        "nothing.abs().max() < 0.05",
    ],
    "04_calibrate_a_camera": [
        "bool(found.measurable) and not bool(recipe.measurable) and bool(recipe.quantised)",
        "not bool(dark.measurable) and bool(np.isnan(dark.gain))",
        "error['mad'] > 0.5 and error['variance'] < 0.1",
        "drift[-1] > drift[0]",
    ],
    "05_snr_of_an_mri_series": [
        "table.loc['detrended', 'median'] > table.loc['with drift', 'median']",
        "int(table.loc['detrended', 'n_not_measurable']) == 408",
        "first > second",
        "spread['EPI, run 9'] > 2",
    ],
    "06_count_nuclei": [
        "set(counts.values()) == {count}",
        "quality['quality'].item() == 'GOOD'",
    ],
    "07_scale_out": ["identical", "halves", "image.nbytes == 2**28"],
}


def read(name: str) -> Any:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_of(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def words_of(notebook: Any) -> str:
    text = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return " ".join(text.split())


def needs_no_data(name: str) -> bool:
    return name in NEED_NO_DATA


def test_each_notebook_is_listed_and_checked() -> None:
    listed = re.findall(r"\]\((\w+)\.ipynb\)", (FOLDER / "README.md").read_text())
    assert listed == NOTEBOOKS == list(STATED) == list(TRUE)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_is_kept_without_outputs(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    cure = "in Jupyter: Edit > Clear Outputs of All Cells, then save"
    for cell in code_of(notebook):
        assert not cell.outputs and cell.execution_count is None, f"{cell.id}: {cure}"
        assert set(cell.metadata) <= {"tags"}
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata.language_info) == {"name"}, f"a version of Python: {cure}"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_begins_with_a_question_and_its_answer(name: str) -> None:
    title, _, answer = read(name).cells[0].source.partition("\n\n")
    assert title.startswith("# ") and title.endswith("?")
    assert len(answer.splitlines()) == 2 and "**" in answer
    assert read(name).cells[-1].source.startswith("**What next.**")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_uses_public_names_only(name: str) -> None:
    for cell in code_of(read(name)):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("gigaqc")
            if isinstance(node, ast.Attribute):
                assert not node.attr.startswith("_")
                if isinstance(node.value, ast.Name) and node.value.id == "gq":
                    assert node.attr in gq.__all__


@pytest.mark.parametrize("name", [n for n in NOTEBOOKS if not needs_no_data(n)])
def test_without_images_it_says_where_they_are(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GIGAQC_DATA", raising=False)
    (cell,) = [c for c in code_of(read(name)) if "GIGAQC_DATA" in c.source]
    with pytest.raises(FileNotFoundError, match=r"no folder data: notebooks/README\.md"):
        exec(cell.source, {"Path": Path})


@pytest.mark.long
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs_and_finds_what_it_states(
    name: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not needs_no_data(name):
        monkeypatch.setenv("GIGAQC_DATA", str(request.getfixturevalue("data_dir")))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = read(name)
    own = code_of(notebook)
    asked = [f"str({e})" for e in STATED[name]] + [f"bool({e})" for e in TRUE[name]]
    answers = nbformat.v4.new_code_cell(
        f"import json; import numpy as np; print(json.dumps([{', '.join(asked)}]))", id="answers"
    )
    notebook.cells.insert(0, nbformat.v4.new_code_cell(SETUP, id="setup"))
    notebook.cells.append(answers)
    client = nbclient.NotebookClient(
        notebook, timeout=180, skip_cells_with_tag=SKIPPED,
        resources={"metadata": {"path": str(tmp_path)}},
    )  # fmt: skip
    client.execute()
    for cell in own:
        ran = SKIPPED not in cell.metadata.get("tags", ())
        assert ran == (cell.execution_count is not None)
        for output in cell.outputs:
            assert output.output_type != "error", cell.id  # a picture fails after its cell
            assert output.get("name") != "stderr", f"{cell.id}: {output.get('text')}"
            shown = json.dumps(output)
            assert os.environ.get("GIGAQC_DATA", str(FOLDER)) not in shown, cell.id
    found = json.loads(answers.outputs[0].text)
    stated, true = found[: len(STATED[name])], found[len(STATED[name]) :]
    words = words_of(notebook).replace("**", "")
    for text in stated:
        assert text.replace("**", "") in words
    assert [e for e, good in zip(TRUE[name], true, strict=True) if not good] == []
