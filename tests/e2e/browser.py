"""A browser, and Airflow's form to log in."""

import shlex
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from tests.waiting import PATIENCE
from windtunnel.platform.secrets import USER, password_file, password_of

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@contextmanager
def chromium(directory):
    """Debian's Chromium, which the networks of containers do not disturb; its program is written into `directory`."""
    assert shutil.which("chromium"), "chromium is missing: install it with `scripts/setup.sh chromium`"
    program = directory / "chromium"
    steady = shlex.join([sys.executable, str(Path(__file__).with_name("steady_chromium.py"))])
    program.write_text(f'#!/bin/sh\nexec {steady} "$@"\n')
    program.chmod(0o755)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, timeout=1000 * PATIENCE, args=FLAGS)
        expect.set_options(timeout=1000 * PATIENCE)
        yield started
        started.close()


def logged_in(context, platform, path="/", user=USER):
    """A page of Airflow at this path, in a context of a browser, after the form to log in."""
    context.set_default_timeout(1000 * PATIENCE)
    page = context.new_page()
    page.goto(path)
    log_in(page, platform, user)
    return page


def log_in(page, platform, user=USER):
    """Fill the form to which Airflow leads somebody who is not logged in."""
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password").fill(password_of(user, password_file(platform.settings).read_text()))
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "/login" not in url)
