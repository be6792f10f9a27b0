"""Makes repositories as people do, with DVC and GTO themselves, which run in an environment of their own.

``make.py repository FOLDER URL``: two commits with models in ``FOLDER/work``, pushed to ``FOLDER/disk``
and shown under ``URL``.
``make.py get FOLDER [PATH@REV|NAME?stage=S|NAME?rev=V|NAME?]…``: what DVC itself finds, into ``FOLDER/got``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from gto import api

from dvc.cli import main as dvc


def run(*words: str) -> None:
    code = dvc(list(words))
    if code:
        raise SystemExit(f"dvc {' '.join(words)} failed with {code}")


def git(*words: str) -> None:
    subprocess.run(["git", *words], check=True, stdout=sys.stderr)


def repository(folder: Path, url: str) -> None:
    """``made`` holds the files of the models."""
    made, work = folder / "made", folder / "work"
    git("init", "--quiet", "--initial-branch=main", str(work))
    os.chdir(work)
    run("init", "--quiet")
    run("config", "core.analytics", "false")
    run("remote", "add", "disk", str(folder / "disk"))
    run("remote", "add", "--default", "web", url)
    Path("models").mkdir()
    Path("src").mkdir()
    Path("src/train.py").write_text("print('training')\n")
    shutil.copy(made / "first.onnx", "models/fraud.onnx")
    shutil.copy(made / "first.onnx", "models/in-git.onnx")
    shutil.copytree(made / "wide", "wide")
    run("add", "--quiet", "models/fraud.onnx", "wide")
    Path("pipeline").mkdir()
    train = f"cp {made}/first.onnx model.onnx"
    run("stage", "add", "--quiet", "--name", "train", "--outs", "model.onnx", "--wdir", "pipeline", train)
    run("repro", "--quiet")
    with Path("dvc.yaml").open("a") as file:
        file.write("artifacts:\n  fraud:\n    path: models/fraud.onnx\n    type: model\n")
    commit("the first models")
    git("tag", "v1")
    api.register(".", "fraud", "HEAD", version="v1.0.0")
    api.assign(".", "fraud", stage="prod", version="v1.0.0")

    git("checkout", "--quiet", "-b", "feature/second")
    shutil.copy(made / "second.onnx", "models/fraud.onnx")
    run("add", "--quiet", "models/fraud.onnx")
    commit("a second model")
    api.register(".", "fraud", "HEAD", version="v1.1.0")
    api.assign(".", "fraud", stage="dev", version="v1.1.0")
    git("checkout", "--quiet", "main")


def commit(message: str) -> None:
    run("push", "--quiet", "--remote", "disk")
    git("add", "--all")
    git("commit", "--quiet", "--message", message)


def get(folder: Path, *asked: str) -> None:
    got, work = folder / "got", str(folder / "work")
    got.mkdir(exist_ok=True)
    for each in asked:
        out = str(got / each.replace("/", "_"))
        path, _, rev = each.partition("@")
        name, artifact, option = each.partition("?")
        if artifact:
            options = [f"--{option.partition('=')[0]}", option.partition("=")[2]] if option else []
            run("artifacts", "get", "--quiet", "--remote", "disk", *options, "--out", out, work, name)
        else:
            run("get", "--quiet", "--remote", "disk", "--rev", rev, "--out", out, work, path)


def main(command: str, folder: str, *words: str) -> None:
    {"repository": repository, "get": get}[command](Path(folder), *words)


if __name__ == "__main__":
    main(*sys.argv[1:])
