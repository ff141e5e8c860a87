"""Videos played in a headless Chromium, which tells what it found.

A page with the videos is served on the loopback interface. Chromium ends by itself once the page
has loaded, which an image that comes last puts off until the page has told its findings.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import threading
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--mute-audio"),
    "--autoplay-policy=no-user-gesture-required",
)
PATIENCE = 120
"""Seconds to wait for the page, on a machine that is busy with other work."""

PAGE = """<!doctype html>
<title>videos</title>
<body>
<script>
const wanted = VIDEOS;

function heard(video, name) {
  return new Promise((done, failed) => {
    video.addEventListener(name, done, {once: true});
    video.addEventListener("error", () => failed(video.error), {once: true});
    setTimeout(() => failed(new Error(name + " did not come")), 15000);
  });
}

/* The mean colour of what is shown after a seek. */
async function shown(video, time) {
  const seeked = heard(video, "seeked");
  video.currentTime = time;
  await seeked;
  await new Promise(done => setTimeout(done, 100));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0, canvas.width, canvas.height);
  const samples = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const sum = [0, 0, 0];
  samples.forEach((value, index) => { if (index % 4 < 3) sum[index % 4] += value; });
  return sum.map(value => 4 * value / samples.length);
}

async function look(name, times) {
  const video = document.createElement("video");
  video.muted = true;
  document.body.append(video);
  const found = {};
  try {
    const loaded = heard(video, "loadeddata");
    video.src = URL.createObjectURL(await (await fetch(name)).blob());
    await loaded;
    Object.assign(found, {
      width: video.videoWidth, height: video.videoHeight, duration: video.duration, shown: [],
    });
    for (const time of times) found.shown.push(await shown(video, time));
    const seeked = heard(video, "seeked");
    video.currentTime = 0;
    await seeked;
    const ended = heard(video, "ended");
    await video.play();
    await ended;
    found.ended = video.currentTime;
    found.audioBytes = video.webkitAudioDecodedByteCount;
  } catch (error) {
    found.error = String(error && error.message || error);
  }
  video.remove();
  return found;
}

(async () => {
  const found = {};
  for (const [name, times] of Object.entries(wanted)) found[name] = await look(name, times);
  await fetch("found", {method: "POST", body: JSON.stringify(found)});
})();
</script>
<img src="held">
"""


class _Server(ThreadingHTTPServer):
    """Serves a folder, and keeps what the page tells."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        handler = functools.partial(_Handler, directory=os.fspath(folder))
        super().__init__(("127.0.0.1", 0), handler)
        self.told = threading.Event()
        self.found: dict[str, Any] = {}


class _Handler(SimpleHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        if self.path != "/held":
            super().do_GET()
            return
        self.server.told.wait(PATIENCE)
        self.send_error(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        self.server.found = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(HTTPStatus.NO_CONTENT)
        self.end_headers()
        self.server.told.set()

    def log_message(self, *arguments: object) -> None:
        """Nothing: tests are silent."""


def find() -> str | None:
    """The browser that HFSV_CHROMIUM names, or the first on the PATH."""
    named = os.environ.get("HFSV_CHROMIUM")
    found = (shutil.which(name) for name in ([named] if named else NAMES))
    return next((path for path in found if path), None)


def play(browser: str, folder: Path, videos: dict[str, list[float]]) -> dict[str, Any]:
    """What ``browser`` finds of videos in ``folder``, by name.

    Of each, the frames shown at the times given, in seconds, are looked at by seeking: their mean
    RGB is in ``shown``. Then it is played to its end, which comes at ``ended`` seconds. Where that
    fails, ``error`` says why.
    """
    (folder / "index.html").write_text(PAGE.replace("VIDEOS", json.dumps(videos)))
    server = _Server(folder)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/index.html"
        profile = f"--user-data-dir={folder / 'profile'}"
        command = [browser, *FLAGS, profile, "--dump-dom", url]
        subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True)
    finally:
        server.told.set()
        server.shutdown()
        thread.join()
        server.server_close()
    return server.found
