"""The DAG `release`: what a person does with a registered model by hand."""

from airflow.sdk import DAG, Param

from dags.assets import CHAMPIONS, released_by_hand
from dags.operators.runtime import program
from dags.steps import LARGEST, OWNER, RUN, common, docs_url
from dags.texts import described
from serving.release.actions import ACTIONS, PROMOTE, SHORTEST_REASON

DOC = f"""# Promote, roll back, reconcile

Changes by hand which version of a registered model users get. The page **Models** in the navigation triggers it; so can the play button.

| action | what it does |
|---|---|
| `promote` | publishes the version on its server, compares its answers with its trainer's, and makes it the champion, without the gate |
| `roll back` | returns users to the previous version. With its number, a second run changes nothing; without, it undoes the first |
| `reconcile` | makes every server serve what the registry's aliases say |

Who may trigger this DAG may do these; Airflow's permissions decide. For `promote` and `roll back`, the user who triggered the run and the
reason are in the audit log, which the page Models shows. For `reconcile` they are in the log of the task.

Read more: [releases and rollback]({docs_url("releases.md")}), [the page Models]({docs_url("models-page.md")}).
"""

with DAG(
    "release",
    description="Promote a version, return to the previous one, or reconcile the servers with the registry",
    doc_md=DOC,
    schedule=None,
    params={
        "action": Param(
            PROMOTE,
            type="string",
            enum=list(ACTIONS),
            title="Action",
            description="promote: a version becomes the champion. roll back: the previous version does. reconcile: repair the servers.",
        ),
        "model": Param(
            "", type="string", maxLength=256, title="Registered model", description="Such as lenet5-pytorch. Empty for reconcile."
        ),
        "version": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=LARGEST,
            title="Version",
            description="The version to promote, or that a rollback has to lead to; if that is not the previous one, the run fails. "
            "Empty: roll back to the previous one, whichever it is. Empty for reconcile.",
        ),
        "reason": Param(
            type="string",
            minLength=SHORTEST_REASON,
            maxLength=1000,
            title="Reason",
            description=f"Why, for the audit log: {SHORTEST_REASON} characters or more.",
        ),
    },
    **(common(OWNER) | {"tags": ["release"]}),
) as dag:
    # Each flag and its value are one word: a value that begins with `-` is no flag.
    program(
        "serving.release.by_hand",
        "{{ params.action }}",
        *RUN,
        "--run-id={{ run_id }}",
        "--model={{ params.model }}",
        "--version={{ params.version if params.version is not none else '' }}",
        "--who={{ dag_run.triggering_user_name or 'unknown' }}",
        "--why={{ params.reason }}",
        retries=0,
        outlets=[CHAMPIONS],
        post_execute=released_by_hand,
        **described("release"),
    )
