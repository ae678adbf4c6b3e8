"""The DAG `speech_commands`: spoken commands, trained on recordings and on users' suggestions."""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param, TriggerRule, chain

from dags.assets import CHAMPIONS, promoted
from dags.form import NAME as DATASET_NAME
from dags.form import whole_number
from dags.operators.approval import Approve
from dags.operators.runtime import program
from dags.operators.skipping import only_if
from dags.signing import signed
from dags.steps import APPROVE, FIRE_DRILL, MARGIN, NOTED, OWNER, POOL, RUN, TRAINING, WHO, common, docs_url, step
from dags.texts import described
from train_server.speech_commands.model import PYTORCH, SMALLEST_BATCH

DOC = f"""# Spoken commands that learn from their users

Trains the model of the speech server on recordings and on the suggestions of its users, which it checks first.
Compares the new version with the champion on speakers that neither was trained on, and releases it only if it is not worse.
The speech server triggers this DAG automatically when enough suggestions are waiting.

Press *Trigger* to start a run. Its tab *Report* shows the result; a skipped task has the reason in its log and in its XCom `skipped`.

Read more: [spoken commands]({docs_url("spoken-commands.md")}), [suggestions]({docs_url("spoken-commands.md#suggestions")}),
[each task of a run]({docs_url("spoken-commands.md#the-tasks-of-a-run")}), [releases and rollback]({docs_url("releases.md")}).
"""

PARAMS = {
    "dataset": Param(
        "auto",
        title="Recordings",
        type="string",
        pattern=DATASET_NAME,
        examples=["auto", "mini_speech_commands", "demonstration", "free_spoken_digits"],
        section=TRAINING,
        description="Recordings by name. auto: with the champion's words; at first mini_speech_commands, else synthetic voices.",
    ),
    "suggestions_needed": Param(
        False,
        title="Only with new suggestions",
        type="boolean",
        section=TRAINING,
        description="Skip the run if no new suggestion passes the checks.",
    ),
    "tune": Param(
        True,
        title="Start from the champion",
        type="boolean",
        section=TRAINING,
        description="Start from the champion's weights. If off, start from new weights, for example after suggestions were undone.",
    ),
    "epochs": whole_number(
        None, "Epochs", "Passes through the clips, 1 to 1,000. Empty: 10 from the champion's weights, else 60.", most=1000
    ),
    "batch_size": whole_number(64, "Batch size", "Clips per training step, 8 to 4,096.", least=SMALLEST_BATCH, most=4096),
    "seed": whole_number(1, "Seed", "Seed for new weights, the order of the clips and their augmentation.", least=0),
    "threads": whole_number(1, "Threads", "Threads of the trainer, 1 to 256. More help only on idle cores.", most=256),
    "baseline": Param(
        True,
        title="Train the tutorial's network",
        type="boolean",
        section=TRAINING,
        description="Also train the network of TensorFlow's tutorial, for comparison.",
    ),
    "margin": MARGIN,
    "approve": APPROVE,
    "fire_drill": FIRE_DRILL,
}
NAME = PYTORCH.name  # the framework of the one version

with DAG(
    "speech_commands",
    description="Train and release the model of the speech server with recordings and users' suggestions",
    doc_md=DOC,
    schedule=None,
    max_active_runs=1,
    params=PARAMS,
    **common(OWNER, "audio", "suggestions"),
) as dag:
    claim = program(
        *("serving.speech_server.feedback.claims", "claim", *RUN, "--dataset", "{{ params.dataset }}"),
        "{{ '--needed' if params.suggestions_needed else '--no-needed' }}",
        **described("claim"),
    )
    conditions = program(
        "train_server.speech_commands.conditions",
        *RUN,
        *("--dag-id", "{{ dag.dag_id }}", "--run-id", "{{ run_id }}", "--dataset", "{{ params.dataset }}"),
        *("--epochs", "{{ params.epochs or 'auto' }}", "{{ '--tune' if params.tune else '--no-tune' }}"),
        *("--batch-size", "{{ params.batch_size }}", "--seed", "{{ params.seed }}", "--threads", "{{ params.threads }}"),
        **described("conditions"),
    )
    train = program("train_server.train", *RUN, "--framework", NAME, pool=POOL, post_execute=signed, **described("train"))
    baseline = program("train_server.speech_commands.baseline", *RUN, pool=POOL, pre_execute=only_if("baseline"), **described("baseline"))
    evaluate = program(
        "train_server.speech_commands.evaluate", *RUN, trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS, **described("evaluate")
    )
    approve = Approve(run=RUN[1], framework=NAME, **described("approve"))
    promote = step("promote", WHO, "--approved-by", approve.output, name=NAME, outlets=[CHAMPIONS], post_execute=promoted)
    fire_drill = step("drill", name=NAME, task="fire_drill", pre_execute=only_if("fire_drill"), retries=0)
    settle = program("serving.speech_server.feedback.claims", "settle", *RUN, trigger_rule=TriggerRule.ALL_DONE, **described("settle"))
    report = program(
        "train_server.speech_commands.report", *RUN, retries=0, trigger_rule=TriggerRule.ALL_DONE, **NOTED, **described("report")
    )
    watcher = EmptyOperator(trigger_rule=TriggerRule.NONE_FAILED, **described("watcher"))

    claim >> conditions >> [train, baseline] >> evaluate
    chain(
        *(evaluate, step("publish", name=NAME), step("verify", name=NAME, retries=0)),
        *(step("gate", "--margin", "{{ params.margin }}", name=NAME), approve, promote, fire_drill, settle, report),
    )
    [claim, conditions, train, baseline, evaluate, promote, fire_drill, settle] >> watcher
