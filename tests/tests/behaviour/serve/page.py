"""Opens the page of a server in Chromium and compares what it shows with what the command line printed.

Usage: page.py CHROMIUM ADDRESS PRINTED PICTURE SCREENSHOT

PRINTED is a file with the command line's JSON for the picture. Needs what requirements.txt lists.
"""

import json
import sys
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

chromium, address, printed, picture, screenshot = sys.argv[1:]
expected = json.loads(Path(printed).read_text())[0]["detections"]
ours = f"http://{address}/"
requests, complaints = [], []


def rows(page):
    return page.locator("#rows tr").all_inner_texts()


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    response = page.goto(ours)
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy, policy

    page.set_input_files("#file", picture)
    page.wait_for_selector("#rows tr")
    shown = page.evaluate("visible()")
    wanted = ("label", "name", "score", "box")
    assert [[d[k] for k in wanted] for d in shown] == [[d[k] for k in wanted] for d in expected]
    assert rows(page) == [f"{d['name']}\t{d['score']:.3f}" for d in expected], rows(page)
    # The edge of every box has the colour of its class; labels of other boxes may lie over a part of it.
    for d in expected:
        hits = page.evaluate(
            """({ box, label }) => {
                const probe = document.createElement("canvas").getContext("2d");
                probe.fillStyle = `hsl(${hue(label)} 90% 45%)`;
                probe.fillRect(0, 0, 1, 1);
                const colour = probe.getImageData(0, 0, 1, 1).data;
                let hits = 0;
                for (let step = 1; step < 20; step++) {
                    const y = Math.round(box.y1 + (box.y2 - box.y1) * step / 20);
                    const found = context.getImageData(Math.round(box.x1), y, 1, 1).data;
                    if ([0, 1, 2].every((k) => Math.abs(found[k] - colour[k]) < 40)) hits++;
                }
                return hits;
            }""",
            d,
        )
        assert hits >= 12, (d, hits)
    page.screenshot(path=screenshot, full_page=True)

    # The keyboard alone: a higher threshold leaves fewer rows, an empty box of a class takes its rows away.
    page.focus("#threshold")
    for _ in range(40):
        page.keyboard.press("ArrowRight")
    assert len(rows(page)) == sum(d["score"] >= 0.9 for d in expected), rows(page)
    for _ in range(40):
        page.keyboard.press("ArrowLeft")
    page.focus("#classes input")
    name = page.locator("#classes label").first.inner_text().strip()
    page.keyboard.press("Space")
    assert len(rows(page)) == sum(d["name"] != name for d in expected), rows(page)
    page.keyboard.press("Space")
    assert f"--data-binary '@{Path(picture).name}'" in page.inner_text("#curl")

    report = Axe().run(page)
    serious = [v for v in report.response["violations"] if v["impact"] in ("serious", "critical")]
    assert not serious, json.dumps(serious, indent=1)

    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.screenshot(path=screenshot.replace(".png", "-narrow.png"), full_page=True)

    # A file that is no picture is an error in words.
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"})
    page.wait_for_selector("#status.bad")
    print("status:", page.inner_text("#status"))
    browser.close()

complaints = [text for text in complaints if "400 (Bad Request)" not in text]
assert not complaints, complaints
elsewhere = [url for url in requests if not url.startswith((ours, "blob:", "data:"))]
assert not elsewhere, elsewhere
print(f"{len(expected)} boxes equal, {len(requests)} requests, none elsewhere")
