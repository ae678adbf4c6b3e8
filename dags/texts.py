"""The names and descriptions of tasks that people read in Airflow. Task ids stay short: the command line and tests use them."""

from typing import Any

TASKS = {
    "frameworks": (
        "Choose frameworks",
        "Reads the frameworks chosen in the trigger form. The tasks of the groups run once for each of them.",
    ),
    "conditions": (
        "Draw conditions",
        "Finds the data set, and writes the run's spec and what all frameworks share, such as initial weights, sample order and "
        "learning rates.",
    ),
    "train": (
        "Train",
        "Runs the trainer, one at a time, so that training times can be compared. Verifies the export in a fresh process, and registers "
        "the version in MLflow, with its lineage. Airflow then signs the version.",
    ),
    "parity": ("Certify parity", "Certifies that the frameworks trained the same model. Fails the run if a number misses its limit."),
    "publish": ("Publish", "Loads the version on its server, while the champion stays loaded. Users do not get it yet."),
    "verify": ("Verify", "Sends the golden set to the version over every protocol of its server. A wrong or late answer ends the release."),
    "measure": (
        "Benchmark",
        "Measures throughput and latency of every verified version, compared with the in-process ceiling, the no-op baseline and the "
        "champion. Nothing else is measured or trained at the same time. Skipped if `benchmark_seconds` is 0.",
    ),
    "gate": (
        "Compare with champion",
        "Compares the version with the champion on the test set. If it is worse by more than `margin`, it stays challenger, and the "
        "remaining tasks are skipped. If it is slower by more than `speed_margin`, the gate warns; with `speed_gate`, it stays "
        "challenger too.",
    ),
    "approve": (
        "Wait for approval",
        "With `approve`: waits until a person has seen the comparison and approves the version. A rejection skips the remaining tasks.",
    ),
    "promote": (
        "Promote",
        "Makes the version the champion: in the registry, on the server, and as an event of the model's Asset, on which other DAGs can "
        "be scheduled. If the server then answers wrong, users get the previous champion back automatically.",
    ),
    "fire_drill": (
        "Fire drill",
        "With `fire_drill`: publishes a deliberately broken version, which must be rejected while the champion keeps answering.",
    ),
    "report": (
        "Report",
        "Writes the result as a table and as a page with plots, which the run's tab *Report* shows, and as the run's note. Runs after a "
        "failure too, and then says what is missing.",
    ),
    "watcher": ("Check the outcome", "Fails the run if one of its tasks failed, because the report after it succeeds."),
    "claim": (
        "Claim suggestions",
        "Claims the waiting suggestions of users and checks them. Rejects those that are too short, silent, contradictory or not "
        "plausible, with the reason.",
    ),
    "baseline": ("Train the tutorial's network", "With `baseline`: trains the network of TensorFlow's tutorial, for comparison."),
    "evaluate": (
        "Evaluate",
        "Compares the champion, the new version and the tutorial's network: accuracy on speakers who are in no training set, and the "
        "share of other words that they reject.",
    ),
    "release": (
        "Release by hand",
        "Promotes a version, returns to the previous one, or reconciles the servers with the registry. The audit log has who promoted "
        "or rolled back and why; the log of this task has it for a reconcile.",
    ),
    "settle": (
        "Settle suggestions",
        "Marks the suggestions as trained, or as rejected together with a worse version. After a failure they wait again.",
    ),
}
"""The displayed name and the description, in Markdown, of each task by its id without its group."""


def described(task: str) -> dict[str, Any]:
    """Return the arguments of an operator that give a task its id, its displayed name and its description."""
    name, description = TASKS[task]
    return {"task_id": task, "task_display_name": name, "doc_md": description}
