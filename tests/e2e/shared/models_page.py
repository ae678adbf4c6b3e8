"""The page Models as tests use it: where it is, what a person does there, and what the person sees."""

import re
from base64 import b64encode

from playwright.sync_api import expect

from windtunnel.data.datasets import KNOWN, find

ALONE = "/windtunnel/models/"
MODEL = "lenet5-pytorch"
MNIST = find(KNOWN["mnist"]) is not None  # otherwise the champions know clothes, and no answer to a digit is right
SOME_LABEL = re.compile(r"^\d$" if MNIST else "|".join(f"^{name}$" for name in KNOWN["fashion_mnist"].classes))
SEVEN_IS = "7" if MNIST else SOME_LABEL

DROP = """files => {
    for (const [name, type, content] of files) {
        const dropped = new DataTransfer();
        dropped.items.add(new File([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))], name, { type }));
        document.querySelector(".workbench").dispatchEvent(new DragEvent("drop", { dataTransfer: dropped, cancelable: true }));
    }
}"""


def show(page, view):
    """Open a view of the page alone, and wait until it shows what it asked for."""
    page.goto("about:blank")  # so that the page is loaded anew
    page.goto(f"{ALONE}#/{view}")
    expect(page.locator(f".view.{view.partition('/')[0]}")).to_be_visible()
    expect(page.get_by_text("Loading…")).to_have_count(0)
    expect(page.get_by_text("Comparing…")).to_have_count(0)


def card(page, name):
    return page.get_by_role("article", name=name, exact=True)


def alias(page, name, word):
    return card(page, name).get_by_role("listitem").filter(has_text=word).first


def answer(page, name):
    return page.locator(f".answer[data-name={name}]")


def verdict(page):
    """What the page says of all answers together."""
    return page.locator(".verdict")


def aliases(platform, name):
    """The versions of a registered model by alias."""
    return {word: known["version"] for known in platform.json("models") if known["name"] == name for word in known["aliases"]}


def draw(page, points):
    """Draw a line with the mouse, as a person does it."""
    box = page.locator("canvas").bounding_box()
    (x, y), *others = [(box["x"] + box["width"] * x / 280, box["y"] + box["height"] * y / 280) for x, y in points]
    page.mouse.move(x, y)
    page.mouse.down()
    for x, y in others:
        page.mouse.move(x, y, steps=10)
    page.mouse.up()


def drop(page, *files):
    """Drop files, each a dictionary as Playwright takes it, one right after the other, as quick hands do it."""
    page.evaluate(DROP, [[file["name"], file["mimeType"], b64encode(file["buffer"]).decode()] for file in files])


def give_reason(page, button, reason):
    """Fill the dialog that asks why, and wait until the run that it starts has ended. Return what the page says of it."""
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Reason")).to_be_focused()
    dialog.get_by_label("Reason").fill(reason)
    dialog.get_by_role("button", name=button, exact=True).click()
    expect(dialog).to_have_count(0)
    told = page.locator(".activity").last
    expect(told).to_contain_text(re.compile("succeeded|failed: "))
    return told.text_content()
