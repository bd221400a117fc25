"""What was drawn is found again, after a kill too; what is not whole is as if it had never been."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from gemtune.documents.drawn_pages import DrawnPages
from gemtune.documents.folder import DistilledFolder
from gemtune.files import JsonObject


def picture(grey: int) -> JsonObject:
    out = io.BytesIO()
    Image.new("L", (9, 9), grey).save(out, "PNG")
    return {"pixels": f"{grey:064x}", "png": base64.b64encode(out.getvalue()).decode(), "note": "ملاحظة"}


def test_results_are_found_by_the_next_run(tmp_path: Path) -> None:
    folder = DistilledFolder(tmp_path)
    with DrawnPages(folder) as drawn:
        stored = drawn.put("a", picture(1))
        assert stored == {"pixels": f"{1:064x}", "note": "ملاحظة", "image": f"images/00/{1:064x}.png"}
        drawn.put("count", {"pages": 3})
    with DrawnPages(folder) as drawn:
        assert drawn.get("a") == stored
        assert drawn.get("count") == {"pages": 3}
        assert drawn.get("b") is None
        assert drawn.path_of(stored).is_file()


def test_a_line_that_a_kill_has_cut_is_passed_over(tmp_path: Path) -> None:
    folder = DistilledFolder(tmp_path)
    with DrawnPages(folder) as drawn:
        drawn.put("a", {"pages": 1})
        drawn.put("b", {"pages": 2})
    folder.drawn_file.write_bytes(folder.drawn_file.read_bytes()[:-9])
    with DrawnPages(folder) as drawn:
        assert [drawn.get(key) for key in "ab"] == [{"pages": 1}, None]
        drawn.put("c", {"pages": 3})
    with DrawnPages(folder) as drawn:
        assert [drawn.get(key) for key in "abc"] == [{"pages": 1}, None, {"pages": 3}], "the next line is a line"


def test_a_picture_that_is_gone_or_cut_counts_as_never_drawn(tmp_path: Path) -> None:
    folder = DistilledFolder(tmp_path)
    with DrawnPages(folder) as drawn:
        paths = [drawn.path_of(drawn.put(str(grey), picture(grey))) for grey in (1, 2)]
        paths[0].unlink()
        paths[1].write_bytes(paths[1].read_bytes()[:-1])
        assert drawn.get("1") is drawn.get("2") is None
        drawn.put("2", picture(2))
        assert drawn.get("2"), "it is written again"
