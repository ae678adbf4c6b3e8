"""# Spoken commands, learned from recordings and from users

Trains the model that the speech server answers with, on recordings and on what users have suggested to it; holds it against the
version users have, on speakers that neither has heard; and releases it if it is no worse. The server triggers this DAG itself when
enough suggestions wait.

| task | what it does |
|---|---|
| `claim` | claims the suggestions that wait, and checks them: what is too short, silent, contradictory, or not believed, by what the \
champion hears and by how often its sender is right, is rejected, with the reason |
| `conditions` | finds the recordings, whose words must be the champion's; takes the champion's weights to start from, or draws new ones |
| `train` | the model: its version goes into MLflow's registry, with its lineage |
| `baseline` | with `baseline`: the network of TensorFlow's tutorial, to compare the model with |
| `evaluate` | before, after and the tutorial's network side by side: what they hear of the test speakers, and what they \
reject of other words |
| `publish`, `verify` | the speech server loads it beside what users get, and must answer what the trainer answered |
| `gate` | a version less accurate than the champion by more than `margin` stays challenger: the rest is skipped |
| `approve` | with `approve`: a person sees the gate's table and answers in Airflow |
| `promote` | users get it: the server switches to it while it answers |
| `fire_drill` | with `fire_drill`: a version broken on purpose must be turned away while the champion goes on answering |
| `settle` | the suggestions are trained with now, or rejected with the version they made worse, or wait again after a failure |
| `report` | what came of the run: the comparison, the suggestions it used, the release |
| `watcher` | fails the run if a step failed |

Trigger it with the play button, `airflow dags trigger speech_commands` or `windtunnel run speech_commands`.
"""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param, TriggerRule, chain

from dags.approval import Approve
from dags.champions import CHAMPIONS, promoted
from dags.runtime import only_if, program
from dags.steps import COMMON, LARGEST, MARGIN, POOL, RUN, step

PARAMS = {
    "dataset": Param(
        "auto",
        type="string",
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
        examples=["auto", "mini_speech_commands", "demonstration", "free_spoken_digits"],
        description="auto: the champion's words; at first mini_speech_commands, else synthetic voices. Or recordings by name.",
    ),
    "suggestions_needed": Param(False, type="boolean", description="Skip the run if no new suggestion passes the checks."),
    "tune": Param(
        True, type="boolean", description="Start from the champion's weights; off, from new ones, as after suggestions were taken back."
    ),
    "epochs": Param(None, type=["null", "integer"], minimum=1, maximum=1000, description="Through the clips; empty: 60, or 10 to tune."),
    "batch_size": Param(64, type="integer", minimum=1, maximum=4096, description="Clips in a step."),
    "seed": Param(
        1, type="integer", minimum=0, maximum=LARGEST, description="Decides new weights, the clips' order and how they are varied."
    ),
    "threads": Param(1, type="integer", minimum=1, maximum=256, description="Of the trainer; more pay on idle cores only."),
    "baseline": Param(True, type="boolean", description="Train the tutorial's network too, to compare with."),
    "margin": MARGIN,
    "approve": Param(False, type="boolean", description="Ask a person before users get the version."),
    "fire_drill": Param(False, type="boolean", description="Afterwards, publish a broken version and see it turned away."),
}
NAME = "pytorch"  # the framework of the one version

with DAG(
    "speech_commands",
    description="Spoken commands for the speech server, trained on recordings and on users' suggestions",
    doc_md=__doc__,
    schedule=None,
    max_active_runs=1,
    params=PARAMS,
    **COMMON,
):
    claim = program(
        *("serving.speech.claim", "claim", *RUN, "--dataset", "{{ params.dataset }}"),
        "{{ '--needed' if params.suggestions_needed else '--no-needed' }}",
        task_id="claim",
    )
    conditions = program(
        "train_server.speech_commands.conditions",
        *RUN,
        *("--dag-id", "{{ dag.dag_id }}", "--run-id", "{{ run_id }}", "--dataset", "{{ params.dataset }}"),
        *("--epochs", "{{ params.epochs or 'auto' }}", "{{ '--tune' if params.tune else '--no-tune' }}"),
        *("--batch-size", "{{ params.batch_size }}", "--seed", "{{ params.seed }}", "--threads", "{{ params.threads }}"),
        task_id="conditions",
    )
    train = program("train_server.train", *RUN, "--framework", NAME, task_id="train", pool=POOL)
    baseline = program("train_server.speech_commands.baseline", *RUN, task_id="baseline", pool=POOL, pre_execute=only_if("baseline"))
    evaluate = program(
        "train_server.speech_commands.evaluate", *RUN, task_id="evaluate", trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
    )
    approve = Approve(run=RUN[1], framework=NAME, task_id="approve")
    promote = step("promote", "--approved-by", approve.output, name=NAME, outlets=[CHAMPIONS], post_execute=promoted)
    fire_drill = step("drill", name=NAME, task_id="fire_drill", pre_execute=only_if("fire_drill"), retries=0)
    settle = program("serving.speech.claim", "settle", *RUN, task_id="settle", trigger_rule=TriggerRule.ALL_DONE)
    report = program("train_server.speech_commands.report", *RUN, task_id="report", retries=0, trigger_rule=TriggerRule.ALL_DONE)
    watcher = EmptyOperator(task_id="watcher", trigger_rule=TriggerRule.NONE_FAILED)

    claim >> conditions >> [train, baseline] >> evaluate
    chain(
        *(evaluate, step("publish", name=NAME), step("verify", name=NAME, retries=0)),
        *(step("gate", "--margin", "{{ params.margin }}", name=NAME), approve, promote, fire_drill, settle, report),
    )
    [claim, conditions, train, baseline, evaluate, promote, fire_drill, settle] >> watcher
