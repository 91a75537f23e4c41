""".github/workflows: GitHub runs them, and here the commands of one run as it would."""

import re

import yaml
from helpers.repository import PROJECT, stages_run

REPORT = yaml.safe_load((PROJECT / ".github/workflows/report.yml").read_text())
SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME")


def test_a_pull_request_is_reported_without_secrets_and_without_a_remote(repository, tmp_path):
    clone = repository.copy(tmp_path / "cvae")
    clone.git("update-ref", "refs/remotes/origin/main", "HEAD")
    clone.set(nll_samples=20)
    clone.git("commit", "--quiet", "--all", "--message", "Fewer samples")
    (step,) = [step for step in REPORT["jobs"]["report"]["steps"] if step.get("name") == "Run the pipeline"]
    assert set(SECRETS) < step["env"].keys()
    variables = dict.fromkeys(step["env"], "") | {"BASE": "origin/main", "GITHUB_STEP_SUMMARY": str(tmp_path / "out")}
    printed = clone.run("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"], **variables)
    assert stages_run(printed.stdout) == ["evaluate", "track"]
    report = (clone.root / "report.md").read_text()
    assert "No DVC remote" in report
    assert "No secret MLFLOW_TRACKING_URI" in report
    assert re.search(r"^\| metrics.test\.json +\| nll +\| [\d.]+ +\| [\d.]+ +\| -?[\d.]+ +\|$", report, re.MULTILINE)
    pictures = re.findall(r"!\[\w+\]\((.+)\)", report)
    assert pictures
    assert all((clone.root / picture).is_file() for picture in pictures)
    assert (clone.root / "dvc_plots/index.html").is_file()
    summary = (tmp_path / "out").read_text()
    assert report.startswith(summary)
    assert "| nll" in summary


def test_no_workflow_gives_a_forks_code_secrets():
    for workflow in (PROJECT / ".github/workflows").glob("*.yml"):
        text = workflow.read_text()
        assert "pull_request_target" not in text
        for script in re.findall(r"^ +(?:- )?run: (?:\|\n((?: {10,}.*\n)+)|(.*))", text, re.MULTILINE):
            assert "${{" not in "".join(script), "a title or a branch may hold commands; pass it as a variable"
